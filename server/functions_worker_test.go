package server_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/server/auth"
)

// leaseCall submits a job that calls a function, and has a worker take its task.
func leaseCall(t *testing.T, owner *client.Client, f *navvy.Function, workers *client.Workers) (*client.Session, client.AttemptRef) {
	t.Helper()
	session, err := workers.Work(t.Context(), client.WorkerInfo{
		Name: "w", Kinds: []string{navvy.KindFunction}, Slots: 1,
		Abilities: []navvy.KindAbilities{{Kind: navvy.KindFunction, Enforces: []navvy.Ability{navvy.AbilityIsolate, navvy.AbilityUser}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Report(nil, 1); err != nil { // which asks for one
		t.Fatal(err)
	}
	if _, err := trySubmit(t.Context(), owner, callOf(f)); err != nil {
		t.Fatal(err)
	}
	for {
		orders, err := session.Next()
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range orders.Assignments {
			return session, a.AttemptRef
		}
	}
}

// A worker has the function of an attempt that is leased to it, and no other.
func TestFunctionOfAnAttempt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ctx, ann := t.Context(), w.as(t, "ann", auth.RoleUser)
	register(t, ann, source("f", "first"))
	worker := client.NewWorkers(w.conn(t, "w-1", auth.RoleWorker))
	_, ref := leaseCall(t, ann, &navvy.Function{Name: "f"}, worker)
	register(t, ann, source("f", "second")) // which is not what was asked for
	for range 2 {
		if f, err := worker.Function(ctx, ref); err != nil || string(f.Code) != "first" || f.Owner != "ann" || f.Entry != "f" {
			t.Errorf("%+v, %v", f, err)
		}
	}
	stale, unknown, nobodys := ref, ref, ref
	stale.Attempt.Number++
	unknown.Task.Index++
	nobodys.Task.Job = navvy.NewJobID()
	for what, ref := range map[string]client.AttemptRef{"another attempt": stale, "another task": unknown, "another job": nobodys, "none": {}} {
		if f, err := worker.Function(ctx, ref); !errors.Is(err, navvy.ErrLeaseLost) && !errors.Is(err, navvy.ErrNotFound) && !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%s: %+v, %v", what, f, err)
		}
	}
	if f, err := client.NewWorkers(w.conn(t, "w-2", auth.RoleWorker)).Function(ctx, ref); !errors.Is(err, navvy.ErrLeaseLost) && !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("another worker: %+v, %v", f, err)
	}
	if f, err := client.NewWorkers(w.conn(t, "ann", auth.RoleUser)).Function(ctx, ref); !errors.Is(err, navvy.ErrDenied) {
		t.Errorf("the owner, who is no worker: %+v, %v", f, err)
	}
}

// What was removed is called no more, also by jobs that were accepted before.
func TestFunctionIsRemovedMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ctx, ann := t.Context(), w.as(t, "ann", auth.RoleUser)
	register(t, ann, source("f", "x"))
	worker := client.NewWorkers(w.conn(t, "w-1", auth.RoleWorker))
	_, ref := leaseCall(t, ann, &navvy.Function{Name: "f"}, worker)
	if _, err := worker.Function(ctx, ref); err != nil {
		t.Fatal(err)
	}
	if _, err := ann.RemoveFunction(ctx, "f", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := worker.Function(ctx, ref); !errors.Is(err, navvy.ErrNotFound) || !strings.Contains(err.Error(), "function f: not found") {
		t.Errorf("the worker is told: %v", err)
	}
	if _, err := trySubmit(ctx, ann, callOf(&navvy.Function{Name: "f"})); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("a further call: %v", err)
	}
}

// An attempt that calls no function has none.
func TestFunctionOfACommand(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	conn := w.conn(t, "w-1", auth.RoleWorker)
	l := w.lease(t, w.as(t, "ann", auth.RoleUser), conn)
	if _, err := client.NewWorkers(conn).Function(t.Context(), l.ref); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("%v", err)
	}
}

// Functions, and the jobs that call them, are there after a restart of the server.
func TestFunctionsSurviveARestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ctx, ann := t.Context(), w.as(t, "ann", auth.RoleUser)
	one := register(t, ann, source("f", "1"))
	register(t, ann, source("f", "2"))
	register(t, ann, source("f", "3"))
	if _, err := ann.RemoveFunction(ctx, "f", 3); err != nil {
		t.Fatal(err)
	}
	id, err := trySubmit(ctx, ann, callOf(&navvy.Function{Name: "f", Version: 1}))
	if err != nil {
		t.Fatal(err)
	}
	w.grpc.Stop()
	w.serve(t, auth.Ed25519, false)
	ann = w.as(t, "ann", auth.RoleUser)
	want(t, "versions", names(t, ann, "f"), "f@1", "f@2")
	if got, err := ann.Function(ctx, "f", 1, true); err != nil || string(got.Code) != "1" || got.ID != one.ID {
		t.Errorf("version 1 is %+v, %v", got, err)
	}
	if job, err := ann.Get(ctx, id); err != nil || job.Spec.Function.ID != one.ID || job.Spec.Function.Version != 1 {
		t.Errorf("the job calls %+v, %v", job.Spec.Function, err)
	}
	if v := register(t, ann, source("f", "2")); v.Version != 2 {
		t.Errorf("the same once more is version %d", v.Version)
	}
	if v := register(t, ann, source("f", "4")); v.Version != 4 {
		t.Errorf("the next one is version %d", v.Version)
	}
}
