package manager_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/manager"
)

func gpuJob(n int64) navvy.Spec {
	return navvy.Spec{Noop: &navvy.Noop{}, Resources: map[string]int64{navvy.ResourceGPU: n}}
}

func gpuOffer(n int64) navvy.Offer {
	return navvy.Offer{Resources: map[string]int64{navvy.ResourceGPU: n}}
}

// offering attaches a worker that has something.
func (s *scene) offering(name string, offer navvy.Offer) *manager.Session {
	s.Helper()
	s.must(offer.Validate())
	spec := everything()
	return s.mgr.Attach(manager.Worker{
		Name: name, Kinds: []string{navvy.KindNoop}, Offer: offer, Abilities: noops("", spec.Needs()...),
	})
}

// waiting is what a job is said to wait for.
func (s *scene) waiting(id navvy.JobID) string {
	s.Helper()
	st, err := s.mgr.Status(s.ctx, id)
	s.must(err)
	return st.Waiting
}

func (s *scene) whyOf(id navvy.JobID, index int64) string {
	s.Helper()
	st, err := s.mgr.Status(s.ctx, id)
	s.must(err)
	_, why := s.mgr.Why(navvy.TaskID{Job: id, Index: index}, &st)
	return why
}

// A task goes to nobody who lacks what it asks for; who waits is told what each lacks.
func TestPlacement(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		spec navvy.Spec
		has  navvy.Offer // one that is enough
		poor navvy.Offer // and one that is not,
		why  string      // for this reason
	}{
		{
			"label", navvy.Spec{Labels: map[string]string{"gpu": "a100"}},
			navvy.Offer{Labels: map[string]string{"gpu": "a100", "zone": "b"}}, navvy.Offer{Labels: map[string]string{"gpu": "t4"}}, "has no label gpu=a100",
		},
		{"gpus", gpuJob(4), gpuOffer(4), gpuOffer(2), "has 2 gpu, 4 are asked for"},
		{"cpus", navvy.Spec{Limits: navvy.Limits{CPUs: 2500}}, navvy.Offer{CPUs: 2500}, navvy.Offer{CPUs: 2000}, "has 2 cpus, 2.5 are asked for"},
		{"memory", navvy.Spec{Limits: navvy.Limits{Memory: 2 << 30}}, navvy.Offer{}, navvy.Offer{Memory: 1 << 30}, "has 1.0 GiB memory, 2.0 GiB are asked for"},
		{
			"more than one", navvy.Spec{Labels: map[string]string{"zone": "b", "gpu": "a100"}, Resources: map[string]int64{"x": 1}},
			navvy.Offer{Labels: map[string]string{"gpu": "a100", "zone": "b"}, Resources: map[string]int64{"x": 1}},
			navvy.Offer{}, "has no label gpu=a100 and has no label zone=b and has 0 x, 1 are asked for",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t, nil)
				s.session.Close()
				s.run()
				poor := s.offering("poor", tc.poor)
				tc.spec.Noop = &navvy.Noop{}
				id, err := s.submitSpec(tc.spec)
				s.must(err)
				if len(s.nextOf(poor)) > 0 {
					t.Error("the task goes to a worker that has not what it asks for")
				}
				changed := s.mgr.Changes(id)
				if got := s.waiting(id); got != "worker poor "+tc.why || s.whyOf(id, 0) != got {
					t.Errorf("it waits: %s; why: %s", got, s.whyOf(id, 0))
				}
				rich := s.offering("rich", tc.has)
				if len(s.nextOf(rich)) != 1 {
					t.Error("the task does not go to the worker that has it")
				}
				<-changed
				if got := s.waiting(id); got != "" {
					t.Errorf("it waits: %s", got)
				}
			})
		})
	}
}

// What a worker has is shared out among its tasks, and free again when they end,
// however they do.
func TestReservations(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, &manager.Options{Dispatch: manager.Push, Parallelism: 100})
		s.session.Close()
		s.run()
		s.session = s.offering("w1", gpuOffer(5))
		var ids []navvy.JobID
		for range 3 {
			id, err := s.submitSpec(gpuJob(2))
			s.must(err)
			ids = append(ids, id)
		}
		list := s.next()
		if len(list) != 2 {
			t.Fatalf("%d tasks of 2 gpus each run on 5", len(list))
		}
		if w := s.mgr.Workers()[0]; w.Used.Resources[navvy.ResourceGPU] != 4 {
			t.Errorf("in use: %+v", w.Used)
		}
		if got := s.waiting(ids[2]); got != "" {
			t.Errorf("it waits for another worker: %s", got)
		}
		if got, want := s.whyOf(ids[2], 0), `no worker has room for work of kind "noop": worker w1 has 1 of 5 gpu left, 2 are asked for`; got != want {
			t.Errorf("why: %s\nwant %s", got, want)
		}
		one, err := s.submitSpec(gpuJob(1))
		s.must(err)
		plain, err := s.submitSpec(navvy.Spec{Noop: &navvy.Noop{}})
		s.must(err)
		if fill := s.next(); len(fill) != 2 || fill[0].Job.ID != one || fill[1].Job.ID != plain {
			t.Errorf("%d tasks fill the room", len(fill))
		} else {
			s.report(0, fill...)
		}
		s.report(0, list[0])
		if list := s.next(); len(list) != 1 || list[0].Job.ID != ids[2] {
			t.Errorf("%d tasks follow", len(list))
		} else {
			s.report(0, list...)
		}
		s.report(0, list[1])
		synctest.Wait()
		if w := s.mgr.Workers()[0]; w.Running != 0 || len(w.Used.Resources) > 0 {
			t.Errorf("nothing runs, and in use: %d, %+v", w.Running, w.Used)
		}
	})
}

// Jobs for which there is no room keep no others out of the window.
func TestJobsThatWaitForRoomDoNotFillTheWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, &manager.Options{Dispatch: manager.Push, Parallelism: 100})
		s.session.Close()
		for range 200 {
			_, err := s.submitSpec(gpuJob(1))
			s.must(err)
		}
		plain, err := s.submitSpec(navvy.Spec{Noop: &navvy.Noop{}})
		s.must(err)
		s.session = s.offering("w1", gpuOffer(1))
		s.run()
		list := s.next()
		if len(list) != 2 || list[1].Job.ID != plain {
			t.Errorf("%d tasks start, should be one of those that wait for a gpu, and the other", len(list))
		}
		s.report(0, list...)
		for range 199 {
			list := s.next()
			if len(list) != 1 {
				t.Fatalf("%d tasks follow", len(list))
			}
			s.report(0, list...)
		}
	})
}

// Without a server there are no labels and resources, and limits reserve nothing.
func TestLocalPlacement(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := everything()
		s := newScene(t, &manager.Options{Parallelism: 8, Local: func() []navvy.KindAbilities { return noops("", all.Needs()...) }})
		s.session.Close()
		s.session = s.worker("w", noops("", all.Needs()...))
		s.run()
		for want, spec := range map[string]navvy.Spec{
			"this machine has 0 gpu, 1 are asked for": gpuJob(1),
			"this machine has no label zone=b":        {Noop: &navvy.Noop{}, Labels: map[string]string{"zone": "b"}},
		} {
			if _, err := s.submitSpec(spec); !errors.Is(err, navvy.ErrUnsupported) || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		}
		spec := navvy.Spec{Noop: &navvy.Noop{}, Limits: navvy.Limits{CPUs: 1 << 30, Memory: 1 << 60}}
		for range 2 {
			_, err := s.submitSpec(spec)
			s.must(err)
		}
		if list := s.next(); len(list) != 2 {
			t.Errorf("%d tasks run", len(list))
		}
	})
}

// member is a worker of the test below, as it knows itself.
type member struct {
	name    string
	offer   navvy.Offer
	session *manager.Session // nil while it is away
	holds   []manager.Assignment
}

func (w *member) sum() (o navvy.Offer) {
	o.Resources = map[string]int64{}
	for _, a := range w.holds {
		o.CPUs += a.Job.Spec.Limits.CPUs
		o.Memory += a.Job.Spec.Limits.Memory
		for name, n := range a.Job.Spec.Resources {
			o.Resources[name] += n
		}
	}
	return o
}

// hear takes what the worker is told; what it is to end is gone.
func (w *member) hear(s *scene) {
	if w.session == nil {
		return
	}
	synctest.Wait()
	var work manager.Work
	over, cancel := context.WithCancel(s.ctx)
	cancel()
	if err := w.session.Next(over, &work); err != nil {
		return
	}
	for _, stop := range work.Stops {
		w.holds = slices.DeleteFunc(w.holds, func(a manager.Assignment) bool { return refTo(&a) == stop.Ref })
	}
	w.holds = append(w.holds, work.Assignments...)
}

func refTo(a *manager.Assignment) manager.Ref {
	return manager.Ref{Task: navvy.TaskID{Job: a.Job.ID, Index: a.Index}, Attempt: a.Attempt}
}

// Whatever starts, ends, is lost and comes back, also with another server: no worker
// has more at once than it offers, what is in use is what runs, and all is free in the end.
func TestNeverMoreThanThereIs(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		dispatch := rapid.SampledFrom([]manager.Dispatch{manager.Pull, manager.Push, manager.RoundRobin}).Draw(rt, "dispatch")
		seed := rapid.SliceOfN(rapid.Uint8(), 60, 60).Draw(rt, "steps")
		synctest.Test(t, func(t *testing.T) {
			if err := placeAtRandom(t, dispatch, seed); err != "" {
				rt.Log(err)
				t.Fail()
			}
		})
	})
}

// yard is a scene with workers that come and go.
type yard struct {
	*scene
	opts    manager.Options
	members []*member
}

func placeAtRandom(t *testing.T, dispatch manager.Dispatch, steps []uint8) string {
	t.Helper()
	y := &yard{opts: manager.Options{Dispatch: dispatch, Parallelism: 4, Lease: 10 * time.Second, MaxLost: 1 << 20}}
	y.scene = newScene(t, &y.opts)
	y.session.Close()
	y.members = []*member{
		{name: "w0", offer: navvy.Offer{CPUs: 3000, Memory: 3 << 20, Resources: map[string]int64{"gpu": 3}}},
		{name: "w1", offer: navvy.Offer{CPUs: 1500, Resources: map[string]int64{"gpu": 1, "x": 2}}},
	}
	specs := []navvy.Spec{
		gpuJob(1), gpuJob(2), {Noop: &navvy.Noop{}, Limits: navvy.Limits{CPUs: 1000, Memory: 1 << 20}},
		{Noop: &navvy.Noop{}, Resources: map[string]int64{"x": 1}}, {Noop: &navvy.Noop{}},
	}
	for i, step := range steps {
		w := y.members[int(step>>3)%len(y.members)]
		switch step % 8 {
		case 0, 1:
			_, err := y.submitSpec(specs[int(step>>4)%len(specs)])
			y.must(err)
		case 2, 3, 4:
			y.end(w, int(step>>4))
		case 5:
			y.connect(w)
		case 6:
			y.pass()
		case 7:
			if step>>4 == 0 {
				y.restart()
			}
		}
		_, err := y.mgr.Tick(y.ctx)
		y.must(err)
		y.must(y.mgr.Settle(y.ctx))
		for _, w := range y.members {
			w.hear(y.scene)
		}
		if bad := overdrawn(y.scene, y.members); bad != "" {
			return fmt.Sprintf("step %d: %s", i, bad)
		}
	}
	return ""
}

// end ends an attempt.
func (y *yard) end(w *member, which int) {
	if w.session == nil || len(w.holds) == 0 {
		return
	}
	at := which % len(w.holds)
	y.session = w.session
	y.report(0, w.holds[at])
	w.holds = slices.Delete(w.holds, at, at+1)
}

// connect breaks a worker's connection, or brings it back with what it holds.
func (y *yard) connect(w *member) {
	if w.session != nil {
		w.session.Close()
		w.session = nil
		return
	}
	held := make([]manager.Held, len(w.holds))
	for i := range w.holds {
		held[i] = manager.Held{Ref: refTo(&w.holds[i]), Slot: w.holds[i].Slot}
	}
	all := everything()
	var err error
	w.session, err = y.mgr.Return(y.ctx, manager.Worker{
		Name: w.name, Kinds: []string{navvy.KindNoop}, Returns: true, Keeps: true, Offer: w.offer, Abilities: noops("", all.Needs()...),
	}, held)
	y.must(err)
	y.must(w.session.Want(y.ctx, 100))
}

// pass lets time pass; who is there says so.
func (y *yard) pass() {
	time.Sleep(6 * time.Second) //nolint:forbidigo // in a bubble, time passes at once
	for _, w := range y.members {
		if w.session == nil {
			continue
		}
		var refs []manager.Ref
		for i := range w.holds {
			refs = append(refs, refTo(&w.holds[i]))
		}
		w.session.Alive(refs)
	}
}

// restart puts another server in the place of the one that there is.
func (y *yard) restart() {
	y.must(y.mgr.Settle(y.ctx))
	eng, err := engine.Open(y.ctx, y.store, nil)
	y.must(err)
	y.mgr = manager.New(eng, &y.opts)
	for _, w := range y.members {
		w.session = nil
	}
}

// overdrawn says which worker has more than it offers, or than the manager knows of.
func overdrawn(s *scene, members []*member) string {
	for _, status := range s.mgr.Workers() {
		w := members[slices.IndexFunc(members, func(w *member) bool { return w.name == status.Name })]
		sum := w.sum()
		switch {
		case sum.CPUs > w.offer.CPUs, w.offer.Memory > 0 && sum.Memory > w.offer.Memory:
			return w.name + " has too many processors or too much memory in use"
		case status.Running != len(w.holds):
			return w.name + " runs something else than the manager knows of"
		}
		for name, n := range sum.Resources {
			if n > w.offer.Resources[name] {
				return w.name + " has too many " + name + " in use"
			}
			if status.Used.Resources[name] != n {
				return "what is known to be in use of " + name + " is not what is"
			}
		}
	}
	return ""
}
