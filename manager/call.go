package manager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
)

// Call is a job of one task whose answer somebody waits for.
type Call struct {
	Number uint64 // names it in its answer
	Job    navvy.Job
	Input  []byte
	// Notify asks for an answer also when the job is durable.
	Notify bool
}

// Answer ends a call, or says that it is accepted.
type Answer struct {
	Number uint64
	Job    navvy.JobID
	// Accepted says that the job is durable, and that its end comes in another answer, or came.
	Accepted bool
	// Result is the task's; nil if there is none: State then says what became of the job.
	Result *navvy.Result
	State  engine.State
	Err    error // the job was refused, or nobody knows what became of it
	unread bool  // there is a result, which is to be read
}

// weight is the memory that its result takes beside the answer.
func (a *Answer) weight() int {
	if a.Result == nil {
		return 0
	}
	return len(a.Result.Output.Inline)
}

// Bounds of what a caller has not taken: how much of it is in memory, in bytes, and how
// many answers Next gives at once.
const (
	maxAnswerBytes = 16 << 20
	maxAnswers     = 256
)

// Caller makes calls, and takes their answers. Its methods may be called at once, but
// Next, which is for one goroutine.
type Caller struct {
	m         *Manager
	numbers   map[navvy.JobID]uint64   // of the calls that wait for an answer; the manager's lock guards it
	adopted   map[navvy.JobID]*adopted // jobs that were there before; likewise
	changed   []navvy.JobID            // those of them to look at; likewise
	adoptions int                      // how many calls wait for them; likewise
	answers   []Answer                 // that Next has not given; likewise
	bytes     int                      // the memory of their results; likewise
	ready     chan struct{}            // there are some, or the manager has failed
	taken     chan struct{}            // Next has given some
}

// NewCaller makes a caller. Close lets go of what it waits for.
func (m *Manager) NewCaller() *Caller {
	c := &Caller{
		m: m, numbers: map[navvy.JobID]uint64{}, adopted: map[navvy.JobID]*adopted{},
		ready: make(chan struct{}, 1), taken: make(chan struct{}, 1),
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.callers[c] = struct{}{}
	return c
}

// Close gives up waiting. The jobs go on.
func (c *Caller) Close() {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	for id := range c.numbers {
		delete(c.m.calls, id)
	}
	c.numbers = nil
	c.disownLocked()
	delete(c.m.callers, c)
}

// Call makes calls, which are durable when it returns, all in one step. It returns one
// error for each: of Submit and Seal; ErrExists comes with the id of the first job with
// that idempotency key, see Adopt. Such a call, and one that is refused, has no answer yet.
func (c *Caller) Call(ctx context.Context, calls []Call) (ids []navvy.JobID, errs []error) {
	ids, errs = make([]navvy.JobID, len(calls)), make([]error, len(calls))
	subs := make([]*Submission, 0, len(calls))
	at := make([]int, 0, len(calls)) // the call of each
	for i := range calls {
		job := calls[i].Job
		job.Detached = true                                        // it does not depend on who waits
		sub, id, err := c.m.submit(ctx, job, false, c.m.eng.Begin) // sealing looks at the disk
		if err == nil {
			err = sub.Add(ctx, calls[i].Input)
		}
		if ids[i], errs[i] = id, err; err == nil {
			subs, at = append(subs, sub), append(at, i)
		} else if sub != nil {
			sub.end()
		}
	}
	c.expect(subs, func(i int) uint64 { return calls[at[i]].Number })
	for i, err := range c.m.sealAll(ctx, subs) {
		call := &calls[at[i]]
		if err != nil {
			c.forget(ids[at[i]])
			ids[at[i]], errs[at[i]] = c.keyTaken(ctx, &call.Job, err)
		} else if call.Notify {
			c.Give(&Answer{Number: call.Number, Job: ids[at[i]], Accepted: true})
		}
	}
	return ids, errs
}

// keyTaken finds the job whose idempotency key somebody else took meanwhile.
func (c *Caller) keyTaken(ctx context.Context, job *navvy.Job, err error) (navvy.JobID, error) {
	if !errors.Is(err, navvy.ErrExists) {
		return "", err
	}
	sub, id, err := c.m.Submit(ctx, *job, false)
	if sub != nil {
		sub.end()
		return "", fmt.Errorf("call: the job with this idempotency key was removed: %w", navvy.ErrConflict)
	}
	return id, err
}

// expect notes calls, before anything of them can end.
func (c *Caller) expect(subs []*Submission, number func(int) uint64) {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	for i, sub := range subs {
		c.m.calls[sub.Job().ID], c.numbers[sub.Job().ID] = c, number(i)
	}
}

func (c *Caller) forget(id navvy.JobID) {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	c.m.forgetCallLocked(id)
}

func (m *Manager) forgetCallLocked(id navvy.JobID) {
	if c := m.calls[id]; c != nil {
		delete(m.calls, id)
		delete(c.numbers, id)
	}
}

// Give leaves an answer to Next.
func (c *Caller) Give(a *Answer) {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	c.giveLocked(a)
}

func (c *Caller) giveLocked(a *Answer) {
	if w := a.weight(); w > 0 && c.bytes+w > maxAnswerBytes {
		a.Result, a.unread = nil, true // it is on disk
	}
	c.bytes += a.weight()
	c.answers = append(c.answers, *a)
	c.wake()
}

func (c *Caller) wake() {
	select {
	case c.ready <- struct{}{}:
	default:
	}
}

// Next waits for answers and gives those that there are, in the memory of spare. It
// returns the manager's failure if it has ended.
func (c *Caller) Next(ctx context.Context, spare []Answer) ([]Answer, error) {
	for {
		c.look(ctx)
		answers, failure := c.take(spare)
		switch {
		case len(answers) > 0:
			select {
			case c.taken <- struct{}{}:
			default:
			}
			c.read(ctx, answers)
			return answers, nil
		case failure != nil:
			return nil, failure
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-c.ready:
		}
	}
}

// take gives the next answers, in the memory of spare.
func (c *Caller) take(spare []Answer) ([]Answer, error) {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	n := min(len(c.answers), maxAnswers)
	clear(spare)
	spare = append(spare[:0], c.answers[:n]...)
	for i := range spare {
		c.bytes -= spare[i].weight()
	}
	rest := copy(c.answers, c.answers[n:])
	clear(c.answers[rest:])
	c.answers = c.answers[:rest]
	if rest > 0 {
		c.wake()
	}
	return spare, c.m.failure
}

// read brings results that were too many for memory.
func (c *Caller) read(ctx context.Context, answers []Answer) {
	for i := range answers {
		if a := &answers[i]; a.unread {
			a.Result, a.Err = c.m.eng.Result(ctx, navvy.TaskID{Job: a.Job})
		}
	}
}

// Room waits until fewer calls than n wait for their answers, or to be given by Next.
func (c *Caller) Room(ctx context.Context, n int) error {
	for {
		c.m.mu.Lock()
		waiting := len(c.numbers) + c.adoptions + len(c.answers)
		c.m.mu.Unlock()
		if waiting < n {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.taken:
		}
	}
}

// calledLocked gives whoever called a job its result, or, without one, tells that it has
// ended or is held.
func (m *Manager) calledLocked(id navvy.JobID, r *navvy.Result, state *engine.State) {
	c := m.calls[id]
	if c == nil {
		return
	}
	a := Answer{Number: c.numbers[id], Job: id, State: *state}
	if r != nil {
		result := *r
		a.Result = &result
	}
	m.forgetCallLocked(id)
	c.giveLocked(&a)
}

// sealAll seals submissions that have come together, in one step.
func (m *Manager) sealAll(ctx context.Context, subs []*Submission) []error {
	inner := make([]*engine.Submission, len(subs))
	for i, s := range subs {
		inner[i] = s.Submission
	}
	begun := time.Now()
	errs := m.eng.SealAll(ctx, inner)
	took := time.Since(begun)
	m.mu.Lock()
	counts := census{}
	for i, s := range subs {
		if errs[i] == nil {
			m.meters.Submit.Observe(took)
			m.acceptedLocked(s.Job(), s.State(), s.First(), true, counts)
		}
		s.endLocked()
	}
	m.mu.Unlock()
	if err := m.pump(ctx); err != nil {
		m.opts.Logger.Error("cannot start what was called", "error", err) // it is durable, and tried again
	}
	return errs
}
