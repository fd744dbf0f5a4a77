package engine_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/engine"
)

// left is an attempt as the journal of a navvy has it that died.
func (r *trial) left() *driver.Task {
	return &driver.Task{ID: r.task.ID, Attempt: r.task.Attempt, Token: r.task.Token}
}

// Who looks after what a dead navvy left takes nothing away from the attempt that took it over:
// that can be stopped, and its container goes once it is settled.
func TestLookAtAdopted(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		name := instance()
		first := newTrial(shell(hang)).start(t, w.open(t, name, engine.Options{}))
		d := w.open(t, name, engine.Options{}) // the first navvy was killed
		second := first.again().start(t, d)
		waits := second.wait(t)
		second.await(t, "begun\n")
		for _, handle := range [][]byte{first.execution.Handle(), nil} {
			if _, err := d.Recover(t.Context(), handle, first.left()); !errors.Is(err, navvy.ErrNotFound) {
				t.Errorf("what another attempt has is recovered with handle %q: %v", handle, err)
			}
		}
		if err := second.execution.Stop(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		<-waits.done
		if left := w.list(t, name); waits.err != nil || waits.end.Refusal != nil || waits.end.Exit.Code != 4 || len(left) != 0 {
			t.Errorf("it ended as %+v, %v, and leaves %v", waits.end, waits.err, left)
		}
		third := newTrial(shell("exit 0")).start(t, w.open(t, name, engine.Options{}))
		fourth := third.again().start(t, d)
		if end, err := fourth.end(t); err != nil || end.Exit != (navvy.Exit{}) {
			t.Errorf("it ended as %+v, %v", end, err)
		}
		if _, err := d.Recover(t.Context(), third.execution.Handle(), third.left()); !errors.Is(err, navvy.ErrNotFound) {
			t.Errorf("what has ended is recovered: %v", err)
		}
		d.Settled(fourth.task.Token)
		until(t, "it is gone", func() bool { return len(w.list(t, name)) == 0 })
	})
}

// To look at what nobody has taken over does not make it somebody's.
func TestLookAtLeft(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		name := instance()
		first := newTrial(shell(hang)).start(t, w.open(t, name, engine.Options{}))
		d := w.open(t, name, engine.Options{})
		if _, err := d.Recover(t.Context(), first.execution.Handle(), first.left()); err != nil {
			t.Fatal(err)
		}
		if engine.Held(d, first.id()) {
			t.Error("it is held by nobody who waits for it")
		}
		second := first.again().start(t, d)
		waits := second.wait(t)
		second.await(t, "begun\n")
		if err := second.execution.Stop(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		<-waits.done
		if left := w.list(t, name); waits.err != nil || waits.end.Exit.Signal != 9 || len(left) != 0 {
			t.Errorf("it ended as %+v, %v, and leaves %v", waits.end, waits.err, left)
		}
	})
}

// What runs elsewhere is not known to be gone.
func TestForeignHandle(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		d := w.open(t, instance(), engine.Options{})
		kind := map[string]string{engine.KindDocker: engine.KindContainerd, engine.KindContainerd: engine.KindDocker}[w.kind]
		for _, handle := range []string{"engine/1 " + kind + " " + strings.Repeat("0a", 32), "container/2 a-name 00000000-0000-0000-0000-000000000000 space"} {
			_, err := d.Recover(t.Context(), []byte(handle), newTrial(shell("")).left())
			if !errors.Is(err, navvy.ErrUnavailable) || errors.Is(err, navvy.ErrNotFound) || !strings.Contains(err.Error(), "--engine") {
				t.Errorf("handle %q: %v", handle, err)
			}
		}
	})
}
