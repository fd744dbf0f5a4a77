package server_test

import (
	"slices"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/server/auth"
)

// A worker is told of which tasks nobody wants an answer any more: those that are answered, though
// their jobs go on, or whose jobs are stopped; and which are not known here, as they were removed,
// or are another server's.
func TestFates(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	background(t, w.mgr.Run)
	ann := w.as(t, "ann", auth.RoleUser)
	workers := client.NewWorkers(w.conn(t, "w", auth.RoleWorker))
	session, err := workers.Work(t.Context(), client.WorkerInfo{Name: "w", Kinds: []string{"noop"}, Slots: 2})
	if err != nil {
		t.Fatal(err)
	}
	open := navvy.TaskID{Job: submitTwo(t, ann)}
	answered := navvy.TaskID{Job: open.Job, Index: 1}
	stopped, removed := navvy.TaskID{Job: submit(t, ann, navvy.Job{})}, navvy.TaskID{Job: submit(t, ann, navvy.Job{})}
	for _, task := range []navvy.TaskID{stopped, removed} {
		if _, err := ann.Stop(t.Context(), task.Job, "enough"); err != nil {
			t.Fatal(err)
		}
	}
	if err := ann.Remove(t.Context(), removed.Job, false); err != nil {
		t.Fatal(err)
	}
	ask := func(want client.Fate, tasks ...navvy.TaskID) {
		t.Helper()
		got, err := workers.Fates(t.Context(), tasks)
		if err != nil || slices.ContainsFunc(got, func(f client.Fate) bool { return f != want }) || len(got) != len(tasks) {
			t.Errorf("%v are %v, %v; want %v each", tasks, got, err, want)
		}
	}
	ask(client.FateOpen, open, answered)
	ask(client.FateClosed, stopped)
	ask(client.FateUnknown, removed, navvy.TaskID{Job: navvy.NewJobID()}, navvy.TaskID{Job: open.Job, Index: 2}, navvy.TaskID{Job: open.Job, Index: -1}, navvy.TaskID{})
	answer(t, ann, session, answered)
	ask(client.FateOpen, open)
	ask(client.FateClosed, answered, stopped)
	mixed, err := workers.Fates(t.Context(), []navvy.TaskID{removed, open, answered})
	if want := []client.Fate{client.FateUnknown, client.FateOpen, client.FateClosed}; err != nil || !slices.Equal(mixed, want) {
		t.Errorf("they are %v, %v; want %v", mixed, err, want)
	}
	many, err := workers.Fates(t.Context(), make([]navvy.TaskID, 12_345))
	if err != nil || len(many) != 12_345 || many[12_344] != client.FateUnknown {
		t.Errorf("of many: %d, %v", len(many), err)
	}
}

// submitTwo makes a job of two tasks.
func submitTwo(t *testing.T, c *client.Client) navvy.JobID {
	t.Helper()
	sub, err := c.Submit(t.Context(), navvy.Job{Detached: true, Spec: navvy.Spec{Noop: &navvy.Noop{}}}, client.SubmitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	if err := sub.Send([][]byte{[]byte("a"), []byte("b")}); err != nil {
		t.Fatal(err)
	}
	if err := sub.Seal(); err != nil {
		t.Fatal(err)
	}
	id, _, err := sub.Accepted(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// answer has a worker take tasks until it has one, which it answers.
func answer(t *testing.T, c *client.Client, session *client.Session, task navvy.TaskID) {
	t.Helper()
	if err := session.Report(nil, 2); err != nil {
		t.Fatal(err)
	}
	for reported := false; !reported; {
		orders, err := session.Next()
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range orders.Assignments {
			if a.Task != task {
				continue
			}
			reported = true
			ended := navvy.Attempt{ID: a.Attempt, Outcome: navvy.OutcomeSucceeded}
			if err := session.Report([]client.Report{{Task: task, Attempt: ended}}, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	for st, err := range c.Watch(t.Context(), task.Job, true) {
		if err != nil {
			t.Fatal(err)
		}
		if st.Counts.Succeeded > 0 {
			return
		}
	}
}
