package drivertest

import (
	"strconv"
	"sync"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// testMany has many attempts run at the same time, each with its own output and
// code, and ends them when all have begun.
func testMany(t *testing.T, h Harness) {
	d := h.Open(t)
	var all, begun sync.WaitGroup
	begun.Add(h.Many)
	for i := range h.Many {
		work := Work{Stdout: strconv.Itoa(i) + "\n", Hang: true, OnStop: i%3 + 1}
		if _, ok := h.Spec(work); !ok {
			work = Work{}
		}
		a := newAttempt(t, h, work)
		all.Go(func() { runOne(t, d, h, a, work, &begun) })
	}
	all.Wait()
}

// runOne runs one of many attempts: it stops it when all have begun.
func runOne(t *testing.T, d driver.Driver, h Harness, a *attempt, work Work, begun *sync.WaitGroup) {
	execution, err := d.Start(t.Context(), &a.task)
	if err != nil {
		t.Errorf("start: %v", err)
		begun.Done()
		return
	}
	a.execution = execution
	w := a.wait(t.Context())
	if work.Hang {
		select {
		case <-a.stdout.first:
		case <-w.done:
		}
	}
	begun.Done()
	begun.Wait()
	a.stop(t, false)
	<-w.done
	if w.err != nil || string(a.stdout.bytes()) != work.Stdout {
		t.Errorf("ended as %+v, %v with output %q, want %q", w.end, w.err, a.stdout.bytes(), work.Stdout)
	}
	if d.Capabilities().Signals && !h.ended(&w.end, navvy.Exit{Code: work.OnStop}) {
		t.Errorf("ended as %+v, want code %d", w.end, work.OnStop)
	}
}
