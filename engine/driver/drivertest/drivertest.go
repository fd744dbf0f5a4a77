// Package drivertest is the suite that every implementation of driver.Store
// passes: its meaning, its behaviour under concurrency, and what is left of it
// after a crash. The checks that look for lost or torn data are functions that
// return errors, and the package's own tests show that each of them finds a
// store that breaks its rule.
package drivertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// Harness makes the stores that are to be tested.
type Harness struct {
	// New opens a new, empty store. The suite closes it.
	New func(t testing.TB) driver.Store
	// Reopen closes the store, if it is not closed, and opens what it left.
	// Nil if nothing outlives Close.
	Reopen func(t testing.TB, s driver.Store) driver.Store
	// Crash ends a store in use as the death of its process, or a loss of power,
	// at this moment would, and opens what is left. What it leaves to chance
	// follows from the seed. Nil if there is no crash that something survives.
	Crash func(t testing.TB, s driver.Store, seed uint64) driver.Store
	// Crashes is how many stores to crash; NAVVY_CRASHES overrides it. Defaults to 10.
	Crashes int
}

// Run runs the whole suite.
func Run(t *testing.T, h Harness) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, Harness){
		"Map":         testMap,
		"Bounds":      testBounds,
		"Batch":       testBatch,
		"Conditions":  testConditions,
		"Scan":        testScan,
		"ScanStable":  testScanStable,
		"Concurrent":  testConcurrent,
		"Model":       testModel,
		"Logs":        testLogs,
		"LogNames":    testLogNames,
		"DropLogs":    testDropLogs,
		"LogsInUse":   testLogsInUse,
		"Close":       testClose,
		"Cancel":      testCancel,
		"Reopen":      testReopen,
		"Crash":       testCrash,
		"Description": testDescription,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, h)
		})
	}
}

// open opens a new store for one test.
func open(t testing.TB, h Harness) driver.Store {
	t.Helper()
	s := h.New(t)
	closeAfter(t, s)
	return s
}

// closeAfter closes the store when the test has ended, unless it did so itself.
func closeAfter(t testing.TB, s driver.Store) {
	t.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, navvy.ErrClosed) {
			t.Errorf("close: %v", err)
		}
	})
}

// seed is where a test's random choices begin: NAVVY_SEED, else any. A failing
// test tells it.
func seed(t testing.TB) uint64 {
	t.Helper()
	n := rand.Uint64()
	if env := os.Getenv("NAVVY_SEED"); env != "" {
		var err error
		if n, err = strconv.ParseUint(env, 10, 64); err != nil {
			t.Fatalf("NAVVY_SEED: %v", err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("to repeat: NAVVY_SEED=%d", n)
		}
	})
	return n
}

// random returns the choices of one part of a test.
func random(seed, part uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, part)) }

type pair struct{ key, value string }

// puts is a batch that puts the pairs.
func puts(pairs ...pair) *driver.Batch {
	b := new(driver.Batch)
	for _, p := range pairs {
		b.Put([]byte(p.key), []byte(p.value))
	}
	return b
}

// apply applies a batch that must succeed.
func apply(t testing.TB, s driver.Store, b *driver.Batch) {
	t.Helper()
	if err := s.Apply(t.Context(), b); err != nil {
		t.Fatalf("apply: %v", err)
	}
}

// expect compares the value at key; nil means that there must be none.
func expect(t testing.TB, s driver.Store, key string, want []byte) {
	t.Helper()
	got, err := s.Get(t.Context(), []byte(key))
	if want == nil {
		wantError(t, err, navvy.ErrNotFound)
		return
	}
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("get %.40q = %.40q, %v; want %.40q", key, got, err, want)
	}
}

func wantError(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error is %v, want %v", err, want)
	}
}

// scan collects the pairs of a range.
func scan(ctx context.Context, s driver.Store, r driver.Range) ([]pair, error) {
	var pairs []pair
	err := s.Scan(ctx, r, func(key, value []byte) error {
		pairs = append(pairs, pair{string(key), string(value)})
		return nil
	})
	return pairs, err
}

// same compares pairs and says where they begin to differ.
func same(got, want []pair) error {
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			return fmt.Errorf("pair %d is missing: %.60q", i, want[i])
		case i >= len(want):
			return fmt.Errorf("pair %d is too much: %.60q", i, got[i])
		case got[i] != want[i]:
			return fmt.Errorf("pair %d is %.60q, want %.60q", i, got[i], want[i])
		}
	}
	return nil
}

func expectScan(t testing.TB, s driver.Store, r driver.Range, want ...pair) {
	t.Helper()
	got, err := scan(t.Context(), s, r)
	if err == nil {
		err = same(got, want)
	}
	if err != nil {
		t.Errorf("scan %q to %q (reverse %t, limit %d): %v", r.Start, r.End, r.Reverse, r.Limit, err)
	}
}
