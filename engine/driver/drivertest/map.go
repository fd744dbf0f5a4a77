package drivertest

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

func testMap(t *testing.T, h Harness) {
	s := open(t, h)
	ctx := t.Context()
	expect(t, s, "a", nil)

	key, value := []byte("a"), []byte("one")
	b := new(driver.Batch)
	b.Put(key, value)
	apply(t, s, b)
	// What was handed in is the caller's again.
	key[0], value[0] = 'x', 'x'
	expect(t, s, "a", []byte("one"))
	expect(t, s, "x", nil)

	// What was handed out is the caller's.
	got, err := s.Get(ctx, []byte("a"))
	if err != nil {
		t.Fatal(err)
	}
	got[0] = 'x'
	expect(t, s, "a", []byte("one"))

	apply(t, s, puts(pair{"a", "two"}))
	expect(t, s, "a", []byte("two"))

	// An empty value is a value.
	apply(t, s, puts(pair{"a", ""}))
	expect(t, s, "a", []byte{})

	b = new(driver.Batch)
	b.Delete([]byte("a"))
	b.Delete([]byte("never there"))
	apply(t, s, b)
	expect(t, s, "a", nil)

	apply(t, s, new(driver.Batch))

	// Keys are bytes: no text, no order but theirs.
	odd := []string{"\x00", "\x00\x00", "\x00\x01", "%", "A", "\\", "_", "a", "a\x00", "a\x00b", "a b", "\x7f", "é", "\xff", "\xff\xfe"}
	b = new(driver.Batch)
	var want []pair
	for _, k := range []int{3, 1, 14, 0, 7, 12, 2, 5, 9, 6, 8, 4, 11, 10, 13} {
		b.Put([]byte(odd[k]), []byte("v"+odd[k]))
	}
	apply(t, s, b)
	all, err := scan(ctx, s, driver.Range{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range sorted(odd) {
		want = append(want, pair{p, "v" + p})
	}
	if err := same(all, want); err != nil {
		t.Error(err)
	}
}

func testBounds(t *testing.T, h Harness) {
	s := open(t, h)
	longest := strings.Repeat("k", driver.MaxKey)
	largest := bytes.Repeat([]byte{0, 'v'}, driver.MaxValue/2)
	apply(t, s, puts(pair{longest, string(largest)}, pair{"k", "short"}))
	expect(t, s, longest, largest)
	expectScan(t, s, driver.Range{Start: []byte("k"), Limit: 1}, pair{"k", "short"})

	// The largest batch.
	b := new(driver.Batch)
	for i := range 15 {
		b.Put([]byte{'l', byte(i)}, largest)
	}
	apply(t, s, b)
	expect(t, s, "l\x0e", largest)

	for name, build := range map[string]func(b *driver.Batch){
		"empty key":       func(b *driver.Batch) { b.Put(nil, []byte("v")) },
		"long key":        func(b *driver.Batch) { b.Put([]byte(longest+"k"), nil) },
		"long deletion":   func(b *driver.Batch) { b.Delete([]byte(longest + "k")) },
		"large value":     func(b *driver.Batch) { b.Put([]byte("k"), append(largest, 0)) },
		"empty condition": func(b *driver.Batch) { b.IfAbsent(nil) },
		"long condition":  func(b *driver.Batch) { b.IfEqual([]byte(longest+"k"), nil) },
		"unknown change":  func(b *driver.Batch) { b.Ops = append(b.Ops, driver.Op{Kind: 77, Key: []byte("k")}) },
		"large batch": func(b *driver.Batch) {
			for i := range 17 {
				b.Put([]byte{'m', byte(i)}, largest)
			}
		},
	} {
		b := puts(pair{"k", "changed"})
		build(b)
		if err := s.Apply(t.Context(), b); err == nil {
			t.Errorf("%s was accepted", name)
		} else {
			wantError(t, err, navvy.ErrInvalid)
		}
	}
	expect(t, s, "k", []byte("short"))
	expect(t, s, "m\x00", nil)
}

func testDescription(t *testing.T, h Harness) {
	s := open(t, h)
	apply(t, s, puts(pair{"a", "one"}))
	info := s.Info()
	if info.Kind == "" || info.Place == "" {
		t.Errorf("store describes itself as %+v", info)
	}
	if info.Free != nil {
		if free, err := info.Free(); !errors.Is(err, navvy.ErrUnsupported) && (err != nil || free == 0) {
			t.Errorf("free space: %d, %v", free, err)
		}
	}
	if info.Check != nil {
		if err := info.Check(t.Context()); err != nil {
			t.Errorf("check of a sound store: %v", err)
		}
	}
}
