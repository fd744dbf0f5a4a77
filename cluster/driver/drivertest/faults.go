package drivertest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster"
	"github.com/navvy-run/navvy/cluster/driver"
)

// faulty is a driver of which one call that changes something fails: before or after it was
// carried out.
type faulty struct {
	driver.Driver
	removals bool // it is one of Remove, else of Put
	after    bool
	fails    func() // called in place of a failure, if it is there

	mu   sync.Mutex
	left int // calls until then
}

// now tells whether it is this call.
func (f *faulty) now(removal bool) bool {
	if removal != f.removals {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left--
	return f.left == -1
}

func (f *faulty) do(removal bool, call func() error) error {
	if !f.now(removal) {
		return call()
	}
	if f.after {
		if err := call(); err != nil {
			return err
		}
	}
	if f.fails != nil {
		f.fails()
	}
	return errInjected
}

func (f *faulty) Put(ctx context.Context, name string, r *driver.Resource) error {
	return f.do(false, func() error { return f.Driver.Put(ctx, name, r) })
}

func (f *faulty) Remove(ctx context.Context, name string, o *driver.Observed) error {
	return f.do(true, func() error { return f.Driver.Remove(ctx, name, o) })
}

// count is how many resources a cluster of one worker has.
func (h *Harness) count(t *testing.T, name string) int {
	t.Helper()
	p, err := h.controller(t).Plan(h.bounded(t), h.Cluster(t, name, 1, "a"))
	if err != nil {
		t.Fatal(err)
	}
	return len(p.Changes)
}

// Whichever resource fails to be made, before or after it was, the next apply goes on from
// there.
func testFailingPuts(t *testing.T, h *Harness) {
	h.eachFault(t, "suite-puts", func(t *testing.T, name string, at int, after bool) {
		want := h.Cluster(t, name, 1, "a")
		h.downAtEnd(t, name)
		_, err := h.over(t, &faulty{Driver: h.open(t), left: at, after: after}).Apply(h.bounded(t), want)
		failed, is := errors.AsType[*cluster.FailedError](err)
		if !is || len(failed.Failed) != 1 || !errors.Is(err, errInjected) {
			t.Fatalf("it failed with %v", err)
		}
		c := h.controller(t)
		p, err := c.Apply(h.bounded(t), want)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(p.Changes); n > len(failed.Failed)+len(failed.Left) {
			t.Errorf("it did %q, where %d had failed and %d were left out", describe(p), len(failed.Failed), len(failed.Left))
		}
		h.wantSame(t, c, want)
	})
}

// Whichever resource fails to be removed, before or after it was, the next destroy removes the
// rest.
func testFailingRemovals(t *testing.T, h *Harness) {
	h.eachFault(t, "suite-removals", func(t *testing.T, name string, at int, after bool) {
		h.up(t, h.controller(t), h.Cluster(t, name, 1, "a"))
		_, err := h.over(t, &faulty{Driver: h.open(t), left: at, after: after, removals: true}).Destroy(h.bounded(t), name)
		if !errors.Is(err, errInjected) {
			t.Fatalf("it failed with %v", err)
		}
		if _, err := h.controller(t).Destroy(h.bounded(t), name); err != nil {
			t.Fatal(err)
		}
		if left := h.Left(t, name); len(left) > 0 {
			t.Errorf("there is left %q", left)
		}
	})
}

// eachFault runs a test for a failure of each of the calls, before and after it was carried out.
func (h *Harness) eachFault(t *testing.T, name string, test func(t *testing.T, name string, at int, after bool)) {
	t.Helper()
	for at := range h.count(t, name) {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d,%t", at, after), func(t *testing.T) {
				if !h.Serial {
					t.Parallel()
				}
				when := map[bool]string{false: "b", true: "a"}[after]
				test(t, fmt.Sprintf("%s-%d%s", name, at, when), at, after)
			})
		}
	}
}

// Who is interrupted leaves something to go on with.
func testInterrupted(t *testing.T, h *Harness) {
	const name = "suite-interrupted"
	h.downAtEnd(t, name)
	want := h.Cluster(t, name, 2, "a")
	ctx, cancel := context.WithCancel(h.bounded(t))
	defer cancel()
	_, err := h.over(t, &faulty{Driver: h.open(t), left: 1, after: true, fails: cancel}).Apply(ctx, want)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("it ended with %v", err)
	}
	c := h.controller(t)
	if p, err := c.Plan(h.bounded(t), want); err != nil || p.Same == 0 {
		t.Errorf("nothing of what was made is there: %q, %v", describe(p), err)
	}
	if _, err := c.Apply(h.bounded(t), want); err != nil {
		t.Fatal(err)
	}
	h.wantSame(t, c, want)
}

// One changes a cluster at a time; another is told who that is.
func testLock(t *testing.T, h *Harness) {
	const name = "suite-lock"
	first, second := h.open(t), h.open(t)
	since := time.Now().Truncate(time.Second)
	lock, err := first.Lock(h.bounded(t), name, driver.Holder{Who: "one@here", What: "apply", Since: since})
	if err != nil {
		t.Fatal(err)
	}
	_, err = second.Lock(h.bounded(t), name, driver.Holder{Who: "other@there", What: "destroy", Since: since})
	held, is := errors.AsType[*driver.HeldError](err)
	if !is || held.Who != "one@here" || held.What != "apply" || !held.Since.Equal(since) || !errors.Is(err, navvy.ErrConflict) {
		t.Fatalf("the second one is told %v", err)
	}
	other, err := second.Lock(h.bounded(t), name+"-2", driver.Holder{Who: "other@there", What: "apply", Since: since})
	if err != nil {
		t.Fatalf("another cluster: %v", err)
	}
	select {
	case <-lock.Lost():
		t.Error("it was lost")
	default:
	}
	for _, l := range []driver.Lock{lock, other} {
		if err := l.Release(h.bounded(t)); err != nil {
			t.Error(err)
		}
	}
	if lock, err = second.Lock(h.bounded(t), name, driver.Holder{Who: "other@there", What: "destroy", Since: since}); err != nil {
		t.Fatal(err)
	}
	if err := lock.Release(h.bounded(t)); err != nil {
		t.Error(err)
	}
	if left := h.Left(t, name); len(left) > 0 {
		t.Errorf("of a lock there is left %q", left)
	}
}

// Two who apply the same file at once make one cluster.
func testSideBySide(t *testing.T, h *Harness) {
	const name = "suite-side"
	h.downAtEnd(t, name)
	want := h.Cluster(t, name, 2, "a")
	errs := make(chan error, 2)
	for range cap(errs) {
		c := h.controller(t)
		go func() {
			_, err := c.Apply(h.bounded(t), want)
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	h.wantSame(t, h.controller(t), want)
}
