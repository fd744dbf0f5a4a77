package server_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/server/auth"
)

// leased is a session with a worker that tells what attempts wait for, or does not, and the
// one attempt that it was given.
func leased(t *testing.T, w *world, ann *client.Client, explains bool) (*client.Session, client.AttemptRef) {
	t.Helper()
	session, err := client.NewWorkers(w.conn(t, "w", auth.RoleWorker)).Work(t.Context(), client.WorkerInfo{
		Name: "w", Kinds: []string{navvy.KindNoop}, Slots: 1, Abilities: []navvy.KindAbilities{{Kind: navvy.KindNoop, Explains: explains}},
	})
	if err != nil {
		t.Fatal(err)
	}
	submit(t, ann, navvy.Job{})
	orders, err := session.Next()
	if err != nil || len(orders.Assignments) != 1 {
		t.Fatalf("assigned %d, %v", len(orders.Assignments), err)
	}
	return session, orders.Assignments[0].AttemptRef
}

// Whoever asks why a task does not run yet is told by the worker that has it.
func TestExplain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ann := w.as(t, "ann", auth.RoleUser)
	session, ref := leased(t, w, ann, true)
	asked := make(chan error, 1)
	go func() {
		orders, err := session.Next()
		if err == nil && (len(orders.Explain) != 1 || orders.Explain[0] != ref) {
			err = errors.New("something else is ordered")
		}
		asked <- errors.Join(err, session.Explain(map[client.AttemptRef]string{
			ref: "no node has room", {Task: ref.Task}: "of an attempt that there is not",
		}))
	}()
	task, err := ann.Task(t.Context(), ref.Task)
	if err != nil || task.Running == nil || task.State != navvy.Running || task.Waiting != "no node has room" {
		t.Errorf("it runs as %+v and waits for %q, %v", task.Running, task.Waiting, err)
	}
	if err := <-asked; err != nil {
		t.Fatal(err)
	}
}

// A worker of a kind, or a version, that tells nothing is not asked, and one that does not
// answer is not waited for for long.
func TestExplainsNothing(t *testing.T) {
	t.Parallel()
	for _, explains := range []bool{true, false} {
		w := newWorld(t, auth.Ed25519, false)
		ann := w.as(t, "ann", auth.RoleUser)
		_, ref := leased(t, w, ann, explains)
		task, err := ann.Task(t.Context(), ref.Task)
		if err != nil || task.Running == nil || task.Waiting != "" {
			t.Errorf("it runs as %+v and waits for %q, %v", task.Running, task.Waiting, err)
		}
	}
}

// Who waits for a job of containers that does not get on is told why, and when that is over.
func TestLookOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ann := w.as(t, "ann", auth.RoleUser)
	session, err := client.NewWorkers(w.conn(t, "w", auth.RoleWorker)).Work(t.Context(), client.WorkerInfo{
		Name: "w", Kinds: []string{navvy.KindContainer}, Slots: 1, Abilities: []navvy.KindAbilities{{Kind: navvy.KindContainer, Explains: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	id, err := trySubmit(t.Context(), ann, navvy.Job{Detached: true, Spec: navvy.Spec{Container: &navvy.Container{Image: "busybox"}}})
	if err != nil {
		t.Fatal(err)
	}
	orders, err := session.Next()
	if err != nil || len(orders.Assignments) != 1 {
		t.Fatalf("assigned %d, %v", len(orders.Assignments), err)
	}
	told := make(chan error, 1)
	go func() {
		for _, why := range []string{"no node has room", ""} {
			orders, err := session.Next()
			if err == nil && len(orders.Explain) != 1 {
				err = errors.New("something else is ordered")
			}
			if err == nil {
				err = session.Explain(map[client.AttemptRef]string{orders.Explain[0]: why})
			}
			if err != nil {
				told <- err
				return
			}
		}
		told <- nil
	}()
	var waits []string
	for st, err := range ann.Watch(t.Context(), id, false) {
		if err != nil {
			t.Fatal(err)
		}
		if waits = append(waits, st.Waiting); len(waits) == 2 {
			break
		}
	}
	if want := []string{"no node has room", ""}; !slices.Equal(waits, want) {
		t.Errorf("it is told %q", waits)
	}
	if err := <-told; err != nil {
		t.Fatal(err)
	}
}
