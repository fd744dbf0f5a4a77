package drivertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// checkConditions checks that a batch takes effect only if all its conditions
// hold, and that otherwise the right ones are named.
func checkConditions(ctx context.Context, s driver.Store) error {
	if err := s.Apply(ctx, puts(pair{"a", "1"}, pair{"b", ""}, pair{"c", "3"})); err != nil {
		return err
	}
	for _, test := range []struct {
		name  string
		build func(b *driver.Batch)
		want  []string // the keys that must be named
	}{
		{"absent", func(b *driver.Batch) { b.IfAbsent([]byte("x")) }, nil},
		{"present", func(b *driver.Batch) { b.IfAbsent([]byte("a")) }, []string{"a"}},
		{"present and empty", func(b *driver.Batch) { b.IfAbsent([]byte("b")) }, []string{"b"}},
		{"equal", func(b *driver.Batch) { b.IfEqual([]byte("a"), []byte("1")) }, nil},
		{"equal and empty", func(b *driver.Batch) { b.IfEqual([]byte("b"), nil) }, nil},
		{"another value", func(b *driver.Batch) { b.IfEqual([]byte("a"), []byte("2")) }, []string{"a"}},
		{"a longer value", func(b *driver.Batch) { b.IfEqual([]byte("a"), []byte("1\x00")) }, []string{"a"}},
		{"empty, not absent", func(b *driver.Batch) { b.IfEqual([]byte("x"), nil) }, []string{"x"}},
		{"many", func(b *driver.Batch) {
			b.IfAbsent([]byte("x"))
			b.IfAbsent([]byte("c"))
			b.IfEqual([]byte("a"), []byte("1"))
			b.IfEqual([]byte("y"), []byte("1"))
			b.IfAbsent([]byte("z"))
			b.IfEqual([]byte("b"), []byte("1"))
		}, []string{"b", "c", "y"}},
		{"contradiction", func(b *driver.Batch) {
			b.IfAbsent([]byte("x"))
			b.IfEqual([]byte("x"), nil)
		}, []string{"x"}},
		{"judged before the changes", func(b *driver.Batch) {
			b.DeleteRange([]byte("a"), []byte("b"))
			b.IfEqual([]byte("a"), []byte("1"))
			b.Put([]byte("a"), []byte("1"))
		}, nil},
		{"not by the batch's own puts", func(b *driver.Batch) {
			b.Put([]byte("new"), []byte("1"))
			b.IfEqual([]byte("new"), []byte("1"))
		}, []string{"new"}},
	} {
		b := new(driver.Batch)
		test.build(b)
		b.Put([]byte("mark"), []byte(test.name))
		err := s.Apply(ctx, b)
		if err := conflictNames(err, test.want); err != nil {
			return fmt.Errorf("%s: %w", test.name, err)
		}
		mark, err := s.Get(ctx, []byte("mark"))
		if err != nil && !errors.Is(err, navvy.ErrNotFound) {
			return err
		}
		if took := string(mark) == test.name; took != (test.want == nil) {
			return fmt.Errorf("%s: took effect: %t", test.name, took)
		}
	}
	return nil
}

// conflictNames checks that err is nil if no keys are wanted, else a conflict
// that names just these.
func conflictNames(err error, want []string) error {
	if len(want) == 0 {
		return err
	}
	var conflict *driver.ConflictError
	if !errors.As(err, &conflict) || !errors.Is(err, navvy.ErrConflict) {
		return fmt.Errorf("no conflict on %q, but %s", want, fmt.Sprint(err))
	}
	var got []string
	for _, key := range conflict.Keys {
		got = append(got, string(key))
	}
	slices.Sort(got)
	if got = slices.Compact(got); !slices.Equal(got, want) {
		return fmt.Errorf("conflict names %q, want %q", got, want)
	}
	return nil
}

func testConditions(t *testing.T, h Harness) {
	s := open(t, h)
	ctx := t.Context()
	if err := checkConditions(ctx, s); err != nil {
		t.Error(err)
	}

	// A batch that only asks.
	b := new(driver.Batch)
	b.IfEqual([]byte("c"), []byte("3"))
	apply(t, s, b)
	b.IfAbsent([]byte("c"))
	wantError(t, s.Apply(ctx, b), navvy.ErrConflict)

	// A conflict changes nothing: no put, no deletion, no range.
	before, err := scan(ctx, s, driver.Range{})
	if err != nil {
		t.Fatal(err)
	}
	b = puts(pair{"a", "9"}, pair{"new", "9"})
	b.Delete([]byte("b"))
	b.DeleteRange([]byte("c"), []byte("d"))
	b.IfAbsent([]byte("c"))
	wantError(t, s.Apply(ctx, b), navvy.ErrConflict)
	expectScan(t, s, driver.Range{}, before...)

	// Many results at once, of which some are there: each of those is named.
	b, again := new(driver.Batch), new(driver.Batch)
	var want []string
	for i := range 1000 {
		key := fmt.Sprintf("result/%04d", i)
		if i%3 == 0 {
			b.Put([]byte(key), []byte("first"))
			want = append(want, key)
		}
		again.IfAbsent([]byte(key))
		again.Put([]byte(key), []byte("second"))
	}
	apply(t, s, b)
	if err := conflictNames(s.Apply(ctx, again), want); err != nil {
		t.Error(err)
	}
	expect(t, s, "result/0000", []byte("first"))
	expect(t, s, "result/0001", nil)
}
