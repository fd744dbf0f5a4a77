package manager_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/manager"
)

// everything asks for all that a host can be asked to enforce.
func everything() navvy.Spec {
	return navvy.Spec{
		Noop: &navvy.Noop{}, Isolate: true, Network: navvy.NetworkNone,
		Limits: navvy.Limits{
			CPUs: 1000, CPUShares: 512, Memory: 1 << 30, PIDs: 1, ReadBPS: 1, WriteBPS: 1, ReadIOPS: 1, WriteIOPS: 1,
			Output: 1, Ulimits: []navvy.Ulimit{{Name: "core"}},
		},
	}
}

func noops(lacks string, enforces ...navvy.Ability) []navvy.KindAbilities {
	return []navvy.KindAbilities{{Kind: navvy.KindNoop, Enforces: enforces, Lacks: lacks}}
}

// submitSpec submits a detached job of one task.
func (s *scene) submitSpec(spec navvy.Spec) (navvy.JobID, error) {
	s.Helper()
	sub, id, err := s.mgr.Submit(s.ctx, navvy.Job{Owner: "ann", Detached: true, Spec: spec}, false)
	if err != nil {
		return id, err
	}
	s.must(sub.Add(s.ctx, []byte("x")))
	s.must(sub.Seal(s.ctx))
	return id, nil
}

// worker attaches another one.
func (s *scene) worker(name string, abilities []navvy.KindAbilities) *manager.Session {
	return s.mgr.Attach(manager.Worker{Name: name, Kinds: []string{navvy.KindNoop}, Abilities: abilities})
}

// nextOf is next for a session.
func (s *scene) nextOf(session *manager.Session) []manager.Assignment {
	s.Helper()
	was := s.session
	defer func() { s.session = was }()
	s.session = session
	return s.next()
}

// A task goes to nobody who lacks a single one of the abilities that it needs.
func TestEveryAbilityCounts(t *testing.T) {
	t.Parallel()
	spec := everything()
	needs := spec.Needs()
	for i, missing := range needs {
		t.Run(string(missing), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t, nil)
				s.run()
				poor := s.worker("poor", noops("no rights", slices.Delete(slices.Clone(needs), i, i+1)...))
				id, err := s.submitSpec(everything())
				s.must(err)
				if len(s.next())+len(s.nextOf(poor)) > 0 {
					t.Error("the task goes to a worker that cannot enforce what it needs")
				}
				changed := s.mgr.Changes(id)
				st, err := s.mgr.Status(s.ctx, id)
				s.must(err)
				want := "worker poor cannot enforce " + string(missing) + " for work of kind noop: no rights"
				if parts := strings.Split(st.Waiting, "; "); len(parts) != 2 || parts[1] != want || !strings.HasPrefix(parts[0], "worker w cannot enforce cpus, ") {
					t.Errorf("it waits: %s", st.Waiting)
				}
				if _, why := s.mgr.Why(navvy.TaskID{Job: id}, &st); why != st.Waiting {
					t.Errorf("why: %s", why)
				}
				able := s.worker("able", noops("", append(slices.Clone(needs), "of a later navvy")...))
				if len(s.nextOf(able)) != 1 {
					t.Error("the task does not go to the worker that can enforce all")
				}
				<-changed
				if st, err := s.mgr.Status(s.ctx, id); err != nil || st.Waiting != "" {
					t.Errorf("it waits: %s, %v", st.Waiting, err)
				}
			})
		})
	}
}

// However many workers cannot run a job, it is said in some words.
func TestManyUnableWorkers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, nil)
		for range 10 {
			s.worker("poor", nil)
		}
		id, err := s.submitSpec(everything())
		s.must(err)
		st, err := s.mgr.Status(s.ctx, id)
		if s.must(err); !strings.HasSuffix(st.Waiting, "; and 8 more workers cannot") {
			t.Errorf("it waits: %s", st.Waiting)
		}
	})
}

// Where no other workers will come, a job that none can run is refused, and one
// that was accepted when they could neither runs nor keeps anybody from leaving.
func TestLocalAbilities(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, &manager.Options{Local: func() []navvy.KindAbilities {
			spec := everything()
			return noops("", spec.Needs()...)
		}})
		id, _, err := s.submitKeyed("once")
		s.must(err)
		if left, err := s.mgr.Left(s.ctx); !left || err != nil {
			t.Errorf("nobody is to go on: %v", err)
		}

		eng, err := engine.Open(s.ctx, s.store, nil)
		s.must(err)
		asked := 0
		s.mgr = manager.New(eng, &manager.Options{Local: func() []navvy.KindAbilities {
			asked++
			return noops("there are no control groups", navvy.AbilityCPUs)
		}})
		s.session = s.worker("w", noops("", navvy.AbilityCPUs))
		s.run()
		plain, err := s.submitSpec(navvy.Spec{Noop: &navvy.Noop{}})
		s.must(err)
		if list := s.next(); len(list) != 1 || list[0].Job.ID != plain {
			t.Errorf("%d tasks start, should be that of the job without limits", len(list))
		} else {
			s.report(0, list...)
		}
		const why = "this machine cannot enforce memory, isolate for work of kind noop: there are no control groups"
		_, err = s.submitSpec(navvy.Spec{Noop: &navvy.Noop{}, Isolate: true, Limits: navvy.Limits{CPUs: 1000, Memory: 1 << 30}})
		if !errors.Is(err, navvy.ErrUnsupported) || !strings.HasPrefix(err.Error(), why) {
			t.Errorf("submit: %v", err)
		}
		if again, existed, err := s.submitKeyed("once"); !existed || again != id {
			t.Errorf("the first job with the key is %s, not %s: %v", id, again, err)
		}
		st, err := s.mgr.Status(s.ctx, id)
		if s.must(err); !strings.HasPrefix(st.Waiting, "this machine cannot enforce cpu-shares, ") {
			t.Errorf("it waits: %s", st.Waiting)
		}
		synctest.Wait()
		if left, err := s.mgr.Left(s.ctx); left || err != nil || !s.mgr.Idle() || s.mgr.Busy() > 0 {
			t.Errorf("idle %t, left %t, %v", s.mgr.Idle(), left, err)
		}
		if asked != 1 {
			t.Errorf("the host was looked at %d times", asked)
		}
	})
}

func (s *scene) submitKeyed(key string) (navvy.JobID, bool, error) {
	s.Helper()
	sub, id, err := s.mgr.Submit(s.ctx, navvy.Job{Owner: "ann", Detached: true, Spec: everything(), IdempotencyKey: key}, false)
	if err != nil {
		return id, errors.Is(err, navvy.ErrExists), err
	}
	s.must(sub.Add(s.ctx, []byte("x")))
	s.must(sub.Seal(s.ctx))
	return id, false, nil
}

// Jobs that nobody can run do not keep others out of the window.
func TestUnfitJobsDoNotFillTheWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, nil)
		for range 200 {
			_, err := s.submitSpec(everything())
			s.must(err)
		}
		plain, err := s.submitSpec(navvy.Spec{Noop: &navvy.Noop{}})
		s.must(err)
		s.run()
		if list := s.next(); len(list) != 1 || list[0].Job.ID != plain {
			t.Errorf("%d tasks start, should be that of the job that can run", len(list))
		}
	})
}

// A call waits for a worker with a Python that will do, and is told what each has.
func TestNoPython(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, nil)
		s.run()
		absent := navvy.KindAbilities{Kind: navvy.KindFunction, Absent: true, Lacks: "/old is Python 3.7.3"}
		s.worker("aged", append(noops(""), absent))
		s.worker("silent", noops(""))
		id, err := s.submitSpec(navvy.Spec{Function: &navvy.Function{ID: "1", Name: "f"}})
		s.must(err)
		st, err := s.mgr.Status(s.ctx, id)
		if s.must(err); !strings.Contains(st.Waiting, "worker aged calls no Python functions: /old is Python 3.7.3") ||
			!strings.Contains(st.Waiting, "worker silent calls no Python functions") {
			t.Errorf("it waits: %s", st.Waiting)
		}
		if _, waiting := s.mgr.Why(navvy.TaskID{Job: id}, &st); waiting != st.Waiting {
			t.Errorf("its task waits: %s", waiting)
		}
		able := s.mgr.Attach(manager.Worker{Name: "able", Kinds: []string{navvy.KindFunction}})
		if st, err = s.mgr.Status(s.ctx, id); err != nil || st.Waiting != "" {
			t.Errorf("with a worker that can it waits: %s, %v", st.Waiting, err)
		}
		if list := s.nextOf(able); len(list) != 1 || list[0].Job.ID != id {
			t.Errorf("%d tasks start, should be the call", len(list))
		}
	})
}

// Work waits for a worker that has reached what does it, and is told what keeps each.
func TestNotReached(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, nil)
		s.run()
		s.worker("far", append(noops(""), navvy.KindAbilities{Kind: navvy.KindContainer, Absent: true, Lacks: "the cluster cannot be reached"}))
		id, err := s.submitSpec(navvy.Spec{Container: &navvy.Container{Image: "i"}})
		s.must(err)
		const want = `worker w runs no work of kind container; worker far runs no work of kind container: the cluster cannot be reached`
		if got := s.whyOf(id, 0); got != want {
			t.Errorf("why: %s\nwant %s", got, want)
		}
		able := s.mgr.Attach(manager.Worker{Name: "able", Kinds: []string{navvy.KindContainer}})
		if list := s.nextOf(able); len(list) != 1 || list[0].Job.ID != id {
			t.Errorf("%d tasks start, should be the container", len(list))
		}
	})
}

// Where no other workers will come, a call is refused that only one with Python could make.
func TestNoPythonHere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, &manager.Options{Local: func() []navvy.KindAbilities {
			return append(noops(""), navvy.KindAbilities{Kind: navvy.KindFunction, Absent: true, Lacks: "python3 is no program"})
		}})
		_, err := s.submitSpec(navvy.Spec{Function: &navvy.Function{ID: "1", Name: "f"}})
		if !errors.Is(err, navvy.ErrUnsupported) || !strings.HasPrefix(err.Error(), "this machine calls no Python functions: python3 is no program") {
			t.Errorf("submit: %v", err)
		}
	})
}
