package manager_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/manager"
)

// processes attaches a worker that runs processes, and enforces so much for them.
func (s *scene) processes(info manager.Worker, enforces ...navvy.Ability) *manager.Session {
	info.Kinds = []string{navvy.KindCommand}
	info.Abilities = []navvy.KindAbilities{{Kind: navvy.KindCommand, Enforces: enforces, Lacks: "no rights"}}
	return s.mgr.Attach(info)
}

// process submits a job of one process.
func (s *scene) process(owner string, change func(*navvy.Spec)) navvy.JobID {
	s.Helper()
	spec := navvy.Spec{Command: &navvy.Command{Args: []string{"true"}}}
	if change != nil {
		change(&spec)
	}
	sub, id, err := s.mgr.Submit(s.ctx, navvy.Job{Owner: owner, Detached: true, Spec: spec}, false)
	s.must(err)
	s.must(sub.Add(s.ctx, []byte("x")))
	s.must(sub.Seal(s.ctx))
	return id
}

func isolated(s *navvy.Spec)  { s.Isolate = true }
func byDefault(s *navvy.Spec) { s.Isolate, s.IsolateByDefault = true, true }

// ownersScene is a scene whose one worker is yet to come.
func ownersScene(t *testing.T) *scene {
	t.Helper()
	s := newScene(t, &manager.Options{Dispatch: manager.Push, Parallelism: 100, Lease: 10 * time.Second})
	s.session.Close()
	s.run()
	return s
}

func (s *scene) owners() string { return s.mgr.Workers()[0].Owners }

// A worker that cannot keep owners apart runs tasks of one at a time, isolated or not.
func TestOneOwnerAtATime(t *testing.T) {
	t.Parallel()
	for name, enforces := range map[string][]navvy.Ability{
		"no isolation": {navvy.AbilityUser}, "no users": {navvy.AbilityIsolate}, "neither": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := ownersScene(t)
				s.session = s.processes(manager.Worker{Name: "w1"}, enforces...)
				if got := s.owners(); got != "cannot keep owners apart: it serves one at a time" {
					t.Errorf("the worker %s", got)
				}
				s.process("ann", nil)
				first := s.next()
				bobs := s.process("bob", nil)
				s.process("ann", nil)
				second := s.next()
				if len(first) != 1 || len(second) != 1 || second[0].Job.Owner != "ann" {
					t.Fatalf("%d and %d tasks start, beside one of ann's", len(first), len(second))
				}
				if got, want := s.whyOf(bobs, 0), `no worker has room for work of kind "command": worker w1 cannot keep owners apart: it serves ann now`; got != want {
					t.Errorf("why: %s\nwant %s", got, want)
				}
				if got := s.owners(); got != "cannot keep owners apart: it serves ann now" {
					t.Errorf("the worker %s", got)
				}
				s.report(0, first...)
				if list := s.next(); len(list) != 0 {
					t.Errorf("%d tasks start beside the last of ann's", len(list))
				}
				s.report(0, second...)
				if list := s.next(); len(list) != 1 || list[0].Job.ID != bobs {
					t.Errorf("%d tasks start when nothing of ann's is left", len(list))
				} else {
					s.report(0, list...)
				}
			})
		})
	}
}

// One that can keep them apart runs whatever comes, and so does each with what is no process.
func TestOwnersTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := ownersScene(t)
		s.session = s.processes(manager.Worker{Name: "w1"}, navvy.AbilityIsolate, navvy.AbilityUser)
		s.process("ann", isolated)
		s.process("bob", byDefault)
		list := s.next()
		if len(list) != 2 || !list[1].Job.Spec.Isolate || s.owners() != "" {
			t.Errorf("%d tasks start; the worker %s", len(list), s.owners())
		}
		s.report(0, list...)
	})
}

// Isolation that nobody asked for is waived where the owner is alone, and only there.
func TestSingleOwner(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := ownersScene(t)
		open := s.processes(manager.Worker{Name: "w1"})
		default1, wanted := s.process("ann", byDefault), s.process("ann", isolated)
		if len(s.nextOf(open)) > 0 {
			t.Fatal("a task runs without its isolation among others")
		}
		const lacks = "worker w1 cannot enforce isolate for work of kind command: no rights"
		want := lacks + "; the server isolates jobs of users: a worker that was started with --single-owner ann may run it without, or an administrator's policy lets users choose"
		if got := s.waiting(default1); got != want || s.whyOf(default1, 0) != want {
			t.Errorf("it waits: %s\nwant %s", got, want)
		}
		if got := s.waiting(wanted); got != lacks {
			t.Errorf("the one that asks for isolation waits: %s", got)
		}
		anns := s.processes(manager.Worker{Name: "w2", SingleOwner: "ann"})
		bobs, list := s.process("bob", byDefault), s.nextOf(anns)
		if len(list) != 1 || list[0].Job.ID != default1 || list[0].Job.Spec.Isolate {
			t.Errorf("%d tasks start on ann's worker", len(list))
		}
		if job, _, err := s.mgr.Job(s.ctx, default1); err != nil || !job.Spec.Isolate {
			t.Errorf("the job itself has changed: %v", err)
		}
		open.Close()
		synctest.Wait()
		if got := s.waiting(bobs); got != "worker w2 runs tasks of ann alone" {
			t.Errorf("bob's waits: %s", got)
		}
		if got := s.waiting(wanted); got != "worker w2 cannot enforce isolate for work of kind command: no rights" {
			t.Errorf("the one that asks for isolation waits: %s", got)
		}
		plain := s.process("bob", nil)
		if got := s.whyOf(plain, 0); got != `no worker has room for work of kind "command": worker w2 runs tasks of ann alone` || len(s.nextOf(anns)) > 0 {
			t.Errorf("a plain one of bob's: %s", got)
		}
	})
}

// Also on a worker of the owner alone, what can be isolated is.
func TestSingleOwnerIsolates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := ownersScene(t)
		s.session = s.processes(manager.Worker{Name: "w1", SingleOwner: "bob"}, navvy.AbilityIsolate)
		s.process("bob", byDefault)
		if list := s.next(); len(list) != 1 || !list[0].Job.Spec.Isolate || s.owners() != "runs tasks of bob alone" {
			t.Errorf("%d tasks start; the worker %s", len(list), s.owners())
		}
	})
}

// A worker that comes to run what it cannot keep apart knows who is there already.
func TestOwnersOfLateKinds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := ownersScene(t)
		s.session = s.processes(manager.Worker{Name: "w1", Slots: 10}, navvy.AbilityIsolate, navvy.AbilityUser)
		s.process("ann", nil)
		if list := s.next(); len(list) != 1 {
			t.Fatalf("%d tasks start", len(list))
		}
		if got := s.owners(); got != "" {
			t.Errorf("the worker %s", got)
		}
		s.session.Offers([]string{navvy.KindCommand}, []navvy.KindAbilities{{Kind: navvy.KindCommand, Lacks: "no rights"}})
		if got := s.owners(); got != "cannot keep owners apart: it serves ann now" {
			t.Errorf("the worker %s", got)
		}
		s.process("bob", nil)
		if list := s.next(); len(list) != 0 {
			t.Errorf("beside ann's it is given %v", list)
		}
	})
}
