package manager_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/manager"
)

// into submits a job of an owner to a queue.
func (c *crew) into(queue, owner string, inputs int) navvy.JobID {
	c.Helper()
	sub, id, err := c.mgr.Submit(c.ctx, navvy.Job{Owner: owner, Queue: queue, Detached: true, Spec: navvy.Spec{Noop: &navvy.Noop{}}}, false)
	c.must(err)
	for range inputs {
		c.must(sub.Add(c.ctx, []byte("x")))
	}
	c.must(sub.Seal(c.ctx))
	c.byOwner[id] = owner
	return id
}

// waits checks what a task of the job waits for.
func (c *crew) waits(id navvy.JobID, index int64, want string) {
	c.Helper()
	st, err := c.mgr.Status(c.ctx, id)
	c.must(err)
	if _, why := c.mgr.Why(navvy.TaskID{Job: id, Index: index}, &st); why != want {
		c.Errorf("it waits: %q, want %q", why, want)
	}
}

// inCrews runs a test with each way of dispatch.
func inCrews(t *testing.T, test func(t *testing.T, d manager.Dispatch)) {
	t.Helper()
	for _, d := range []manager.Dispatch{manager.Pull, manager.Push, manager.RoundRobin, manager.Local} {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { test(t, d) })
		})
	}
}

// Of a paused queue nothing starts, others go on, and what runs ends.
func TestPausedQueue(t *testing.T) {
	t.Parallel()
	inCrews(t, func(t *testing.T, d manager.Dispatch) {
		c := newCrew(t, d, 10)
		c.mgr.SetQueue("night", navvy.QueueSettings{Paused: true})
		night, day := c.into("night", "ann", 3), c.into("day", "ann", 2)
		if got := c.take(); len(got) != 2 || got[0].Job.ID != day {
			t.Fatalf("these start: %v", got)
		}
		c.waits(night, 0, "queue night is paused")
		if st, err := c.mgr.Status(c.ctx, night); err != nil || st.Waiting != "queue night is paused" {
			t.Errorf("its status says %q, %v", st.Waiting, err)
		}
		changed := c.mgr.Changes(night)
		c.mgr.SetQueue("night", navvy.QueueSettings{})
		select {
		case <-changed:
		default:
			t.Error("who waits for the job is not told")
		}
		if got := c.take(); len(got) != 3 {
			t.Errorf("%d start", len(got))
		}
		if st, err := c.mgr.Status(c.ctx, night); err != nil || st.Waiting != "" {
			t.Errorf("its status says %q, %v", st.Waiting, err)
		}
		c.mgr.SetQueue("day", navvy.QueueSettings{Paused: true})
		c.end()
		c.end()
		synctest.Wait()
		if st, err := c.mgr.Status(c.ctx, day); err != nil || st.State() != navvy.Succeeded {
			t.Errorf("what ran when its queue was paused: %v, %v", st.State(), err)
		}
	})
}

// A queue's concurrency goes for all its jobs and owners together.
func TestQueueConcurrency(t *testing.T) {
	t.Parallel()
	inCrews(t, func(t *testing.T, d manager.Dispatch) {
		c := newCrew(t, d, 10)
		c.mgr.SetQueue("gpu", navvy.QueueSettings{Concurrency: 3})
		one := c.into("gpu", "ann", 10)
		two := c.into("gpu", "bob", 10)
		c.take()
		if len(c.open) != 3 {
			t.Fatalf("%d run", len(c.open))
		}
		c.waits(one, 9, "queue gpu runs no more than 3 tasks at once")
		c.waits(two, 9, "queue gpu runs no more than 3 tasks at once")
		for range 4 {
			c.end()
			if c.take(); len(c.open) != 3 {
				t.Fatalf("%d run", len(c.open))
			}
		}
		c.into("other", "ann", 5)
		if got := c.take(); len(got) != 5 {
			t.Errorf("%d of another queue start", len(got))
		}
		c.mgr.SetQueue("gpu", navvy.QueueSettings{Concurrency: 1})
		c.end()
		if got := c.take(); len(got) != 0 {
			t.Errorf("%d more start, and more run than may", len(got))
		}
		c.mgr.SetQueue("gpu", navvy.QueueSettings{Concurrency: 4})
		<-time.After(time.Second) // reports may be gathered before settings are looked at
		if got := c.take(); len(got) != 2 {
			t.Errorf("%d start, want 2", len(got))
		}
	})
}

// What a worker leaves behind is counted out again.
func TestQueueConcurrencyOfLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(t, manager.Pull, 5, 5)
		c.mgr.SetQueue("gpu", navvy.QueueSettings{Concurrency: 2})
		c.into("gpu", "ann", 10)
		c.take()
		gone := c.where[0]
		c.workers[gone].Close()
		first := len(c.begun)
		if c.take(); len(c.begun)-first == 0 {
			t.Fatal("nothing starts in place of what was lost")
		}
		running := map[navvy.TaskID]bool{}
		for i, a := range c.begun {
			if c.where[i] != gone {
				running[navvy.TaskID{Job: a.Job.ID, Index: a.Index}] = true
			}
		}
		if len(running) != 2 {
			t.Errorf("%d run", len(running))
		}
	})
}

// A rate lets as many start at once as start in a second, and then one after the
// other, at the instant when it may.
func TestQueueRate(t *testing.T) {
	t.Parallel()
	inCrews(t, func(t *testing.T, d manager.Dispatch) {
		c := newCrew(t, d, 100)
		c.mgr.SetQueue("api", navvy.QueueSettings{Rate: 4})
		id := c.into("api", "ann", 40)
		for i, step := range []struct {
			wait time.Duration
			want int
		}{{0, 4}, {249 * time.Millisecond, 0}, {time.Millisecond, 1}, {500 * time.Millisecond, 2}, {200 * time.Millisecond, 0}, {50 * time.Millisecond, 1}} {
			<-time.After(step.wait)
			if got := c.take(); len(got) != step.want {
				t.Errorf("step %d: %d start, want %d", i, len(got), step.want)
			}
		}
		c.waits(id, 39, "queue api starts no more than 4 tasks a second")
		c.mgr.SetQueue("api", navvy.QueueSettings{Rate: 0.5})
		c.take()
		<-time.After(20 * time.Second)
		if got := c.take(); len(got) < 9 || len(got) > 10 {
			t.Errorf("%d start in 20 s", len(got))
		}
		c.mgr.SetQueue("api", navvy.QueueSettings{})
		c.take()
		if len(c.begun) != 40 {
			t.Errorf("%d have started", len(c.begun))
		}
		c.mgr.SetQueue("api", navvy.QueueSettings{Rate: 4})
		<-time.After(20 * time.Minute)
		c.into("api", "ann", 40)
		if got := c.take(); len(got) != 4 {
			t.Errorf("after a long rest %d start at once", len(got))
		}
	})
}

// A queue with a rate and nothing to start wakes nobody.
func TestQueueRateSleeps(t *testing.T) {
	t.Parallel()
	s := newScene(t, nil)
	s.mgr.SetQueue("api", navvy.QueueSettings{Rate: 100})
	s.submit(navvy.Job{Queue: "api", Detached: true}, 1)
	next, err := s.mgr.Tick(s.ctx)
	if s.must(err); time.Until(next) < time.Second {
		t.Errorf("it wakes in %s", time.Until(next))
	}
}

// What a worker brings along to another manager counts as what runs of its queue.
func TestQueueConcurrencyOfReturned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(t, manager.Pull, 5)
		c.mgr.SetQueue("gpu", navvy.QueueSettings{Concurrency: 2})
		c.into("gpu", "ann", 10)
		var held []manager.Held
		for _, a := range c.take() {
			held = append(held, manager.Held{Ref: manager.Ref{Task: navvy.TaskID{Job: a.Job.ID, Index: a.Index}, Attempt: a.Attempt}, Slot: a.Slot})
		}
		eng, err := engine.Open(c.ctx, c.store, nil) // the first manager is as good as dead: it hears nothing any more
		c.must(err)
		c.mgr = manager.New(eng, &manager.Options{Dispatch: manager.Pull, Parallelism: 100, Lease: time.Hour})
		c.mgr.SetQueue("gpu", navvy.QueueSettings{Concurrency: 3})
		s, err := c.mgr.Return(c.ctx, manager.Worker{Name: "w0", Kinds: []string{navvy.KindNoop}, Slots: 5, Returns: true}, held)
		c.must(err)
		c.workers[0], c.open = s, nil
		c.run()
		c.must(s.Want(c.ctx, 5))
		if got := c.take(); len(held) != 2 || len(got) != 1 {
			t.Fatalf("beside %d that came along %d start, want 1 beside 2", len(held), len(got))
		}
		c.must(s.Done(c.ctx, []manager.Finished{{Task: held[0].Task, Attempt: navvy.Attempt{ID: held[0].Attempt, Outcome: navvy.OutcomeSucceeded}}}))
		c.must(s.Want(c.ctx, 1))
		<-time.After(time.Second)
		if got := c.take(); len(got) != 1 {
			t.Errorf("when one of them has ended %d start, want 1", len(got))
		}
	})
}
