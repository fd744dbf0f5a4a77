package drivertest

import (
	"context"
	"errors"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

func testStop(t *testing.T, h Harness) {
	d := h.Open(t)
	a := start(t, d, h, Work{Stdout: ready, Hang: true, OnStop: 7})
	w := a.wait(t.Context())
	a.await(t)
	a.stop(t, false)
	end, err := w.result(t)
	if err != nil {
		t.Fatal(err)
	}
	if d.Capabilities().Signals && !h.ended(&end, navvy.Exit{Code: 7}) {
		t.Errorf("ended as %+v, want the code of its own handler", end)
	}
}

func testStopForce(t *testing.T, h Harness) {
	d := h.Open(t)
	a := start(t, d, h, Work{Stdout: ready, Hang: true, Stubborn: true})
	w := a.wait(t.Context())
	a.await(t)
	a.stop(t, false)
	select {
	case <-w.done:
		t.Error("a stubborn attempt ended without force")
	default:
	}
	a.stop(t, true)
	if end, err := w.result(t); err != nil || !h.ended(&end, navvy.Exit{Signal: 9}) {
		t.Errorf("ended as %+v, %v, want signal 9", end, err)
	}
}

func testStopTwice(t *testing.T, h Harness) {
	d := h.Open(t)
	a := start(t, d, h, Work{Stdout: ready, Hang: true})
	w := a.wait(t.Context())
	a.await(t)
	for range 3 {
		a.stop(t, false)
	}
	for range 3 {
		a.stop(t, true)
	}
	if _, err := w.result(t); err != nil {
		t.Error(err)
	}
	a.stop(t, true)
}

// testStopAtOnce stops attempts while they are starting, before anybody waits for them.
func testStopAtOnce(t *testing.T, h Harness) {
	d := h.Open(t)
	for range 20 {
		a := start(t, d, h, Work{Stdout: ready, Hang: true})
		a.stop(t, true)
		if end := a.end(t); end.Exit.Code == 0 && end.Exit.Signal == 0 && end.Refusal == nil {
			t.Errorf("ended as %+v, as if it had done its work", end)
		}
	}
}

func testStopEnded(t *testing.T, h Harness) {
	d := h.Open(t)
	a := start(t, d, h, Work{})
	a.end(t)
	a.stop(t, false)
	a.stop(t, true)
}

// testStopBlocked stops an attempt whose output nobody takes.
func testStopBlocked(t *testing.T, h Harness) {
	d := h.Open(t)
	a := newAttempt(t, h, Work{Pattern: 4 << 20, Hang: true})
	a.stdout.blocked = make(chan struct{})
	a.start(t, d)
	ctx, cancel := context.WithCancel(t.Context())
	w := a.wait(ctx)
	a.await(t)
	a.stop(t, true)
	cancel()
	if _, err := w.result(t); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	a.stdout.giveUp()
	close(a.stdout.blocked)
}

// testDisconnect breaks the connection under a Wait, which says that the end is
// not known, and finds the attempt again.
func testDisconnect(t *testing.T, h Harness) {
	if h.Disconnect == nil {
		t.Skip("the driver has no connection to lose")
	}
	d := h.Open(t)
	a := start(t, d, h, Work{Stdout: ready, Hang: true, OnStop: 7})
	w := a.wait(t.Context())
	a.await(t)
	heal := h.Disconnect()
	_, err := w.result(t)
	var refusal *driver.Refusal
	if err == nil || errors.As(err, &refusal) {
		t.Errorf("without a connection, wait ended with %v", err)
	}
	heal()
	again := *a
	again.stdout = newSink()
	again.task.Stdout = again.stdout
	again.execution, err = d.Recover(t.Context(), a.execution.Handle(), &again.task)
	if err != nil {
		t.Fatal(err)
	}
	again.stop(t, false)
	if end := again.end(t); end.Exit.Code != 7 || string(again.stdout.bytes()) != ready {
		t.Errorf("ended as %+v with output %q", end, again.stdout.bytes())
	}
}
