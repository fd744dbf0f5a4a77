package server_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/server/auth"
)

// makes has an attempt make a file.
func (l *leasing) makes(t *testing.T, by *client.Workers, key, text string) {
	t.Helper()
	if err := by.PutFile(t.Context(), l.ref, key, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
}

// ends reports the end of the attempt, and waits until it is settled.
func (l *leasing) ends(t *testing.T, outcome navvy.Outcome) {
	t.Helper()
	a := navvy.Attempt{ID: l.ref.Attempt, Outcome: outcome}
	if outcome != navvy.OutcomeSucceeded {
		a.Reason = navvy.ReasonExit
	}
	if err := l.Report([]client.Report{{Task: l.ref.Task, Attempt: a}}, 0); err != nil {
		t.Fatal(err)
	}
}

// awaits waits until the job has ended.
func (w *world) awaits(t *testing.T, id navvy.JobID) {
	t.Helper()
	for {
		changed := w.mgr.Changes(id)
		st, err := w.mgr.Status(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if !st.Finished.IsZero() {
			return
		}
		<-changed
	}
}

// background runs what a holder runs, until the test ends or it is told to.
func background(t *testing.T, run ...func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, f := range run {
		running.Go(func() { _ = f(ctx) })
	}
	stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(stop)
	return stop
}

func text(t *testing.T, f client.Files, key string) string {
	t.Helper()
	var b bytes.Buffer
	if _, err := f.Get(t.Context(), key, &b); errors.Is(err, navvy.ErrNotFound) {
		return "nothing"
	} else if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// hidden counts the files of attempts in the store.
func (w *world) hidden(t *testing.T) (n int) {
	t.Helper()
	for _, err := range w.files.List(t.Context(), "attempts/") {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// What an attempt has made appears with its result, and not before; that of one that has
// failed, or lost its lease, never does.
func TestPublish(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ctx := t.Context()
	background(t, w.mgr.Run, w.srv.PublishFiles)
	ann, conn := w.as(t, "ann", auth.RoleUser), w.conn(t, "w", auth.RoleWorker)
	by := client.NewWorkers(conn)
	if _, err := ann.Files().Put(ctx, "out/f", strings.NewReader("old"), client.PutFileOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := ann.Files().Put(ctx, "blocked", strings.NewReader("a file"), client.PutFileOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, outcome := range []navvy.Outcome{navvy.OutcomeFailed, navvy.OutcomeSucceeded} {
		l := w.lease(t, ann, conn)
		if f, err := by.StatFile(ctx, l.ref, "out/f"); err != nil || f.Size != 3 {
			t.Errorf("the attempt asks for its owner's file: %+v, %v", f, err)
		}
		if _, err := client.NewWorkers(w.conn(t, "other", auth.RoleWorker)).GetFile(ctx, l.ref, "out/f", io.Discard); !errors.Is(err, navvy.ErrLeaseLost) {
			t.Errorf("another worker asks: %v", err)
		}
		l.makes(t, by, "out/f", "new")
		l.makes(t, by, "out/g", "more")
		l.makes(t, by, "blocked/clash", "below a file")
		if got := text(t, ann.Files(), "out/f") + text(t, ann.Files(), "out/g"); got != "oldnothing" {
			t.Errorf("before the end: %s", got)
		}
		l.ends(t, outcome)
		w.awaits(t, l.ref.Task.Job)
		want := "oldnothing"
		if outcome == navvy.OutcomeSucceeded {
			want = "newmore"
		}
		if got := text(t, ann.Files(), "out/f") + text(t, ann.Files(), "out/g"); got != want {
			t.Errorf("after %v: %s, want %s", outcome, got, want)
		}
		clash := map[navvy.Outcome]string{navvy.OutcomeFailed: "nothing", navvy.OutcomeSucceeded: "below a file"}[outcome]
		if got := text(t, ann.Files(), l.ref.Task.String()+"/blocked/clash"); got != clash {
			t.Errorf("what cannot have its name: %s, want %s", got, clash)
		}
		if n := w.hidden(t); n != 0 {
			t.Errorf("%d files of attempts are left", n)
		}
		if err := by.PutFile(ctx, l.ref, "out/f", strings.NewReader("late")); !errors.Is(err, navvy.ErrLeaseLost) {
			t.Errorf("put after the end: %v", err)
		}
		if err := l.Leave(); err != nil {
			t.Error(err)
		}
	}
}

// A server that died between the answer and its files gives these their names when it
// starts again; those of an attempt that is not the answer go.
func TestPublishAfterCrash(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	stop := background(t, w.mgr.Run)
	ann, conn := w.as(t, "ann", auth.RoleUser), w.conn(t, "w", auth.RoleWorker)
	by := client.NewWorkers(conn)
	l := w.lease(t, ann, conn)
	l.makes(t, by, "out/f", "won")
	l.ends(t, navvy.OutcomeSucceeded)
	w.awaits(t, l.ref.Task.Job)
	if n := w.hidden(t); n != 1 {
		t.Fatalf("%d files wait, want 1: nobody has looked yet", n)
	}
	// One of an attempt that came to nothing, and of a job that there never was.
	for _, key := range []string{"/0/9.9/out/f", "/7/1.1/out/g"} {
		if _, err := w.files.Put(t.Context(), "attempts/ann/"+string(l.ref.Task.Job)+key, strings.NewReader("lost"), nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.files.Put(t.Context(), "attempts/ann/zzzzzzzzzzzz/0/1.1/h", strings.NewReader("lost"), nil); err != nil {
		t.Fatal(err)
	}
	w.grpc.Stop()
	stop()
	w.serve(t, auth.Ed25519, false)
	if err := w.srv.LoadFiles(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := w.hidden(t); n != 0 {
		t.Errorf("%d files of attempts are left", n)
	}
	files := w.as(t, "ann", auth.RoleUser).Files()
	if got := text(t, files, "out/f"); got != "won" || fileNames(t, files, "") != "out/f" {
		t.Errorf("the file is %q, and there are %s", got, fileNames(t, files, ""))
	}
}

// Of two attempts of a task, the files of the one count that is its result: those of the
// other, whose worker was lost, go.
func TestPublishOneOfTwo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	background(t, w.mgr.Run, w.srv.PublishFiles)
	ann := w.as(t, "ann", auth.RoleUser)
	lost := w.conn(t, "lost", auth.RoleWorker)
	first := w.lease(t, ann, lost)
	first.makes(t, client.NewWorkers(lost), "f", "of the first")
	first.makes(t, client.NewWorkers(lost), "only", "of the first")
	if err := lost.Close(); err != nil {
		t.Fatal(err)
	}
	conn := w.conn(t, "w", auth.RoleWorker)
	by := client.NewWorkers(conn)
	session, err := by.Work(t.Context(), client.WorkerInfo{Name: "w", Kinds: []string{"noop"}, Slots: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Report(nil, 1); err != nil {
		t.Fatal(err)
	}
	second := leasing{Session: session}
	for second.ref.Task != first.ref.Task {
		orders, err := session.Next()
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range orders.Assignments {
			second.ref = a.AttemptRef
		}
	}
	second.makes(t, by, "f", "of the second")
	second.ends(t, navvy.OutcomeSucceeded)
	w.awaits(t, first.ref.Task.Job)
	if got := text(t, ann.Files(), "f"); got != "of the second" || fileNames(t, ann.Files(), "") != "f" {
		t.Errorf("f is %q, and there are %s", got, fileNames(t, ann.Files(), ""))
	}
	if n := w.hidden(t); n != 0 {
		t.Errorf("%d files of attempts are left", n)
	}
}
