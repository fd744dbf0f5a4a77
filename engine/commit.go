package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// maxCommit bounds what one commit gathers, in bytes; a single step may exceed it.
const maxCommit = 4 << 20

// step is one change of the truth: it reads through the tx, stages its writes
// there, and stages nothing if it returns an error. It may be run again.
type step func(*tx) error

// committer lets steps take effect one after the other, and those that arrive
// while a commit is in flight together. It has no goroutine: whoever finds
// nobody committing leads.
type committer struct {
	store driver.Store
	opts  *Options

	tx   *tx           // of whoever leads
	seq  uint64        // counts the changes of states; whoever leads has it
	seen atomic.Uint64 // the last of them that is durable
	size atomic.Int64  // what all jobs take on disk

	feeds feeds // tell of changed values
	told  atomic.Pointer[func(Line, Side, Letter)]

	mu      sync.Mutex
	leading bool
	queue   []*pending
}

type pending struct {
	step step
	err  error
	// lead tells the waiter to commit, done that its step was decided.
	lead, done chan struct{}
}

// do carries out one step and returns when it is durable, or its error. A
// context that ends takes back a step whose turn has not come; it does not end a
// commit, which serves others as well.
func (c *committer) do(ctx context.Context, s step) error {
	p := &pending{step: s}
	c.mu.Lock()
	c.queue = append(c.queue, p)
	if c.leading {
		p.lead, p.done = make(chan struct{}), make(chan struct{})
		c.mu.Unlock()
		if lead, err := c.await(ctx, p); !lead {
			return err
		}
	} else {
		c.leading = true
		c.mu.Unlock()
	}
	c.commit(context.WithoutCancel(ctx), p)
	return p.err
}

// await returns when the turn of a waiting step has come: to lead, or else with
// what became of it.
func (c *committer) await(ctx context.Context, p *pending) (lead bool, err error) {
	over := ctx.Done()
	for {
		select {
		case <-p.done:
			return false, p.err
		case <-p.lead:
			return true, nil
		case <-over:
			if c.takeBack(p) {
				return false, context.Cause(ctx)
			}
			over = nil // its turn has come
		}
	}
}

// takeBack removes a step from the queue. It is false if its turn has come.
func (c *committer) takeBack(p *pending) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-p.lead:
		return false
	default:
	}
	i := slices.Index(c.queue, p)
	if i < 0 {
		return false
	}
	c.queue = slices.Delete(c.queue, i, i+1)
	return true
}

// commit decides what is waiting, own included, then hands the lead on.
func (c *committer) commit(ctx context.Context, own *pending) {
	c.mu.Lock()
	batch := c.queue
	c.queue = nil
	c.mu.Unlock()

	rest := c.decide(ctx, batch)

	c.mu.Lock()
	c.queue = append(rest, c.queue...)
	if len(c.queue) > 0 {
		close(c.queue[0].lead)
	} else {
		c.leading = false
	}
	c.mu.Unlock()
	for _, p := range batch[:len(batch)-len(rest)] {
		if p != own {
			close(p.done)
		}
	}
}

// decide runs the steps into one transaction, as many as fit, and applies it. It
// returns those that it did not come to. own is always the first.
func (c *committer) decide(ctx context.Context, batch []*pending) (rest []*pending) {
	if c.tx == nil {
		c.tx = newTx(ctx, c)
	}
	t := c.tx
	t.reset(ctx)
	n := 0
	for n < len(batch) && (n == 0 || t.size() < maxCommit) {
		p := batch[n]
		p.err = t.run(p.step)
		n++
	}
	err := t.apply()
	switch {
	case err == nil:
	case errors.Is(err, navvy.ErrConflict), errors.Is(err, navvy.ErrInvalid): // by the fault of some
		c.decideAlone(ctx, batch[:n])
	default:
		for _, p := range batch[:n] {
			if p.err == nil {
				p.err = err
			}
		}
	}
	return batch[n:]
}

// decideAlone runs each step in a transaction of its own, so that only those fail that conflict.
func (c *committer) decideAlone(ctx context.Context, batch []*pending) {
	for _, p := range batch {
		t := newTx(ctx, c)
		t.alone = true
		if p.err = t.run(p.step); p.err == nil {
			p.err = t.apply()
		}
	}
}

// tx gathers the writes of steps. Its reads see them.
type tx struct {
	committer *committer
	ctx       context.Context //nolint:containedctx // of the one commit
	store     driver.Store
	opts      *Options
	// alone says that the step must look for results that exist, since the
	// store has just refused to put one.
	alone  bool
	batch  driver.Batch
	states map[navvy.JobID]*stateInTx
	// answered are the tasks whose results this commit puts.
	answered map[navvy.TaskID]struct{}
	// keys are the idempotency keys that this commit takes.
	keys map[string]struct{}
	// entries are those of the registry, and the values, that this commit has read.
	entries map[string]*entryInTx
	// changes are those of values, which are told when they are durable.
	changes []tellOf
	// posted are letters, which are told of likewise.
	posted []posted

	// arena is memory for keys and values, which nobody needs after the commit.
	arena []byte

	// What the step under way has done, to take it back if it fails.
	edited   []editedState
	added    []navvy.TaskID
	believed []navvy.JobID // whose states were not read
}

type stateInTx struct {
	stored []byte // nil if there was none
	weight int64  // of what is stored
	// blank says that the job has no result in the store, and had none before: who
	// brings its first ones need not ask, since the condition on the state fails
	// when somebody else was first.
	blank  bool
	state  State
	edited bool
}

type editedState struct {
	at     *stateInTx
	before stateInTx
}

func newTx(ctx context.Context, c *committer) *tx {
	return &tx{
		committer: c, ctx: ctx, store: c.store, opts: c.opts,
		states: map[navvy.JobID]*stateInTx{}, answered: map[navvy.TaskID]struct{}{}, keys: map[string]struct{}{},
		entries: map[string]*entryInTx{},
	}
}

// reset makes the transaction new, and keeps its memory.
func (t *tx) reset(ctx context.Context) {
	t.ctx = ctx
	t.batch.Reset()
	clear(t.states)
	clear(t.answered)
	clear(t.keys)
	clear(t.entries)
	t.changes, t.posted = t.changes[:0], t.posted[:0]
	t.edited, t.added, t.believed = t.edited[:0], t.added[:0], t.believed[:0]
	t.arena = t.arena[:0]
}

// arenaSize is how much memory for keys and values is kept from commit to commit.
const arenaSize = 1 << 20

// room gives an empty slice of the given capacity, good until the commit is over.
func (t *tx) room(n int) []byte {
	if cap(t.arena)-len(t.arena) < n {
		if n > arenaSize/4 {
			return make([]byte, 0, n)
		}
		t.arena = make([]byte, 0, arenaSize)
	}
	start := len(t.arena)
	t.arena = t.arena[:start+n]
	return t.arena[start : start : start+n]
}

// run lets one step stage its writes, and takes them back if it fails.
func (t *tx) run(s step) error {
	conditions, ops, size := t.batch.Mark()
	t.edited, t.added, t.believed = t.edited[:0], t.added[:0], t.believed[:0]
	err := s(t)
	if err == nil {
		err = oversized(t.batch.Ops[ops:])
	}
	if err != nil {
		t.batch.Rewind(conditions, ops, size)
		for _, e := range slices.Backward(t.edited) {
			*e.at = e.before
		}
		for _, task := range t.added {
			delete(t.answered, task)
		}
		for _, id := range t.believed {
			delete(t.states, id)
		}
	}
	return err
}

// oversized refuses what no store takes. It would refuse the whole batch, with
// the steps of others.
func oversized(ops []driver.Op) error {
	for i := range ops {
		if key, value := len(ops[i].Key), len(ops[i].Value); key > driver.MaxKey || value > driver.MaxValue {
			return fmt.Errorf("a record of %d bytes, more than %d: %w", key+value, driver.MaxValue, navvy.ErrInvalid)
		}
	}
	return nil
}

func (t *tx) size() int { return t.batch.Size() }

// apply makes everything durable.
func (t *tx) apply() error {
	grown := int64(0)
	for id, s := range t.states {
		if !s.edited {
			continue
		}
		key := jobKey(tableState, id)
		if s.stored == nil {
			t.batch.IfAbsent(key)
		} else {
			t.batch.IfEqual(key, s.stored)
		}
		t.batch.Put(key, encodeState(&s.state))
		grown += s.state.weight() - s.weight
	}
	if t.batch.Empty() {
		return nil
	}
	size := t.committer.size.Load() + grown
	if grown != 0 {
		t.batch.Put(sizeKey, encodeSize(size))
	}
	if err := t.store.Apply(t.ctx, &t.batch); err != nil {
		return err
	}
	t.committer.size.Store(size)
	t.committer.seen.Store(t.committer.seq)
	for _, c := range t.changes {
		t.committer.feeds.publish(c.owner, c.told)
	}
	if told := t.committer.told.Load(); told != nil {
		for i := range t.posted {
			(*told)(t.posted[i].line, t.posted[i].side, t.posted[i].letter)
		}
	}
	return nil
}

func (t *tx) put(key, value []byte) { t.batch.Put(key, value) }

func (t *tx) delete(key []byte) { t.batch.Delete(key) }

// state reads a job's state, with what earlier steps of this commit did to it;
// navvy.ErrNotFound if there is none or it was removed. The caller does not change it.
func (t *tx) state(id navvy.JobID) (*State, error) {
	s, err := t.load(id)
	if err != nil {
		return nil, err
	}
	if s.stored == nil && !s.edited || s.state.Removed {
		return nil, noJob(id)
	}
	return &s.state, nil
}

// edit is state for a step that is going to change it, in place.
func (t *tx) edit(id navvy.JobID) (*State, error) {
	if _, err := t.state(id); err != nil {
		return nil, err
	}
	return t.touch(t.states[id]), nil
}

// create stages the state of a job that does not exist yet.
func (t *tx) create(id navvy.JobID, state State) *State {
	s := &stateInTx{}
	t.states[id] = s
	created := t.touch(s)
	state.Seq = created.Seq
	*created = state
	return created
}

func (t *tx) touch(s *stateInTx) *State {
	if n := len(t.edited); n == 0 || t.edited[n-1].at != s {
		t.edited = append(t.edited, editedState{s, *s})
	}
	s.edited = true
	t.committer.seq++
	s.state.Seq = t.committer.seq
	return &s.state
}

func (t *tx) load(id navvy.JobID) (*stateInTx, error) {
	if s, ok := t.states[id]; ok {
		return s, nil
	}
	s := &stateInTx{}
	stored, err := t.store.Get(t.ctx, jobKey(tableState, id))
	switch {
	case err == nil:
		state, err := decodeState(stored)
		if err != nil {
			return nil, fmt.Errorf("job %s: %w", id, err)
		}
		s = known(state, stored)
	case !errors.Is(err, navvy.ErrNotFound):
		return nil, fmt.Errorf("engine: read the state of job %s: %w", id, err)
	}
	t.states[id] = s
	return s, nil
}

// known is a state as it is stored.
func known(state State, stored []byte) *stateInTx {
	return &stateInTx{
		stored: stored, state: state, weight: state.weight(),
		blank: state.Succeeded+state.Failed == 0 && state.Round == 0,
	}
}

// job reads a job's record.
func (t *tx) job(id navvy.JobID) (*navvy.Job, error) {
	b, err := t.store.Get(t.ctx, jobKey(tableJob, id))
	if errors.Is(err, navvy.ErrNotFound) {
		return nil, noJob(id)
	}
	if err != nil {
		return nil, fmt.Errorf("engine: read job %s: %w", id, err)
	}
	return decodeJob(b)
}

func noJob(id navvy.JobID) error { return fmt.Errorf("job %s: %w", id, navvy.ErrNotFound) }
