package holder

import (
	"errors"
	"iter"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
)

func testHold(t *testing.T, c *client.Client) {
	id, sub := attach(t, c, navvy.Job{Parallelism: 1, Spec: shell("exec sleep 100")}, "a", "b")
	awaitStatus(t, c, id, func(st *navvy.Status) bool { return st.Counts.Running == 1 })
	if err := c.Hold(t.Context(), id, "for \xff a while", true); err != nil {
		t.Fatal(err)
	}
	if st := last(t, sub.Progress(t.Context())); !st.Held || st.Counts.Queued != 2 || st.Why != "for \uFFFD a while" {
		t.Errorf("%+v", st)
	}
	task, err := c.Task(t.Context(), navvy.TaskID{Job: id})
	if err != nil || len(task.Attempts) != 1 || task.Attempts[0].Outcome != navvy.OutcomeInterrupted || !strings.HasPrefix(task.Waiting, "the job is held: for") {
		t.Errorf("%+v, %v", task, err)
	}
	// Freed by a client that does not stay, it runs on.
	if st := last(t, c.Resume(t.Context(), id, client.ResumeOptions{Parallelism: 2})); st.Held {
		t.Errorf("%+v", st)
	}
	awaitStatus(t, c, id, func(st *navvy.Status) bool { return st.Counts.Running == 2 })
	if _, err := c.Stop(t.Context(), id, "enough"); err != nil {
		t.Fatal(err)
	}
	if st, err := c.Wait(t.Context(), id); err != nil || st.Counts.Stopped != 2 {
		t.Errorf("%+v, %v", st, err)
	}
}

// A job whose last client leaves is held, and not before.
func testLeave(t *testing.T, c *client.Client) {
	id, sub := attach(t, c, navvy.Job{Spec: shell("exec sleep 100")}, "a")
	awaitStatus(t, c, id, func(st *navvy.Status) bool { return st.Counts.Running == 1 })
	next, stop := iter.Pull2(c.Resume(t.Context(), id, client.ResumeOptions{Attach: true}))
	defer stop()
	if _, err, ok := next(); err != nil || !ok {
		t.Fatalf("%v, %v", ok, err)
	}
	sub.Close()
	if job, err := c.Get(t.Context(), id); err != nil || job.Status.Held {
		t.Errorf("somebody is still attached: %+v, %v", job.Status, err)
	}
	stop()
	awaitStatus(t, c, id, func(st *navvy.Status) bool { return st.Held })
	if _, err := c.Stop(t.Context(), id, ""); err != nil {
		t.Error(err)
	}
}

func testStop(t *testing.T, c *client.Client) {
	id, sub := attach(t, c, navvy.Job{Parallelism: 1, Spec: shell(`test $1 = a || exec sleep 100`)}, "a", "b", "c")
	awaitStatus(t, c, id, func(st *navvy.Status) bool { return st.Counts.Succeeded == 1 && st.Counts.Running == 1 })
	st, err := c.Stop(t.Context(), id, "enough")
	if err != nil || st.Counts.Stopped != 2 || st.Why != "enough" {
		t.Errorf("%+v, %v", st, err)
	}
	if st := last(t, sub.Progress(t.Context())); st.State() != navvy.Stopped || st.Counts.Succeeded != 1 {
		t.Errorf("%+v", st)
	}
	if task, err := c.Task(t.Context(), navvy.TaskID{Job: id, Index: 2}); err != nil || task.State != navvy.Stopped {
		t.Errorf("%+v, %v", task, err)
	}
}

// A stop does not wait for inputs that still come, and nor does its client.
func testStopStream(t *testing.T, c *client.Client) {
	sub, err := c.Submit(t.Context(), navvy.Job{Spec: shell("exec sleep 100")}, client.SubmitOptions{Stream: true})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	if err := sub.Send(inputs("a")); err != nil {
		t.Fatal(err)
	}
	id, _, err := sub.Accepted(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Stop(t.Context(), id, "enough"); err != nil {
		t.Fatal(err)
	}
	for _, seq := range []iter.Seq2[navvy.Status, error]{sub.Progress(t.Context()), c.Watch(t.Context(), id, false)} {
		if st := last(t, seq); st.State() != navvy.Stopped || st.Open || st.Why != "enough" {
			t.Errorf("%+v", st)
		}
	}
	if err := sub.Send(inputs("b")); err != nil {
		t.Errorf("what is sent now goes nowhere: %v", err)
	}
}

func testRetry(t *testing.T, c *client.Client) {
	id := submit(t, c, navvy.Job{Spec: shell(`exit $1`)}, "0", "1", "0")
	if _, err := c.Wait(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	for _, r := range []struct {
		o    client.RetryOptions
		want int64
	}{{client.RetryOptions{Failed: true}, 1}, {client.RetryOptions{Indexes: []int64{0, 2, 0}}, 2}, {client.RetryOptions{}, 3}} {
		n, _, err := c.Retry(t.Context(), id, r.o)
		if n != r.want || err != nil {
			t.Errorf("%+v: %d, %v", r.o, n, err)
		}
		if st := last(t, c.Resume(t.Context(), id, client.ResumeOptions{Attach: true})); st.Counts.Answered() != 3 {
			t.Errorf("%+v", st)
		}
	}
	task, err := c.Task(t.Context(), navvy.TaskID{Job: id, Index: 1})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[navvy.AttemptID]bool{task.Result.ID: true}
	for _, a := range task.Attempts {
		if seen[a.ID] {
			t.Errorf("attempt %s came twice", a.ID)
		}
		seen[a.ID] = true
	}
	if len(seen) != 3 || task.Result.Round == 0 || task.Result.Attempts != 1 {
		t.Errorf("%+v", task)
	}
	if n, _, err := c.Retry(t.Context(), id, client.RetryOptions{Indexes: []int64{3}}); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("%d, %v", n, err)
	}
}

func testRemove(t *testing.T, c *client.Client) {
	id, sub := attach(t, c, navvy.Job{Spec: shell("exec sleep 100")}, "a")
	awaitStatus(t, c, id, func(st *navvy.Status) bool { return st.Counts.Running == 1 })
	if err := c.Remove(t.Context(), id, false); !errors.Is(err, navvy.ErrConflict) {
		t.Errorf("it has not ended: %v", err)
	}
	if err := c.Remove(t.Context(), id, true); err != nil {
		t.Error(err)
	}
	if _, err := c.Get(t.Context(), id); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("%v", err)
	}
	for _, err := range sub.Progress(t.Context()) {
		if err != nil && !errors.Is(err, navvy.ErrNotFound) {
			t.Error(err)
		}
	}
}
