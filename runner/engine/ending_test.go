package engine_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/engine"
)

// noted lists the containers of an instance that were asked to end.
func (w *world) noted(t *testing.T, instance string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(w.at(t).Dir, "ending", instance, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// A navvy that is killed after it has asked a container to end leaves one that ends by a
// signal: that is not its task's end, which is run again.
func TestKilledWhileEnding(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		name := instance()
		first := newTrial(shell(hang)).begun(t, w.open(t, name, engine.Options{}))
		if err := first.execution.Stop(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		until(t, "it has ended", func() bool { return !w.runs(t, first.id()) }) // nobody waits for it any more
		d := w.open(t, name, engine.Options{})
		second := first.again().start(t, d)
		if second.id() == first.id() {
			t.Error("what was asked to end was adopted")
		}
		waits := second.wait(t)
		second.await(t, "begun\n")
		if n := len(w.list(t, name)); n != 1 {
			t.Errorf("there are %d containers", n)
		}
		if err := second.execution.Stop(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		<-waits.done
		if list := w.noted(t, name); len(list) != 0 {
			t.Errorf("what is gone is noted: %v", list)
		}
	})
}

// What was asked to end and goes on has its grace, and then goes, when its task is run again.
func TestStubbornWhileEnding(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		name := instance()
		s := shell("trap '' TERM; echo begun; sleep 1000000 & wait; wait")
		s.Grace = 2 * time.Second
		first := newTrial(s).begun(t, w.open(t, name, engine.Options{}))
		asked := time.Now()
		if err := first.execution.Stop(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		d := w.open(t, name, engine.Options{})
		second := first.again().start(t, d)
		if took := time.Since(asked); second.id() == first.id() || took < s.Grace-100*time.Millisecond {
			t.Errorf("after %s it runs in %s, after %s", took, second.id(), first.id())
		}
		waits := second.wait(t)
		if err := second.execution.Stop(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		<-waits.done
	})
}

// A container that was asked to end because its time was over has that as its end, whoever
// reads it.
func TestKilledWhileTimedOut(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		name := instance()
		s := shell(hang)
		s.Timeout = time.Second
		first := newTrial(s).begun(t, w.open(t, name, engine.Options{}))
		begun := time.Now()
		until(t, "its time is over", func() bool { return time.Since(begun) > s.Timeout+time.Second })
		if err := first.execution.Stop(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		until(t, "it has ended", func() bool { return !w.runs(t, first.id()) })
		second := first.again().start(t, w.open(t, name, engine.Options{}))
		end, err := second.end(t)
		wantRefusal(t, end, err, navvy.ReasonTimeout, "longer than 1s")
	})
}

// What was asked to end and is wanted by nobody goes with the next look.
func TestSweepEnding(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		name := instance()
		first := newTrial(shell(hang)).begun(t, w.open(t, name, engine.Options{}))
		if err := first.execution.Stop(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		until(t, "it has ended", func() bool { return !w.runs(t, first.id()) })
		gone := filepath.Join(w.at(t).Dir, "ending", name, "gone")
		if err := os.WriteFile(gone, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		w.open(t, name, engine.Options{Sweep: true})
		until(t, "it is gone", func() bool { return len(w.list(t, name)) == 0 && len(w.noted(t, name)) == 0 })
	})
}
