package manager

import (
	"context"
	"errors"

	"github.com/navvy-run/navvy"
)

// maxLooks is how many adopted jobs Next looks at before it gives what it has.
const maxLooks = 256

// adopted is what a caller knows of a job that it adopted. The manager's lock guards it.
type adopted struct {
	numbers []uint64 // of the calls that wait for its answer
	changed bool     // it is among those to look at
}

// Adopt lets Next give the answer of a job that is there already, once nothing of it goes
// on, as if it had been called under this number. Any number of calls may wait for one
// job; while they do they take a little memory, and nothing runs for them.
func (c *Caller) Adopt(id navvy.JobID, number uint64) {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	a := c.adopted[id]
	if a == nil {
		a = &adopted{}
		c.adopted[id] = a
	}
	a.numbers = append(a.numbers, number)
	c.adoptions++
	c.changedLocked(id)
}

// changedLocked lets Next look at an adopted job.
func (c *Caller) changedLocked(id navvy.JobID) {
	a := c.adopted[id]
	if a == nil || a.changed {
		return
	}
	a.changed = true
	c.changed = append(c.changed, id)
	c.wake()
}

// disownLocked gives up all that the caller adopted.
func (c *Caller) disownLocked() {
	for id := range c.adopted {
		if s := c.m.signals[id]; s != nil {
			delete(s.callers, c)
		}
	}
	c.adopted, c.changed, c.adoptions = nil, nil, 0
}

// changes gives adopted jobs to look at. Their next change is told again, so that none
// is missed between a look and the wait.
func (c *Caller) changes() []navvy.JobID {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	if c.m.failure != nil {
		return nil // Next gives that
	}
	n := min(len(c.changed), maxLooks)
	ids := c.changed[:n:n]
	if c.changed = c.changed[n:]; len(c.changed) > 0 {
		c.wake()
	}
	for _, id := range ids {
		a := c.adopted[id]
		if a == nil {
			continue // its answer was there before it changed again
		}
		a.changed = false
		s := c.m.signalLocked(id)
		if s.callers == nil {
			s.callers = map[*Caller]navvy.JobID{}
		}
		s.callers[c] = id
	}
	return ids
}

// look answers the calls of adopted jobs of which nothing goes on any more.
func (c *Caller) look(ctx context.Context) {
	for _, id := range c.changes() {
		a, over := c.outcome(ctx, id)
		if ctx.Err() != nil {
			return // nobody waits for it
		}
		if over {
			c.giveAll(id, &a)
		}
	}
}

// outcome is what has become of an adopted job; over is false while it goes on.
func (c *Caller) outcome(ctx context.Context, id navvy.JobID) (a Answer, over bool) {
	_, settled, err := c.m.Settled(ctx, id)
	if err == nil && !settled {
		return a, false
	}
	if err == nil {
		a.Result, err = c.m.eng.Result(ctx, navvy.TaskID{Job: id})
		if errors.Is(err, navvy.ErrNotFound) {
			a.State, err = c.m.eng.State(ctx, id)
		}
	}
	a.Job, a.Err = id, err
	if err != nil {
		a.Job, a.Result = "", nil
	}
	return a, true
}

// giveAll leaves the answer of an adopted job to Next, for each call that waits for it.
func (c *Caller) giveAll(id navvy.JobID, a *Answer) {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	if s := c.m.signals[id]; s != nil {
		delete(s.callers, c)
	}
	known := c.adopted[id]
	if known == nil {
		return // it is closed
	}
	delete(c.adopted, id)
	c.adoptions -= len(known.numbers)
	for _, number := range known.numbers {
		one := *a
		one.Number = number
		c.giveLocked(&one)
	}
}
