package manager_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/manager"
)

// returning is a scene whose worker comes back for what it holds.
func returning(t *testing.T) (s *scene, opts *manager.Options) {
	t.Helper()
	opts = &manager.Options{Dispatch: manager.Push, Parallelism: 10, Lease: time.Hour}
	s = newScene(t, opts)
	s.session.Close()
	s.back(s.mgr)
	return s, opts
}

// back connects the worker, with what it holds.
func (s *scene) back(mgr *manager.Manager, held ...manager.Held) {
	s.Helper()
	var err error
	s.mgr = mgr
	s.session, err = mgr.Return(s.ctx, manager.Worker{Name: "w", Kinds: []string{navvy.KindNoop}, Slots: 4, Keeps: true, Returns: true}, held)
	s.must(err)
}

// fail reports that an attempt has ended badly, and brings that to disk.
func (s *scene) fail(task navvy.TaskID, id navvy.AttemptID, o navvy.Outcome) {
	s.Helper()
	s.must(s.session.Done(s.ctx, []manager.Finished{{Task: task, Attempt: navvy.Attempt{
		ID: id, Outcome: o, Reason: navvy.ReasonExit, Message: "it fails", Started: time.Now(), Finished: time.Now(),
	}}}))
	s.must(s.mgr.Settle(s.ctx))
}

// A worker is told of each report that it keeps, also of an attempt that it lost itself.
func TestLostIsSettled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := returning(t)
		id := s.submit(navvy.Job{Detached: true}, 1)
		s.fail(navvy.TaskID{Job: id}, s.next()[0].Attempt, navvy.OutcomeLost)
		var w manager.Work
		if err := s.session.Next(s.ctx, &w); err != nil || len(w.Settled) != 1 || w.Settled[0].Refused != "" {
			t.Errorf("%+v, %v", w, err)
		}
	})
}

// A worker that keeps no reports is told of none that was accepted, but of attempts whose
// work outlives it.
func TestOutlivingIsSettled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for kind, told := range map[string]int{navvy.KindNoop: 0, navvy.KindContainer: 1} {
			s := newScene(t, nil)
			s.session.Close()
			s.session = s.mgr.Attach(manager.Worker{Name: "w", Kinds: []string{kind}})
			job := navvy.Job{Owner: "ann", Detached: true, Spec: navvy.Spec{Noop: &navvy.Noop{}}}
			if kind == navvy.KindContainer {
				job.Spec = navvy.Spec{Container: &navvy.Container{Image: "i", Command: navvy.Command{Literal: true}}}
			}
			sub, _, err := s.mgr.Submit(s.ctx, job, false)
			s.must(err)
			s.must(sub.Add(s.ctx, []byte("a")))
			s.must(sub.Seal(s.ctx))
			s.must(s.session.Want(s.ctx, 1))
			_, err = s.mgr.Tick(s.ctx)
			s.must(err)
			s.report(0, s.next()...)
			s.must(s.mgr.Settle(s.ctx))
			over, cancel := context.WithCancel(s.ctx)
			cancel()
			var w manager.Work
			if err := s.session.Next(over, &w); len(w.Settled) != told {
				t.Errorf("%s: told of %+v, %v; want %d", kind, w.Settled, err, told)
			}
		}
	})
}

// An attempt whose failure was on disk before a retry by hand does not answer that,
// although its worker has not heard of it and brings it along.
func TestRetriedIsNotTakenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, opts := returning(t)
		id := s.submit(navvy.Job{Detached: true}, 1)
		task, first := navvy.TaskID{Job: id}, s.next()[0].Attempt
		s.fail(task, first, navvy.OutcomeFailed)
		eng, err := engine.Open(s.ctx, s.store, nil)
		s.must(err)
		mgr := manager.New(eng, opts)
		if n, _, err := mgr.Retry(s.ctx, id, engine.RetrySelection{Failed: true}); err != nil || n != 1 {
			t.Fatal(n, err)
		}
		s.back(mgr, manager.Held{Ref: manager.Ref{Task: task, Attempt: first}, Slot: 1})
		s.fail(task, first, navvy.OutcomeFailed)
		if res, err := eng.Result(s.ctx, task); err == nil {
			t.Errorf("the retry is answered by %+v", res)
		}
	})
}

// What an assignment says of the attempts before it is the same for whoever gets the task
// until an attempt has ended: a lost one, and a new manager, change nothing.
func TestAssignedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, opts := returning(t)
		id := s.submit(navvy.Job{Detached: true, Spec: navvy.Spec{Retry: navvy.Retry{Max: 1, Backoff: 1, BackoffMax: 1}}}, 1)
		task := navvy.TaskID{Job: id}
		given := func(round, failed uint32) navvy.AttemptID {
			t.Helper()
			time.Sleep(time.Minute) //nolint:forbidigo // inside a synctest bubble
			_, err := s.mgr.Tick(s.ctx)
			s.must(err)
			list := s.next()
			if len(list) != 1 || list[0].Round != round || list[0].Failed != failed {
				t.Fatalf("assigned %+v, want round %d, %d failed", list, round, failed)
			}
			return list[0].Attempt
		}
		s.fail(task, given(0, 0), navvy.OutcomeLost)
		s.fail(task, given(0, 0), navvy.OutcomeFailed)
		s.fail(task, given(0, 1), navvy.OutcomeLost)
		eng, err := engine.Open(s.ctx, s.store, nil)
		s.must(err)
		s.back(manager.New(eng, opts))
		s.fail(task, given(0, 1), navvy.OutcomeFailed)
		if n, _, err := s.mgr.Retry(s.ctx, id, engine.RetrySelection{Failed: true}); err != nil || n != 1 {
			t.Fatal(n, err)
		}
		given(1, 0)
	})
}

// A worker that has nothing to lose may be silent for several leases; then it gets no
// task before it says something. One that has an attempt gets none when that is lost.
func TestSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, opts := returning(t)
		silent := func() bool { return s.mgr.Workers()[0].Silent }
		time.Sleep(s.mgr.Silence() - time.Second) //nolint:forbidigo // inside a synctest bubble
		if silent() {
			t.Error("an idle worker counts as gone before its time")
		}
		time.Sleep(time.Second) //nolint:forbidigo // inside a synctest bubble
		if !silent() {
			t.Error("an idle worker that says nothing counts as there")
		}
		id := s.submit(navvy.Job{Detached: true}, 1)
		s.waitsFor(id, "worker w has been silent since 2000-01-01 00:00:00 UTC")
		s.session.Alive(nil)
		if got := s.waiting(id); got != "" {
			t.Errorf("the worker is back, and the job waits: %s", got)
		}
		_, err := s.mgr.Tick(s.ctx)
		s.must(err)
		if silent() || len(s.next()) != 1 {
			t.Error("it is back, and gets no task")
		}
		time.Sleep(opts.Lease) //nolint:forbidigo // inside a synctest bubble
		_, err = s.mgr.Tick(s.ctx)
		s.must(err)
		if !silent() {
			t.Error("a worker that has lost its attempt counts as there")
		}
	})
}

// waitsFor sees that status and why name the worker that a job waits for.
func (s *scene) waitsFor(id navvy.JobID, worker string) {
	s.Helper()
	want := `no worker takes work of kind "noop": ` + worker
	if got := s.waiting(id); got != want {
		s.Errorf("status: %q, want %q", got, want)
	}
	if got := s.whyOf(id, 0); got != want {
		s.Errorf("why: %q, want %q", got, want)
	}
}

// Who waits for a worker that leaves is told which one that is, until there is another.
func TestWaitForLeaving(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := returning(t)
		if !s.mgr.DrainWorker("w") {
			t.Fatal("there is no worker w")
		}
		id := s.submit(navvy.Job{Detached: true}, 1)
		s.waitsFor(id, "worker w is leaving")
		other := s.mgr.Attach(manager.Worker{Name: "other", Kinds: []string{navvy.KindCommand}, Slots: 1})
		s.waitsFor(id, "worker w is leaving; worker other runs no work of kind noop")
		other.Close()
		s.session.Close()
		s.back(s.mgr)
	})
}

// A worker that connects twice at once keeps what it runs.
func TestReturnTwiceAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, opts := returning(t)
		s.submit(navvy.Job{Detached: true}, 3)
		var held []manager.Held
		for _, a := range s.next() {
			held = append(held, manager.Held{Ref: manager.Ref{Task: navvy.TaskID{Job: a.Job.ID, Index: a.Index}, Attempt: a.Attempt}, Slot: a.Slot})
		}
		eng, err := engine.Open(s.ctx, s.store, nil)
		s.must(err)
		mgr := manager.New(eng, opts)
		s.store.get = func([]byte) { time.Sleep(time.Millisecond) } //nolint:forbidigo // so that the other one comes in between
		info := manager.Worker{Name: "w", Kinds: []string{navvy.KindNoop}, Slots: 4, Keeps: true, Returns: true}
		sessions := make([]*manager.Session, 2)
		var both sync.WaitGroup
		for i := range sessions {
			both.Go(func() {
				var err error
				sessions[i], err = mgr.Return(s.ctx, info, held)
				s.must(err)
			})
		}
		both.Wait()
		if w := mgr.Workers(); len(w) != 1 || w[0].Running != len(held) {
			t.Errorf("%+v", w)
		}
		for _, session := range sessions {
			var w manager.Work
			ctx, cancel := context.WithTimeout(s.ctx, time.Second)
			defer cancel()
			if err := session.Next(ctx, &w); err == nil && len(w.Stops) > 0 {
				t.Errorf("it is told to end %v", w.Stops)
			} else if err == nil && len(w.Assignments) > 0 {
				t.Errorf("it is given %v", w.Assignments)
			}
		}
	})
}

// What an administrator said to a worker whose connection breaks is said again.
func TestDrainIsSaidAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := returning(t)
		if !s.mgr.DrainWorker("w") {
			t.Fatal("there is no such worker")
		}
		s.session.Close()
		s.back(s.mgr)
		var w manager.Work
		if err := s.session.Next(s.ctx, &w); err != nil || !w.Drain {
			t.Fatalf("%+v, %v", w, err)
		}
		s.session.Leave()
		s.session.Close()
		s.back(s.mgr) // started anew
		if w := s.mgr.Workers(); len(w) != 1 || w[0].Leaving {
			t.Errorf("%+v", w)
		}
	})
}

// Two processes under one name: the second one is refused while the first is there.
func TestSecondProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := returning(t)
		s.session.Close()
		connect := func(process string) error {
			_, err := s.mgr.Return(s.ctx, manager.Worker{Name: "w", Kinds: []string{navvy.KindNoop}, Slots: 4, Keeps: true, Returns: true, Process: process}, nil)
			return err
		}
		s.must(connect("first"))
		if err := connect("second"); !errors.Is(err, navvy.ErrExists) {
			t.Errorf("a second process beside the first: %v", err)
		}
		s.must(connect("first")) // over a new connection
		if n := len(s.mgr.Workers()); n != 1 {
			t.Errorf("%d workers", n)
		}
		time.Sleep(s.mgr.Silence()) //nolint:forbidigo // inside a synctest bubble
		s.must(connect("second"))   // the first one was killed, and nobody could say so
	})
}
