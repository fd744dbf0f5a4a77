package engine_test

import (
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/engine"
)

// hang begins at once and ends when it is asked to.
const hang = "trap 'exit 4' TERM; echo begun; sleep 1000000 & wait"

// Whoever is given a task whose container runs takes that over: it runs once, is read from its
// first byte again, and a stop of who had it before leaves it alone.
func TestAdopt(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		d := w.open(t, instance(), engine.Options{})
		first := newTrial(shell(hang)).start(t, d)
		waits := first.wait(t)
		first.await(t, "begun\n")
		second := first.again().start(t, d)
		if first.id() != second.id() {
			t.Fatalf("%s was not adopted: %s", first.id(), second.id())
		}
		if err := first.execution.Stop(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		<-waits.done
		wantRefusal(t, waits.end, waits.err, navvy.ReasonStopped, "another attempt has its container")
		d.Settled(first.task.Token) // nor does this
		waits = second.wait(t)
		second.await(t, "begun\n")
		if err := second.execution.Stop(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		<-waits.done
		if waits.err != nil || waits.end.Refusal != nil || waits.end.Exit.Code != 4 || second.out.text() != "begun\n" {
			t.Errorf("the adopted one ended as %+v, %v with output %q", waits.end, waits.err, second.out.text())
		}
	})
}

// An attempt that comes after one that failed is another container.
func TestNextContainer(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		d := w.open(t, instance(), engine.Options{})
		first, end, err := run(t, d, shell("echo once; exit 1"))
		if err != nil || end.Exit.Code != 1 {
			t.Fatalf("ended as %+v, %v", end, err)
		}
		again := first.again().start(t, d) // its report was lost
		if end, err := again.end(t); err != nil || end.Exit.Code != 1 || again.out.text() != "once\n" || again.id() != first.id() {
			t.Errorf("ended as %+v, %v with output %q", end, err, again.out.text())
		}
		next, round := first.again(), first.again()
		next.task.Failed++
		round.task.Round++
		for _, r := range []*trial{next, round} {
			r.start(t, d)
			if end, err := r.end(t); err != nil || end.Exit.Code != 1 || r.id() == first.id() {
				t.Errorf("ended as %+v, %v in container %s", end, err, r.id())
			}
		}
	})
}

// A container stays until its result is settled.
func TestSettle(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		name := instance()
		d := w.open(t, name, engine.Options{})
		r, end, err := run(t, d, shell("exit 0"))
		if err != nil || end.Exit.Code != 0 {
			t.Fatalf("ended as %+v, %v", end, err)
		}
		if n := len(w.list(t, name)); n != 1 {
			t.Errorf("there are %d containers before it is settled", n)
		}
		d.Settled(r.task.Token)
		d.Settled(r.task.Token)
		until(t, "it is gone", func() bool { return len(w.list(t, name)) == 0 })
	})
}

// What was stopped is of use to nobody.
func TestStoppedGoes(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		name := instance()
		d := w.open(t, name, engine.Options{})
		r := newTrial(shell(hang)).start(t, d)
		waits := r.wait(t)
		r.await(t, "begun")
		if err := r.execution.Stop(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		<-waits.done
		if left := w.list(t, name); waits.err != nil || waits.end.Exit.Code != 4 || len(left) != 0 {
			t.Errorf("ended as %+v, %v, and leaves %v", waits.end, waits.err, left)
		}
	})
}

// A container that runs on while its navvy is dead has its deadline when somebody comes.
func TestDeadline(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		name := instance()
		s := shell("trap 'echo asked; exit 0' TERM; echo begun; sleep 1000000 & wait")
		s.Timeout = 3 * time.Second
		one := w.open(t, name, engine.Options{})
		first := newTrial(s).start(t, one) // who waits for it is gone
		begun := time.Now()
		second := first.again().start(t, w.open(t, name, engine.Options{}))
		end, err := second.end(t)
		wantRefusal(t, end, err, navvy.ReasonTimeout, "longer than 3s")
		if took := time.Since(begun); took < s.Timeout/2 || second.out.text() != "begun\nasked\n" {
			t.Errorf("it ended after %s, having written %q", took, second.out.text())
		}
		if second.id() != first.id() {
			t.Error("it was not adopted")
		}
	})
}

// What nobody asks for is ended by whoever has the directory next, when its time is over, and
// whoever is given the task is told so.
func TestSweep(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		name := instance()
		s := shell("trap '' TERM; sleep 1000000 & wait; wait")
		s.Timeout, s.Grace = time.Second, time.Second
		first := newTrial(s).start(t, w.open(t, name, engine.Options{}))
		endless := newTrial(shell(hang)).start(t, w.open(t, name, engine.Options{}))
		until(t, "its time is over", func() bool {
			w.open(t, name, engine.Options{Sweep: true})
			ended := false
			for end := time.Now().Add(3 * time.Second); !ended && time.Now().Before(end); <-time.After(50 * time.Millisecond) {
				ended = !w.runs(t, first.id())
			}
			return ended
		})
		if !w.runs(t, endless.id()) {
			t.Error("one without a timeout was ended")
		}
		end, err := first.again().start(t, w.open(t, name, engine.Options{})).end(t)
		wantRefusal(t, end, err, navvy.ReasonTimeout, "longer than 1s")
	})
}

// Who removes a container by hand is told from others, and a container of that name that is
// not navvy's is left alone.
func TestOthers(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		name := instance()
		d := w.open(t, name, engine.Options{})
		r := newTrial(shell(hang)).start(t, d)
		waits := r.wait(t)
		r.await(t, "begun")
		w.remove(t, r.id())
		<-waits.done
		// containerd's interface ends what is in a sandbox first: that may be seen before the rest.
		if w.kind == engine.KindDocker || waits.end.Refusal != nil || waits.end.Exit.Signal != 9 {
			wantRefusal(t, waits.end, waits.err, navvy.ReasonDeleted, "somebody else removed")
		}
		w.foreign(t, w.nameOf(t, func() *trial { return r.again().start(t, d) }))
		again := r.again()
		_, err := d.Start(t.Context(), &again.task)
		wantRefusal(t, driver.End{}, err, navvy.ReasonStart, "not for this task")
	})
}

// An engine that dies and comes back, and leaves containers alone, costs time.
func TestEngineKilled(t *testing.T) { // alone
	each(t, func(t *testing.T, w *world) {
		d := w.open(t, instance(), engine.Options{})
		r := newTrial(shell("echo begun; sleep 2; echo more; exit 6")).start(t, d)
		waits := r.wait(t)
		r.await(t, "begun\n")
		w.at(t).Kill(t)
		<-waits.done
		if waits.err != nil || waits.end.Exit.Code != 6 || r.out.text() != "begun\nmore\n" {
			t.Errorf("ended as %+v, %v with output %q", waits.end, waits.err, r.out.text())
		}
		r, end, err := run(t, d, shell("echo again"))
		if err != nil || end.Exit != (navvy.Exit{}) || r.out.text() != "again\n" {
			t.Errorf("after it came back one ended as %+v, %v with output %q", end, err, r.out.text())
		}
	})
}
