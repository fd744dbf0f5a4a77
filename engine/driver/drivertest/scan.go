package drivertest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/navvy-run/navvy/engine/driver"
)

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

func sorted(keys []string) []string { return slices.Sorted(slices.Values(keys)) }

func testScan(t *testing.T, h Harness) {
	s := open(t, h)
	a, b, c, d := pair{"a", "1"}, pair{"b", "2"}, pair{"b\x00", "3"}, pair{"c", "4"}
	expectScan(t, s, driver.Range{})
	apply(t, s, puts(c, a, d, b))

	start, end := []byte("b"), []byte("c")
	for _, reverse := range []bool{false, true} {
		order := func(pairs ...pair) []pair {
			if reverse {
				slices.Reverse(pairs)
			}
			return pairs
		}
		first, second := a, b
		if reverse {
			first, second = d, c
		}
		r := func(r driver.Range) driver.Range { r.Reverse = reverse; return r }
		expectScan(t, s, r(driver.Range{}), order(a, b, c, d)...)
		expectScan(t, s, r(driver.Range{Start: start}), order(b, c, d)...)
		expectScan(t, s, r(driver.Range{End: end}), order(a, b, c)...)
		expectScan(t, s, r(driver.Range{Start: start, End: end}), order(b, c)...)
		expectScan(t, s, r(driver.Range{Start: []byte("b\x00")}), order(c, d)...)
		expectScan(t, s, r(driver.Prefix([]byte("b"))), order(b, c)...)
		expectScan(t, s, r(driver.Range{Limit: 1}), first)
		expectScan(t, s, r(driver.Range{Limit: 2}), first, second)
		expectScan(t, s, r(driver.Range{Limit: 9}), order(a, b, c, d)...)
		expectScan(t, s, r(driver.Range{Start: end, End: start}))
		expectScan(t, s, r(driver.Range{Start: start, End: start}))
		expectScan(t, s, r(driver.Range{Start: []byte("x")}))
	}

	// A callback's error comes back; ErrStop, wrapped too, ends the scan in peace.
	boom := errors.New("boom")
	for _, test := range []struct{ give, want error }{
		{boom, boom}, {driver.ErrStop, nil}, {fmt.Errorf("enough: %w", driver.ErrStop), nil},
	} {
		n := 0
		err := s.Scan(t.Context(), driver.Range{}, func(_, _ []byte) error { n++; return test.give })
		if !errors.Is(err, test.want) || n != 1 {
			t.Errorf("callback returned %v: scan %v after %d pairs", test.give, err, n)
		}
	}
}

// testScanStable checks that a scan sees one moment, whatever happens meanwhile,
// even if its own callback does it.
func testScanStable(t *testing.T, h Harness) {
	s := open(t, h)
	const n = 500
	b := new(driver.Batch)
	for i := range n {
		b.Put(fmt.Appendf(nil, "k%03d", i), []byte("old"))
	}
	apply(t, s, b)

	seen := 0
	err := s.Scan(t.Context(), driver.Range{}, func(key, value []byte) error {
		if string(value) != "old" || string(key) != fmt.Sprintf("k%03d", seen) {
			return fmt.Errorf("pair %d is %s = %s", seen, key, value)
		}
		if seen%50 == 0 {
			change := new(driver.Batch)
			change.Put(fmt.Appendf(nil, "k%03d", (seen+1)%n), []byte("new"))
			change.DeleteRange(fmt.Appendf(nil, "k%03d", (seen+2)%n), fmt.Appendf(nil, "k%03d", (seen+9)%n))
			change.Put(fmt.Appendf(nil, "k%03dx", seen), []byte("new"))
			if err := s.Apply(t.Context(), change); err != nil {
				return err
			}
			if got, err := s.Get(t.Context(), fmt.Appendf(nil, "k%03dx", seen)); err != nil || string(got) != "new" {
				return fmt.Errorf("get in a callback: %q, %w", got, err)
			}
			if _, err := scan(t.Context(), s, driver.Range{Limit: 3}); err != nil {
				return err
			}
			if all, err := scan(t.Context(), s, driver.Range{Reverse: true}); err != nil || len(all) < n/2 {
				return fmt.Errorf("scan in a callback: %d pairs, %w", len(all), err)
			}
		}
		seen++
		return nil
	})
	if err != nil || seen != n {
		t.Errorf("scan: %v after %d pairs", err, seen)
	}
	if err := checkTransfers(t.Context(), s, seed(t)); err != nil {
		t.Error(err)
	}
}

// together runs f n times at once and joins the errors.
func together(n int, f func(i int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
