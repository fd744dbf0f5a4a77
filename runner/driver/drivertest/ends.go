package drivertest

import (
	"context"
	"errors"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

func testEnds(t *testing.T, h Harness) {
	d := h.Open(t)
	for name, c := range map[string]struct {
		work Work
		want navvy.Exit
	}{
		"success": {},
		"code":    {Work{Exit: 3}, navvy.Exit{Code: 3}},
		"highest": {Work{Exit: 255}, navvy.Exit{Code: 255}},
		"signal":  {Work{Signal: 11}, navvy.Exit{Signal: 11}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := start(t, d, h, c.work)
			if end := a.end(t); !h.ended(&end, c.want) {
				t.Errorf("ended as %+v, want %+v", end, c.want)
			}
		})
	}
}

func testRefusals(t *testing.T, h Harness) {
	d := h.Open(t)
	for _, reason := range []navvy.Reason{navvy.ReasonNotFound, navvy.ReasonPermission, navvy.ReasonInput, navvy.ReasonStart} {
		t.Run(string(reason), func(t *testing.T) {
			t.Parallel()
			a := newAttempt(t, h, Work{Refuse: reason})
			execution, err := d.Start(t.Context(), &a.task)
			var refusal *driver.Refusal
			if err == nil {
				if !d.Capabilities().Asynchronous {
					t.Error("a synchronous driver did not refuse at once")
				}
				a.execution = execution
				refusal = a.end(t).Refusal
			} else if !errors.As(err, &refusal) {
				t.Fatalf("%v is not a refusal", err)
			}
			if refusal == nil || refusal.Reason != reason || refusal.Message == "" {
				t.Errorf("refused with %+v, want reason %s and a message", refusal, reason)
			}
		})
	}
}

func testUsage(t *testing.T, h Harness) {
	d := h.Open(t)
	if !d.Capabilities().Usage {
		t.Skip("the driver measures nothing")
	}
	a := start(t, d, h, Work{Pattern: 10 << 20})
	if u := a.end(t).Usage; u.CPU() <= 0 || u.CPU() > Patience {
		t.Errorf("used %+v", u)
	}
}

func testWaitContext(t *testing.T, h Harness) {
	d := h.Open(t)
	a := start(t, d, h, Work{Stdout: ready, Hang: true})
	ctx, cancel := context.WithCancel(t.Context())
	w := a.wait(ctx)
	a.await(t)
	cancel()
	if _, err := w.result(t); !errors.Is(err, context.Canceled) {
		t.Errorf("wait ended with %v, want the error of its context", err)
	}
}

func testStartContext(t *testing.T, h Harness) {
	d := h.Open(t)
	a := newAttempt(t, h, Work{Stdout: ready, Exit: h.fails(3)})
	ctx, cancel := context.WithCancel(t.Context())
	execution, err := d.Start(ctx, &a.task)
	cancel()
	if err != nil {
		t.Fatal(err)
	}
	a.execution = execution
	if end := a.end(t); !h.ended(&end, navvy.Exit{Code: h.fails(3)}) {
		t.Errorf("ended as %+v: the context of Start must not end the attempt", end)
	}
}
