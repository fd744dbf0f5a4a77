package drivertest

import (
	"context"
	"errors"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

func testRecover(t *testing.T, h Harness) {
	recoverWith(t, h, func(a *attempt) []byte { return a.execution.Handle() })
}

// testRecoverToken recovers an attempt whose handle was never journaled.
func testRecoverToken(t *testing.T, h Harness) {
	recoverWith(t, h, func(*attempt) []byte { return nil })
}

// recoverWith starts an attempt with one driver and recovers it with another, as
// after the death of the navvy that held the first.
func recoverWith(t *testing.T, h Harness, handle func(*attempt) []byte) {
	t.Helper()
	first, second := h.Open(t), h.Open(t)
	if !first.Capabilities().Remains {
		t.Skip("nothing ever remains")
	}
	a := start(t, first, h, Work{Stdout: ready, Hang: true, OnStop: 7})
	waiting, die := context.WithCancel(t.Context())
	defer die()
	orphan := a.wait(waiting)
	a.await(t)
	if first.Capabilities().Adopts {
		die() // the navvy that waited for it
		_, _ = orphan.result(t)
	}
	adopted := *a
	adopted.stdout = newSink()
	adopted.task.Stdout = adopted.stdout
	execution, err := second.Recover(t.Context(), handle(a), &adopted.task)
	if !second.Capabilities().Adopts {
		if !errors.Is(err, navvy.ErrNotFound) {
			t.Fatalf("recover: %v, want %v", err, navvy.ErrNotFound)
		}
		if end, err := orphan.result(t); err != nil || !h.ended(&end, navvy.Exit{Signal: 9}) {
			t.Errorf("the orphan ended as %+v, %v, want signal 9", end, err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	adopted.execution = execution
	adopted.stop(t, false)
	if end := adopted.end(t); end.Exit.Code != 7 || string(adopted.stdout.bytes()) != ready {
		t.Errorf("the adopted attempt ended as %+v with output %q", end, adopted.stdout.bytes())
	}
}

// testRecoverEnded recovers what has ended. Of kinds that keep it for their successor it ends
// once more, in the same way.
func testRecoverEnded(t *testing.T, h Harness) {
	first, second := h.Open(t), h.Open(t)
	a := start(t, first, h, Work{})
	a.end(t)
	for _, handle := range [][]byte{a.execution.Handle(), nil} {
		again, err := second.Recover(t.Context(), handle, &a.task)
		if err == nil && second.Capabilities().Adopts {
			once := *a
			once.execution = again
			if end := once.end(t); !h.ended(&end, navvy.Exit{}) {
				t.Errorf("recovered with handle %q it ended as %+v", handle, end)
			}
			continue
		}
		if !errors.Is(err, navvy.ErrNotFound) {
			t.Errorf("recover with handle %q: %v, want %v", handle, err, navvy.ErrNotFound)
		}
	}
}

// testRecoverBad hands in what no driver wrote: nothing may be ended because of it.
func testRecoverBad(t *testing.T, h Harness) {
	d := h.Open(t)
	if !d.Capabilities().Remains {
		t.Skip("handles mean nothing to this driver")
	}
	bystander := start(t, d, h, Work{Stdout: ready, Hang: true, OnStop: 7})
	w := bystander.wait(t.Context())
	bystander.await(t)
	own := bystander.execution.Handle()
	for _, handle := range []string{"", "\x00", "0", "999999 from the future", string(own[:len(own)/2])} {
		task := driver.Task{Token: "nobody"}
		if e, err := d.Recover(t.Context(), []byte(handle), &task); err == nil {
			t.Errorf("handle %q recovered %v", handle, e)
		}
	}
	bystander.stop(t, false)
	if end, err := w.result(t); err != nil || d.Capabilities().Signals && !h.ended(&end, navvy.Exit{Code: 7}) {
		t.Errorf("the bystander ended as %+v, %v", end, err)
	}
}
