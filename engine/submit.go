package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/output"
)

// Submission is a job whose inputs are coming in. It is for one goroutine at a time.
type Submission struct {
	e      *Engine
	job    *navvy.Job // not changed
	record []byte     // of the job, until it is stored
	stream bool
	state  State
	first  *Chunk // the first chunk, so that a small job is served without a read

	inputs  [][]byte // not durable yet
	bytes   int
	secret  int64 // what is stored and not in the state yet, in bytes
	next    int64 // index of inputs[0]
	begun   bool  // something of the job is stored
	visible bool
	closed  bool
}

// Submit begins a submission. The engine gives the job its id and its time.
// Unless stream is set, nothing of the job is visible before Seal.
// It returns ErrInvalid for a job that makes no sense, ErrExhausted if the disk
// is nearly full, and ErrExists, together with the first job's id, if its owner
// has used its idempotency key before. If the owner has another job for which files are
// copied under the same name (see navvy.Stage), it is ErrConflict.
func (e *Engine) Submit(ctx context.Context, job navvy.Job, stream bool) (*Submission, navvy.JobID, error) {
	s, id, err := e.Begin(ctx, job, stream)
	if err != nil {
		return nil, id, err // an earlier one with its key needs no room
	}
	if err := e.Room(); err != nil {
		return nil, "", err
	}
	return s, id, nil
}

// Begin is Submit without a look at the disk, which SealAll and Seal take as well: for
// one of many whose inputs are at hand.
func (e *Engine) Begin(ctx context.Context, job navvy.Job, stream bool) (*Submission, navvy.JobID, error) {
	job.ID, job.Accepted = navvy.NewJobID(), e.now()
	if job.Queue == "" {
		job.Queue = navvy.DefaultQueue
	}
	if err := job.Validate(); err != nil {
		return nil, "", err
	}
	taken := e.transferFree(ctx, &job) // before the key is looked up: one step takes both
	if job.IdempotencyKey != "" {
		id, err := e.First(ctx, job.Owner, job.IdempotencyKey)
		if err == nil {
			return nil, id, fmt.Errorf("job with idempotency key %q: %w", job.IdempotencyKey, navvy.ErrExists)
		} else if !errors.Is(err, navvy.ErrNotFound) {
			return nil, "", err
		}
	}
	if taken != nil {
		return nil, "", taken
	}
	record := encodeJob(&job)
	if size := len(record); size > driver.MaxValue {
		return nil, "", fmt.Errorf("the command with its environment is %d bytes long, more than %d: %w", size, driver.MaxValue, navvy.ErrInvalid)
	}
	s := &Submission{e: e, job: &job, record: record, stream: stream}
	if !job.Detached {
		s.state.Attached = e.epoch
	}
	return s, job.ID, nil
}

// First is the job that an owner submitted under an idempotency key; ErrNotFound if there
// is none.
func (e *Engine) First(ctx context.Context, owner, key string) (navvy.JobID, error) {
	id, err := e.store.Get(ctx, idempotencyKey(owner, key))
	if err != nil {
		return "", fmt.Errorf("engine: look up idempotency key %q: %w", key, err)
	}
	return navvy.JobID(id), nil
}

// Job is the job as it is being accepted.
func (s *Submission) Job() *navvy.Job { return s.job }

// Visible tells whether others can see the job.
func (s *Submission) Visible() bool { return s.visible }

// State is the job's state as of the last Flush or Seal.
func (s *Submission) State() State { return s.state }

// First is the first chunk of inputs, nil before it is durable.
func (s *Submission) First() *Chunk { return s.first }

// maxTasks is how many tasks of a job the bitmaps of what is answered can tell apart.
const maxTasks = math.MaxUint32

// Add takes further inputs and keeps them; whole chunks become durable before it returns.
func (s *Submission) Add(ctx context.Context, inputs ...[]byte) error {
	if s.closed {
		return fmt.Errorf("job %s: the submission is over: %w", s.job.ID, navvy.ErrClosed)
	}
	for _, in := range inputs {
		if s.job.Responses && s.end() == MaxMessages {
			return fmt.Errorf("job %s: more than %d messages at once: %w", s.job.ID, MaxMessages, navvy.ErrInvalid)
		}
		if s.next+int64(len(s.inputs)) == maxTasks {
			return fmt.Errorf("job %s: more than %d inputs: %w", s.job.ID, maxTasks, navvy.ErrInvalid)
		}
		if len(s.inputs) > 0 && (len(s.inputs) == MaxChunkInputs || s.bytes+len(in) > MaxChunkBytes) {
			if err := s.Flush(ctx); err != nil {
				return err
			}
		}
		s.inputs = append(s.inputs, in)
		s.bytes += len(in)
	}
	return nil
}

// Flush makes all inputs so far durable, in a stream also visible.
func (s *Submission) Flush(ctx context.Context) error {
	if len(s.inputs) == 0 {
		return nil
	}
	return s.store(ctx, false)
}

// Seal makes the job durable with all its inputs; there are no more. A job
// without any input is refused with ErrInvalid.
func (s *Submission) Seal(ctx context.Context) error {
	if err := s.sealable(); err != nil {
		return err
	}
	return s.store(ctx, true)
}

func (s *Submission) sealable() error {
	if s.closed {
		return fmt.Errorf("job %s: the submission is over: %w", s.job.ID, navvy.ErrClosed)
	}
	if s.end() == 0 {
		return fmt.Errorf("job: there is no input: %w", navvy.ErrInvalid)
	}
	return nil
}

// SealAll is Seal for submissions of which nothing is stored yet: they become durable
// together, or each for itself if something is wrong with one. It returns one error for each.
func (e *Engine) SealAll(ctx context.Context, all []*Submission) []error {
	errs := make([]error, len(all))
	sealing := make([]sealing, len(all))
	err := e.Room()
	for i, s := range all {
		if err == nil {
			err = s.sealable()
		}
		if err == nil {
			sealing[i].value, err = s.chunkValue(ctx)
		}
	}
	if err == nil {
		err = e.committer.do(ctx, func(t *tx) (err error) {
			for i, s := range all {
				s.stageInputs(t, sealing[i].value, true)
				if sealing[i].state, err = s.stage(t, true); err != nil {
					return err
				}
			}
			return nil
		})
	}
	var alone sync.WaitGroup // at once: they share commits as far as they can
	for i, s := range all {
		if err == nil {
			s.stored(sealing[i].state, true, true)
		} else {
			alone.Go(func() { errs[i] = s.Seal(ctx) })
		}
	}
	alone.Wait()
	return errs
}

// sealing is what a submission is about to become.
type sealing struct {
	value []byte // of its inputs
	state State
}

// store is one step: the inputs at hand, and what the job needs beside them.
func (s *Submission) store(ctx context.Context, seal bool) error {
	if err := s.e.Room(); err != nil {
		return err
	}
	value, err := s.chunkValue(ctx)
	if err != nil {
		return err
	}
	show := seal || s.stream
	state := s.state
	err = s.e.committer.do(ctx, func(t *tx) error {
		s.stageInputs(t, value, seal)
		if show {
			state, err = s.stage(t, seal)
		}
		return err
	})
	if err != nil {
		if !s.visible && s.job.IdempotencyKey != "" && errors.Is(err, navvy.ErrConflict) {
			err = navvy.ErrExists // somebody else was first in between
		}
		return fmt.Errorf("engine: store job %s: %w", s.job.ID, err)
	}
	s.stored(state, show, seal)
	return nil
}

// stored takes note that the inputs at hand are durable.
func (s *Submission) stored(state State, show, seal bool) {
	if s.first == nil && len(s.inputs) > 0 {
		s.first = &Chunk{First: s.next, Inputs: s.inputs}
	}
	s.begun, s.visible, s.closed = true, s.visible || show, seal
	s.secret += s.weight()
	if show {
		s.secret, s.record = 0, nil
	}
	s.state, s.next, s.inputs, s.bytes = state, s.end(), nil, 0
}

// weight is what the inputs at hand take on disk.
func (s *Submission) weight() int64 { return int64(s.bytes) + inputOverhead*int64(len(s.inputs)) }

// end is how many inputs came so far.
func (s *Submission) end() int64 { return s.next + int64(len(s.inputs)) }

// stageInputs stages a chunk, and that more inputs come or no more.
func (s *Submission) stageInputs(t *tx, value []byte, seal bool) {
	if value != nil {
		t.put(indexKey(tableInput, s.job.ID, s.next), value)
	}
	if !seal && !s.begun {
		t.put(jobKey(tableOpen, s.job.ID), nil)
	} else if seal && s.begun {
		t.delete(jobKey(tableOpen, s.job.ID))
	}
}

// stage stages the job's state after these inputs.
func (s *Submission) stage(t *tx, seal bool) (State, error) {
	state, err := s.edit(t)
	if err != nil {
		return State{}, err
	}
	state.Total, state.Open = s.end(), !seal
	state.Bytes += s.secret + s.weight()
	if state.Ended() {
		t.end(s.job, state)
	}
	return *state, nil
}

// edit gives the job's state to be changed, and writes the job's own records
// when it becomes visible.
func (s *Submission) edit(t *tx) (*State, error) {
	id := s.job.ID
	if s.visible {
		state, err := t.edit(id)
		if err == nil && state.Stopped {
			err = fmt.Errorf("job %s was stopped: %w", id, navvy.ErrConflict)
		}
		return state, err
	}
	key := idempotencyKey(s.job.Owner, s.job.IdempotencyKey)
	if _, taken := t.keys[string(key)]; taken {
		return nil, fmt.Errorf("idempotency key %q: %w", s.job.IdempotencyKey, navvy.ErrConflict)
	}
	if err := t.takeTransfer(s.e, s.job); err != nil {
		return nil, err
	}
	if s.job.IdempotencyKey != "" {
		t.keys[string(key)] = struct{}{}
		t.batch.IfAbsent(key)
		t.put(key, []byte(id))
	}
	t.put(jobKey(tableJob, id), s.record)
	t.put(lineKey(s.job), nil)
	t.put(ownerKey(s.job.Owner, s.job.Accepted, id), nil)
	return t.create(id, s.state), nil
}

// chunkValue is the record of the inputs at hand, nil if there are none. What is
// too large for a value goes to a log first.
func (s *Submission) chunkValue(ctx context.Context) ([]byte, error) {
	if len(s.inputs) == 0 {
		return nil, nil
	}
	value := encodeChunk(s.inputs)
	if s.bytes <= 2*MaxChunkBytes {
		return value, nil
	}
	// The tombstone of an unfinished submission comes first: a crash leaves no log that nobody knows of.
	if !s.begun {
		if err := s.e.committer.do(ctx, func(t *tx) error {
			t.put(jobKey(tableOpen, s.job.ID), nil)
			return nil
		}); err != nil {
			return nil, err
		}
		s.begun = true
	}
	log, err := s.e.store.CreateLog(ctx, inputLog(s.job.ID, s.next))
	if err == nil {
		err = errors.Join(log.Append(value), log.Sync(), log.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("engine: keep a large input of job %s: %w", s.job.ID, err)
	}
	return encodeLoggedChunk(loggedChunk{length: int64(len(value)), crc: output.UpdateCRC(0, value)}), nil
}

// Abort gives the submission up. What a stream has made visible stays, stopped
// for the reason why; otherwise nothing stays.
func (s *Submission) Abort(ctx context.Context, why string) error {
	if s.closed || !s.begun {
		s.closed = true
		return nil
	}
	s.closed = true
	if !s.visible {
		return s.e.CutOff(ctx, s.job.ID)
	}
	state, err := s.e.change(ctx, s.job.ID, func(t *tx, job *navvy.Job, state *State) error {
		t.delete(jobKey(tableOpen, job.ID))
		state.Open, state.Cut = false, true
		stop(t, job, state, why)
		return nil
	})
	if err == nil {
		s.state = state
	}
	return err
}

// CutOff settles a submission whose client vanished before the seal: what was
// still secret is removed, a stream is held and marked as cut.
func (e *Engine) CutOff(ctx context.Context, id navvy.JobID) error {
	_, err := e.change(ctx, id, func(t *tx, job *navvy.Job, state *State) error {
		t.delete(jobKey(tableOpen, id))
		if !state.Open {
			return nil
		}
		state.Open, state.Cut = false, true
		if state.Stopped {
			return nil // it has its end, and its reason
		}
		why := fmt.Sprintf("its submitter ended after %d inputs; the rest was never accepted", state.Total)
		if state.Ended() {
			state.Why = why
			t.end(job, state)
			return nil
		}
		hold(t, job, state, why)
		return nil
	})
	if errors.Is(err, navvy.ErrNotFound) {
		return e.discard(ctx, id)
	}
	return err
}
