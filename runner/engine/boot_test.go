package engine_test

import (
	"errors"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/engine"
)

// How containers end with their machine says nothing of their tasks: they are run again, and
// whoever waits for one is told that its end is not known.
func TestRebooted(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		name := instance()
		before := w.open(t, name, engine.Options{})
		first, end, err := run(t, before, shell("echo once; exit 255"))
		if err != nil || end.Exit.Code != 255 {
			t.Fatalf("ended as %+v, %v", end, err)
		}
		d := w.open(t, name, engine.Options{})
		engine.Rebooted(d)
		second := first.again().start(t, d)
		if second.id() == first.id() {
			t.Error("what ended with its machine was adopted")
		}
		if end, err := second.end(t); err != nil || end.Exit.Code != 255 || len(w.list(t, name)) != 1 {
			t.Errorf("ended as %+v, %v, and there are %v", end, err, w.list(t, name))
		}

		other, _, _ := run(t, before, shell("exit 255"))
		execution, err := d.Recover(t.Context(), other.execution.Handle(), &other.task)
		if err != nil {
			t.Fatal(err)
		}
		other.execution = execution
		if end, err := other.end(t); !errors.Is(err, navvy.ErrUnavailable) {
			t.Errorf("recovered it ended as %+v, %v", end, err)
		}
	})
}

// What an engine loses with everything that it runs, as when its machine is switched off, is
// run again.
func TestCrash(t *testing.T) { // alone
	each(t, func(t *testing.T, w *world) {
		name := instance()
		first := newTrial(shell("echo begun; sleep 1000000 & wait")).start(t, w.open(t, name, engine.Options{}))
		w.at(t).Crash(t)
		until(t, "the engine is back", func() bool { return w.answers(t) })
		until(t, "it knows that nothing runs", func() bool { return !w.runs(t, first.id()) })
		d := w.open(t, name, engine.Options{})
		engine.Rebooted(d)
		second := first.again().start(t, d)
		if second.id() == first.id() {
			t.Error("what ended with its engine was adopted")
		}
		waits := second.wait(t)
		second.await(t, "begun\n")
		if err := second.execution.Stop(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		<-waits.done
		if waits.err != nil || len(w.list(t, name)) != 0 {
			t.Errorf("ended as %+v, %v, and there are %v", waits.end, waits.err, w.list(t, name))
		}
	})
}
