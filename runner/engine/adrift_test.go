package engine_test

import (
	"slices"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/engine"
)

// stubborn begins at once and does not end when it is asked to.
const stubborn = "trap '' TERM; echo begun; sleep 1000000 & wait; wait"

// sees tells whether a driver sees an attempt adrift.
func sees(d *engine.Driver, r *trial) bool {
	return slices.Contains(d.Adrift(), driver.Adrift{Task: r.task.ID, Token: r.task.Token})
}

// kill ends an attempt by force.
func (r *trial) kill(t *testing.T) {
	t.Helper()
	if err := r.execution.Stop(t.Context(), true); err != nil {
		t.Error(err)
	}
}

// sweep ends what an attempt has left.
func sweep(t *testing.T, d *engine.Driver, token string) {
	t.Helper()
	if err := d.Sweep(t.Context(), token); err != nil {
		t.Fatal(err)
	}
}

// What an earlier navvy has left is seen, and ended when nobody wants it any more, whether it runs,
// does not hear, or has ended; not what another attempt has meanwhile, nor what is unknown.
func TestAdrift(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		name := instance()
		dead := w.open(t, name, engine.Options{})
		hard := shell(stubborn)
		hard.Grace = time.Second
		runs, deaf, taken := newTrial(shell(hang)).begun(t, dead), newTrial(hard).begun(t, dead), newTrial(shell(hang)).begun(t, dead)
		over, _, err := run(t, dead, shell("exit 3"))
		if err != nil {
			t.Fatal(err)
		}
		other := newTrial(shell(hang)).begun(t, w.open(t, instance(), engine.Options{}))
		if list := dead.Adrift(); len(list) != 0 {
			t.Errorf("what it runs itself is adrift: %v", list)
		}

		d := w.open(t, name, engine.Options{Sweep: true})
		next := taken.again().start(t, d)
		waits := next.wait(t)
		next.await(t, "begun\n")
		until(t, "what is left is seen", func() bool { return sees(d, runs) && sees(d, deaf) && sees(d, over) })
		if sees(d, taken) || sees(d, other) {
			t.Errorf("adrift are %v, with what another attempt has, or another navvy", d.Adrift())
		}
		for _, r := range []*trial{runs, deaf, over, taken, other} {
			sweep(t, d, r.task.Token)
		}
		until(t, "what is left is gone", func() bool { return len(w.list(t, name)) == 1 && len(w.noted(t, name)) == 0 })
		if list := d.Adrift(); len(list) != 0 || !w.runs(t, next.id()) || !w.runs(t, other.id()) {
			t.Errorf("adrift are %v; those of others run: %t, %t", list, w.runs(t, next.id()), w.runs(t, other.id()))
		}
		next.kill(t)
		other.kill(t)
		<-waits.done
		if waits.err != nil || waits.end.Exit.Signal != 9 {
			t.Errorf("the other attempt ended as %+v, %v", waits.end, waits.err)
		}
	})
}

// A container that nobody wants is asked to end, as the journal of a dead navvy names it: it ends,
// by force if it does not hear, before whoever has asked leaves, and nothing of it stays.
func TestSweepJournaled(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		name := instance()
		hard := shell(stubborn)
		hard.Grace = time.Second
		first := newTrial(hard).begun(t, w.open(t, name, engine.Options{}))
		d, err := engine.Open(t.Context(), w.options(t, name, engine.Options{}))
		if err != nil {
			t.Fatal(err)
		}
		execution, err := d.Recover(t.Context(), first.execution.Handle(), first.left())
		if err == nil {
			err = execution.Stop(t.Context(), false)
		}
		if err != nil {
			t.Error(err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if list := w.list(t, name); len(list) != 0 || len(w.noted(t, name)) != 0 {
			t.Errorf("there are %v, noted %v", list, w.noted(t, name))
		}
	})
}

// What is seen off is not its task's any more, unless an attempt takes it over before: then that
// has it, and its end is its own.
func TestSweepAdopted(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		name := instance()
		hard := shell(stubborn)
		hard.Grace = 2 * time.Second
		first := newTrial(hard).begun(t, w.open(t, name, engine.Options{}))
		d := w.open(t, name, engine.Options{Sweep: true})
		until(t, "it is seen", func() bool { return sees(d, first) })
		sweep(t, d, first.task.Token)
		second := first.again().start(t, d) // somebody wants an answer after all
		if second.id() == first.id() {
			t.Error("what was asked to end was adopted")
		}
		waits := second.wait(t)
		second.await(t, "begun\n")
		until(t, "the first is gone", func() bool { return len(w.list(t, name)) == 1 })
		if err := second.execution.Stop(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		<-waits.done
		if waits.err != nil || waits.end.Exit != (navvy.Exit{Signal: 9}) {
			t.Errorf("it ended as %+v, %v", waits.end, waits.err)
		}
	})
}
