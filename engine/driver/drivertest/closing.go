package drivertest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

func testClose(t *testing.T, h Harness) {
	s := open(t, h)
	apply(t, s, puts(pair{"a", "1"}))
	w := createLog(t, s, "log")
	must(t, w.Append([]byte("x")), w.Sync())
	r := openLog(t, s, "log")

	// Calls that are under way end; those that come later are refused.
	var closing atomic.Bool
	begun := make(chan struct{}, 8)
	err := together(8, func(i int) error {
		if i == 0 {
			for range 7 {
				<-begun
			}
			closing.Store(true)
			return s.Close()
		}
		for n := 0; ; n++ {
			late := closing.Load()
			err := s.Apply(t.Context(), puts(pair{fmt.Sprintf("k%d", i), fmt.Sprint(n)}))
			if err == nil {
				_, err = scan(t.Context(), s, driver.Range{})
			}
			if n == 0 {
				begun <- struct{}{}
			}
			if errors.Is(err, navvy.ErrClosed) {
				return nil
			}
			if err != nil && !late && !closing.Load() {
				return err
			}
			if err != nil && !errors.Is(err, navvy.ErrUnavailable) {
				return err
			}
		}
	})
	if err != nil {
		t.Error(err)
	}

	ctx := t.Context()
	wantError(t, s.Apply(ctx, puts(pair{"a", "2"})), navvy.ErrClosed)
	_, err = s.Get(ctx, []byte("a"))
	wantError(t, err, navvy.ErrClosed)
	wantError(t, s.Scan(ctx, driver.Range{}, func(_, _ []byte) error { return nil }), navvy.ErrClosed)
	_, err = s.CreateLog(ctx, "new")
	wantError(t, err, navvy.ErrClosed)
	_, err = s.OpenLog(ctx, "log")
	wantError(t, err, navvy.ErrClosed)
	wantError(t, s.DropLogs(ctx, "log"), navvy.ErrClosed)
	wantError(t, w.Append([]byte("y")), navvy.ErrClosed)
	wantError(t, w.Sync(), navvy.ErrClosed)
	_, err = r.ReadAt(make([]byte, 1), 0)
	wantError(t, err, navvy.ErrClosed)
	_, _ = w.Close(), r.Close()
	wantError(t, s.Close(), navvy.ErrClosed)
	if info := s.Info(); info.Kind == "" {
		t.Error("a closed store no longer describes itself")
	}
}

// testCancel calls with a context that is done.
func testCancel(t *testing.T, h Harness) {
	s := open(t, h)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, err := range map[string]error{
		"apply": s.Apply(ctx, puts(pair{"a", "1"})),
		"get":   second(s.Get(ctx, []byte("a"))),
		"scan":  s.Scan(ctx, driver.Range{}, func(_, _ []byte) error { return nil }),
		"log":   second(s.CreateLog(ctx, "log")),
		"drop":  s.DropLogs(ctx, "log"),
	} {
		if !errors.Is(err, navvy.ErrUnavailable) || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}

	// In the middle of a scan.
	apply(t, s, puts(pair{"a", "1"}, pair{"b", "2"}, pair{"c", "3"}))
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	n := 0
	err := s.Scan(ctx, driver.Range{}, func(_, _ []byte) error {
		n++
		cancel()
		return nil
	})
	if n == 3 && err == nil {
		t.Error("a cancelled scan went on to its end")
	}
	// The store is as good as before.
	apply(t, s, puts(pair{"d", "4"}))
	expect(t, s, "a", []byte("1"))
}

func second[T any](_ T, err error) error { return err }

// testReopen closes and opens: everything is there.
func testReopen(t *testing.T, h Harness) {
	if h.Reopen == nil {
		t.Skip("nothing outlives Close")
	}
	s := open(t, h)
	var want []pair
	for round := range 3 {
		for i := range 50 {
			p := pair{fmt.Sprintf("k%d/%02d", round, i), fmt.Sprint(round)}
			apply(t, s, puts(p))
			want = append(want, p)
		}
		name := fmt.Sprintf("logs/%d/x", round)
		w := createLog(t, s, name)
		must(t, w.Append([]byte(name)), w.Sync(), w.Close())

		s = h.Reopen(t, s)
		closeAfter(t, s)
		expectScan(t, s, driver.Range{}, want...)
		for i := range round + 1 {
			name := fmt.Sprintf("logs/%d/x", i)
			r := openLog(t, s, name)
			if got := readLog(t, r, 100); got != name {
				t.Errorf("log %s holds %q", name, got)
			}
			must(t, r.Close())
		}
	}
}
