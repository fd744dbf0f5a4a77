package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/output"
)

// Job gives a job and its state; ErrNotFound if there is none.
func (e *Engine) Job(ctx context.Context, id navvy.JobID) (*navvy.Job, State, error) {
	state, err := e.State(ctx, id)
	if err != nil {
		return nil, State{}, err
	}
	b, err := e.store.Get(ctx, jobKey(tableJob, id))
	if err != nil {
		return nil, State{}, fmt.Errorf("engine: read job %s: %w", id, err)
	}
	job, err := decodeJob(b)
	return job, state, err
}

// State gives a job's state; ErrNotFound if there is none.
func (e *Engine) State(ctx context.Context, id navvy.JobID) (State, error) {
	seq := e.committer.seen.Load()
	b, err := e.store.Get(ctx, jobKey(tableState, id))
	if errors.Is(err, navvy.ErrNotFound) {
		return State{}, noJob(id)
	} else if err != nil {
		return State{}, fmt.Errorf("engine: read the state of job %s: %w", id, err)
	}
	state, err := decodeState(b)
	if err != nil {
		return State{}, fmt.Errorf("job %s: %w", id, err)
	}
	if state.Removed {
		return State{}, noJob(id)
	}
	state.Seq = seq
	return state, nil
}

// Find gives the ids of at most limit jobs that begin with prefix, in byte order.
// A job whose state is damaged is among them: to read it tells of that.
func (e *Engine) Find(ctx context.Context, prefix string, limit int) ([]navvy.JobID, error) {
	if err := navvy.ValidatePrefix(prefix); err != nil {
		return nil, err
	}
	var ids []navvy.JobID
	err := e.store.Scan(ctx, driver.Prefix(append([]byte{tableState}, prefix...)), func(key, value []byte) error {
		if state, err := decodeState(value); err != nil || !state.Removed {
			ids = append(ids, navvy.JobID(key[1:]))
		}
		if len(ids) == limit {
			return driver.ErrStop
		}
		return nil
	})
	return ids, err
}

// Jobs gives at most limit ids of an owner's jobs that are older than before,
// newest first, and the time to go on from: zero if there are no more. A zero
// before begins with the newest.
func (e *Engine) Jobs(ctx context.Context, owner string, before time.Time, limit int) ([]navvy.JobID, time.Time, error) {
	r := driver.Prefix(ownerPrefix(owner))
	r.Reverse, r.Limit = true, limit+1
	if !before.IsZero() {
		r.End = ownerKey(owner, before, "")
	}
	var ids []navvy.JobID
	var next, last time.Time
	err := e.store.Scan(ctx, r, func(key, _ []byte) error {
		if len(ids) == limit {
			next = last
			return driver.ErrStop
		}
		ids = append(ids, keyJob(key))
		last = time.Unix(0, int64(binary.BigEndian.Uint64(key[len(key)-idLength-8:])))
		return nil
	})
	return ids, next, err
}

// Inputs gives the chunk that holds the input at index; ErrNotFound if there is none.
func (e *Engine) Inputs(ctx context.Context, id navvy.JobID, index int64) (*Chunk, error) {
	r := driver.Range{Start: jobKey(tableInput, id), End: indexKey(tableInput, id, index+1), Reverse: true, Limit: 1}
	var chunk *Chunk
	err := e.store.Scan(ctx, r, func(key, value []byte) error {
		var logged *loggedChunk
		var err error
		first := keyIndex(key)
		chunk, logged, err = decodeChunk(id, first, append([]byte{}, value...))
		if logged != nil {
			chunk, err = e.loggedInputs(ctx, id, first, logged)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("engine: inputs of job %s: %w", id, err)
	}
	if _, ok := chunk.Get(index); !ok {
		return nil, fmt.Errorf("task %s/%d: %w", id, index, navvy.ErrNotFound)
	}
	return chunk, nil
}

func (e *Engine) loggedInputs(ctx context.Context, id navvy.JobID, first int64, l *loggedChunk) (*Chunk, error) {
	log, err := e.store.OpenLog(ctx, inputLog(id, first))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	// The last byte first: there must be so many before there is room for them.
	b := make([]byte, 1)
	n, err := log.ReadAt(b, max(0, l.length-1))
	if n == 1 {
		b = make([]byte, l.length)
		n, err = log.ReadAt(b, 0)
	}
	if n < len(b) {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("it has fewer than %d bytes: %w", l.length, navvy.ErrCorrupt)
		}
		return nil, fmt.Errorf("log of a large input: %w", err)
	}
	if output.UpdateCRC(0, b) != l.crc {
		return nil, fmt.Errorf("log of a large input: the checksum is wrong: %w", navvy.ErrCorrupt)
	}
	chunk, again, err := decodeChunk(id, first, b)
	if again != nil {
		return nil, fmt.Errorf("log of a large input: it names another log: %w", navvy.ErrCorrupt)
	}
	return chunk, err
}

// Result gives a task's result; ErrNotFound if it has none.
func (e *Engine) Result(ctx context.Context, task navvy.TaskID) (*navvy.Result, error) {
	b, err := e.store.Get(ctx, indexKey(tableResult, task.Job, task.Index))
	if err != nil {
		return nil, fmt.Errorf("result of %s: %w", task, err)
	}
	return decodeResult(task, b)
}

// Results calls fn for the results of a job from an index on, in input order,
// until fn returns an error; driver.ErrStop ends it without one.
func (e *Engine) Results(ctx context.Context, id navvy.JobID, from int64, fn func(*navvy.Result) error) error {
	r := driver.Range{Start: indexKey(tableResult, id, from), End: driver.PrefixEnd(jobKey(tableResult, id))}
	return e.store.Scan(ctx, r, func(key, value []byte) error {
		res, err := decodeResult(navvy.TaskID{Job: id, Index: keyIndex(key)}, append([]byte{}, value...))
		if err != nil {
			return err
		}
		return fn(res)
	})
}

// Answered calls fn with the index of each task of a job that has a result, in order.
func (e *Engine) Answered(ctx context.Context, id navvy.JobID, fn func(index int64) error) error {
	return e.store.Scan(ctx, driver.Prefix(jobKey(tableResult, id)), func(key, _ []byte) error {
		return fn(keyIndex(key))
	})
}

// Attempts calls fn for the attempts of a job, or of one task if index is not
// negative, that did not become results, in order of index and id.
func (e *Engine) Attempts(ctx context.Context, id navvy.JobID, index int64, fn func(navvy.TaskID, *navvy.Attempt) error) error {
	prefix := jobKey(tableAttempt, id)
	if index >= 0 {
		prefix = indexKey(tableAttempt, id, index)
	}
	return e.store.Scan(ctx, driver.Prefix(prefix), func(key, value []byte) error {
		task := navvy.TaskID{Job: id, Index: keyIndex(key)}
		a, err := decodeAttempt(task, append([]byte{}, value...))
		if err != nil {
			return err
		}
		return fn(task, a)
	})
}

// History calls fn for the results of a task that a retry has replaced, oldest
// first; for those of all tasks of the job if the index is negative.
func (e *Engine) History(ctx context.Context, task navvy.TaskID, fn func(*navvy.Result) error) error {
	prefix := jobKey(tableHistory, task.Job)
	if task.Index >= 0 {
		prefix = indexKey(tableHistory, task.Job, task.Index)
	}
	return e.store.Scan(ctx, driver.Prefix(prefix), func(key, value []byte) error {
		res, err := decodeResult(navvy.TaskID{Job: task.Job, Index: keyIndex(key)}, append([]byte{}, value...))
		if err != nil {
			return err
		}
		return fn(res)
	})
}
