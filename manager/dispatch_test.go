package manager_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/engine/memory"
	"github.com/navvy-run/navvy/manager"
)

// crew is a manager with workers that have slots. It is for a bubble of package synctest.
type crew struct {
	*scene
	queue   string // in which give submits
	workers []*manager.Session
	begun   []manager.Assignment   // in order
	where   []int                  // which worker each went to
	open    []manager.Assignment   // those that run
	byOwner map[navvy.JobID]string // of all jobs
}

func newCrew(t *testing.T, d manager.Dispatch, slots ...int) *crew {
	t.Helper()
	return newMixedCrew(t, ways{server: d}, slots...)
}

// ways are a manager's way of dispatch, and what the queue has that jobs are given to;
// empty if it has none.
type ways struct{ server, queue manager.Dispatch }

func (w ways) String() string {
	if w.queue == "" {
		return string(w.server)
	}
	return string(w.queue) + " of a queue beside " + string(w.server)
}

func newMixedCrew(t *testing.T, d ways, slots ...int) *crew {
	t.Helper()
	c := &crew{scene: &scene{T: t, ctx: t.Context(), store: &spied{Store: memory.New()}}, byOwner: map[navvy.JobID]string{}}
	c.store.free.Store(1 << 40)
	eng, err := engine.Open(c.ctx, c.store, nil)
	c.must(err)
	c.mgr = manager.New(eng, &manager.Options{Dispatch: d.server, Parallelism: 1 << 20, Lease: time.Hour})
	if d.queue != "" {
		c.queue = "own"
		c.mgr.SetQueue(c.queue, navvy.QueueSettings{Dispatch: d.queue})
	}
	for i, n := range slots {
		s := c.mgr.Attach(manager.Worker{Name: fmt.Sprint("w", i), Kinds: []string{navvy.KindNoop}, Slots: n})
		c.must(s.Want(c.ctx, n))
		c.workers = append(c.workers, s)
	}
	c.run()
	return c
}

// give submits a job of an owner.
func (c *crew) give(owner string, priority int32, inputs int) navvy.JobID {
	c.Helper()
	sub, id, err := c.mgr.Submit(c.ctx, navvy.Job{Owner: owner, Priority: priority, Queue: c.queue, Detached: true, Spec: navvy.Spec{Noop: &navvy.Noop{}}}, false)
	c.must(err)
	for range inputs {
		c.must(sub.Add(c.ctx, []byte("x")))
	}
	c.must(sub.Seal(c.ctx))
	c.byOwner[id] = owner
	return id
}

// take collects what has been handed out.
func (c *crew) take() []manager.Assignment {
	c.Helper()
	synctest.Wait()
	first := len(c.begun)
	for i, s := range c.workers {
		var w manager.Work
		ctx, cancel := context.WithCancel(c.ctx)
		cancel() // only what is there already
		for s.Next(ctx, &w) == nil {
			for _, a := range w.Assignments {
				c.begun, c.where, c.open = append(c.begun, a), append(c.where, i), append(c.open, a)
			}
		}
	}
	return c.begun[first:]
}

// end reports the task that has run longest.
func (c *crew) end() {
	c.Helper()
	a := c.open[0]
	at := len(c.begun) - len(c.open)
	c.open = c.open[1:]
	s := c.workers[c.where[at]]
	c.must(s.Done(c.ctx, []manager.Finished{{
		Task: navvy.TaskID{Job: a.Job.ID, Index: a.Index}, Attempt: navvy.Attempt{ID: a.Attempt, Outcome: navvy.OutcomeSucceeded},
	}}))
	c.must(s.Want(c.ctx, 1))
}

// Every way of dispatch keeps the same promises, the server's and a queue's.
func TestDispatch(t *testing.T) {
	t.Parallel()
	for _, d := range []ways{
		{server: manager.Pull},
		{server: manager.Push},
		{server: manager.RoundRobin},
		{server: manager.Push, queue: manager.Pull},
		{server: manager.Pull, queue: manager.Push},
		{server: manager.Pull, queue: manager.RoundRobin},
	} {
		for name, test := range map[string]func(*testing.T, ways){
			"short behind long": testShortBehindLong, "owners": testOwners, "priority": testPriority,
			"slots": testSlots, "many lines": testManyLines, "turns": testTurns,
		} {
			t.Run(d.String()+"/"+name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { test(t, d) })
			})
		}
	}
	if err := manager.Dispatch("pushy").Validate(); err == nil {
		t.Error("there is no such way")
	}
}

// A short job behind a long one of the same owner starts with the next slot.
func testShortBehindLong(t *testing.T, d ways) {
	c := newMixedCrew(t, d, 2)
	c.give("ann", 0, 5000)
	if got := c.take(); len(got) != 2 {
		t.Fatalf("%d start", len(got))
	}
	short := c.give("ann", 0, 2)
	for range 3 {
		c.end()
		c.take()
	}
	if c.begun[2].Job.ID != short {
		t.Errorf("the short job waits: %v", c.begun[2].Job.ID)
	}
}

// Owners have equal shares, however many jobs each has.
func testOwners(t *testing.T, d ways) {
	c := newMixedCrew(t, d, 4, 4)
	for range 200 {
		c.give("ann", 0, 10)
	}
	c.take()
	c.give("bob", 0, 100)
	c.give("cid", 0, 100)
	for range 60 {
		c.end()
		c.take()
	}
	share := map[string]int{}
	for _, a := range c.begun[len(c.begun)-30:] {
		share[c.byOwner[a.Job.ID]]++
	}
	for _, owner := range []string{"ann", "bob", "cid"} {
		if share[owner] < 8 || share[owner] > 12 {
			t.Errorf("of the last 30 starts: %v", share)
		}
	}
}

// A higher priority goes first, whoever asks.
func testPriority(t *testing.T, d ways) {
	c := newMixedCrew(t, d, 1)
	c.give("ann", 0, 5)
	c.take()
	c.give("bob", 0, 5)
	c.give("bob", -1, 5)
	high := c.give("ann", 3, 3)
	for range 5 {
		c.end()
		c.take()
	}
	for i, a := range c.begun[1:4] {
		if a.Job.ID != high {
			t.Errorf("start %d is of priority %d", i, a.Job.Priority)
		}
	}
	for c.end(); len(c.begun) < 14; c.end() {
		c.take()
	}
	for _, a := range c.begun[4:13] {
		if a.Job.Priority != 0 {
			t.Errorf("priority %d before 0", a.Job.Priority)
		}
	}
}

// Nobody gets more than it has slots, and all slots are used.
func testSlots(t *testing.T, d ways) {
	c := newMixedCrew(t, d, 1, 2, 5)
	c.give("ann", 0, 50)
	c.take()
	has := make([]int, 3)
	for _, w := range c.where {
		has[w]++
	}
	if has[0] != 1 || has[1] != 2 || has[2] != 5 {
		t.Errorf("the workers have %v", has)
	}
	for range 42 {
		c.end()
		c.take()
	}
	if len(c.begun) != 50 {
		t.Errorf("%d have started", len(c.begun))
	}
}

// More lines than fit into one reading are all served.
func testManyLines(t *testing.T, d ways) {
	c := newMixedCrew(t, d, 1)
	for i := range 150 {
		c.give(fmt.Sprint("owner", i%75), 0, 1)
	}
	for c.take(); len(c.open) > 0; c.take() {
		c.end()
	}
	seen := map[string]int{}
	for _, a := range c.begun[:75] {
		seen[c.byOwner[a.Job.ID]]++
	}
	if len(c.begun) != 150 || len(seen) < 70 {
		t.Errorf("%d tasks have run; the first 75 were of %d owners", len(c.begun), len(seen))
	}
}

// Workers that are alike are used alike.
func testTurns(t *testing.T, d ways) {
	c := newMixedCrew(t, d, 3, 3, 3)
	for range 30 {
		c.give("ann", 0, 1)
		c.take()
		c.end()
		c.take()
	}
	has := make([]int, 3)
	for _, w := range c.where {
		has[w]++
	}
	if has[0] != 10 || has[1] != 10 || has[2] != 10 {
		t.Errorf("the workers had %v", has)
	}
}

// Queues with different ways have the same workers, which never get more than they
// have slots, and each task comes in the way of its queue: one that is pushed does not
// wait for a worker to ask, one that is pulled does.
func TestDispatchOfQueues(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(t, manager.Pull)
		c.mgr.SetQueue("pushed", navvy.QueueSettings{Dispatch: manager.Push})
		for _, name := range []string{"w0", "w1"} {
			c.workers = append(c.workers, c.mgr.Attach(manager.Worker{Name: name, Kinds: []string{navvy.KindNoop}, Slots: 4}))
		}
		pulled, pushed := c.into("plain", "ann", 20), c.into("pushed", "bob", 4)
		runs := func() map[navvy.JobID]int {
			m := map[navvy.JobID]int{}
			for _, a := range c.open {
				m[a.Job.ID]++
			}
			return m
		}
		c.take()
		if got := runs(); got[pushed] != 4 || got[pulled] != 0 {
			t.Fatalf("when no worker has asked %d pushed and %d pulled run", got[pushed], got[pulled])
		}
		for i := range c.workers {
			c.must(c.workers[i].Want(c.ctx, 2))
		}
		c.take()
		if got := runs(); got[pushed] != 4 || got[pulled] != 4 {
			t.Fatalf("when they have asked for what is free %d pushed and %d pulled run", got[pushed], got[pulled])
		}
		for len(c.begun) < 24 {
			c.end()
			c.take()
			has := map[int]int{}
			for i := range c.open {
				has[c.where[len(c.begun)-len(c.open)+i]]++
			}
			if has[0] > 4 || has[1] > 4 {
				t.Fatalf("the workers have %v", has)
			}
		}
	})
}
