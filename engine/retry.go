package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// RetrySelection names the tasks of a retry.
type RetrySelection struct {
	// Indexes of tasks; if there are none, all tasks, or those that Failed selects.
	Indexes []int64
	// Failed selects what failed; tasks that were stopped have no result and run in any case.
	Failed bool
}

const retryVersion = 1

func encodeRetry(s RetrySelection) []byte {
	e := newRecord(tableRetry, retryVersion, 16)
	e.bool(s.Failed)
	e.uint(uint64(len(s.Indexes)))
	for _, i := range s.Indexes {
		e.int(i)
	}
	return e.b
}

func decodeRetry(b []byte) (RetrySelection, error) {
	d, _ := readRecord(b, tableRetry, retryVersion, "retry")
	s := RetrySelection{Failed: d.bool(), Indexes: make([]int64, d.count(1))}
	for i := range s.Indexes {
		s.Indexes[i] = d.int()
	}
	return s, d.end()
}

// maxRetryIndexes keeps the record of a retry within a value.
const maxRetryIndexes = 100_000

// Retry makes answered tasks pending again: their results move to history. It
// is decided by one batch; the results then move in pieces, which a crash does
// not undo. It also lets a stopped job go on. Nobody else may be answering
// tasks of this job meanwhile. It returns how many tasks will run again.
func (e *Engine) Retry(ctx context.Context, id navvy.JobID, sel RetrySelection) (int64, State, error) {
	slices.Sort(sel.Indexes)
	sel.Indexes = slices.Compact(sel.Indexes)
	if len(sel.Indexes) > maxRetryIndexes {
		return 0, State{}, fmt.Errorf("retry of %d named tasks, more than %d at once: %w", len(sel.Indexes), maxRetryIndexes, navvy.ErrInvalid)
	}
	ctx = context.WithoutCancel(ctx) // half of a retry is worse than none
	if err := e.finishRetry(ctx, id); err != nil {
		return 0, State{}, err
	}
	job, before, err := e.Job(ctx, id)
	if err != nil {
		return 0, State{}, err
	}
	if before.Stopped && len(sel.Indexes) > 0 {
		return 0, State{}, fmt.Errorf("job %s was stopped; single tasks of it cannot be retried, only all that did not succeed: %w", id, navvy.ErrConflict)
	}
	succeeded, failed, err := e.countSelected(ctx, id, sel)
	if err != nil {
		return 0, State{}, err
	}
	pending := succeeded + failed
	if before.Stopped {
		pending += before.Pending()
	}
	if pending == 0 {
		return 0, before, nil
	}
	state, err := e.change(ctx, id, func(t *tx, _ *navvy.Job, state *State) error {
		if state.Succeeded != before.Succeeded || state.Failed != before.Failed {
			return fmt.Errorf("job %s was answered in between: %w", id, navvy.ErrConflict)
		}
		if state.Ended() {
			state.Held = false // from before its end; it has meant nothing since
		}
		state.Succeeded -= succeeded
		state.Failed -= failed
		state.Round++
		t.put(jobKey(tableRetry, id), encodeRetry(sel))
		t.reopen(job, state)
		return t.withdraw(job, state, sel)
	})
	if err != nil {
		return 0, State{}, err
	}
	return pending, state, e.finishRetry(ctx, id)
}

// countSelected counts the results that a retry would move, and checks the indexes.
func (e *Engine) countSelected(ctx context.Context, id navvy.JobID, sel RetrySelection) (succeeded, failed int64, err error) {
	state, err := e.State(ctx, id)
	if err != nil {
		return 0, 0, err
	}
	for _, i := range sel.Indexes {
		if i < 0 || i >= state.Total {
			return 0, 0, fmt.Errorf("task %s/%d: the job has %d tasks: %w", id, i, state.Total, navvy.ErrNotFound)
		}
	}
	err = e.selected(ctx, id, sel, state.Round+1, func(r *navvy.Result, _ []byte) error {
		if r.State == navvy.Succeeded {
			succeeded++
		} else {
			failed++
		}
		return nil
	})
	return succeeded, failed, err
}

// selected calls fn for the results of rounds before the given one that a retry is about.
func (e *Engine) selected(ctx context.Context, id navvy.JobID, sel RetrySelection, round uint32, fn func(*navvy.Result, []byte) error) error {
	visit := func(key, value []byte) error {
		r, err := decodeResult(navvy.TaskID{Job: id, Index: keyIndex(key)}, value)
		if err != nil {
			return err
		}
		if r.Round >= round || sel.Failed && r.State != navvy.Failed {
			return nil
		}
		return fn(r, value)
	}
	if len(sel.Indexes) == 0 {
		return e.store.Scan(ctx, driver.Prefix(jobKey(tableResult, id)), visit)
	}
	for _, i := range sel.Indexes {
		key := indexKey(tableResult, id, i)
		value, err := e.store.Get(ctx, key)
		if errors.Is(err, navvy.ErrNotFound) {
			continue
		} else if err != nil {
			return err
		}
		if err := visit(key, value); err != nil {
			return err
		}
	}
	return nil
}

// finishRetry moves the results that a decided retry is about to history, if
// there is one. It can be run again: what has moved is no longer there.
func (e *Engine) finishRetry(ctx context.Context, id navvy.JobID) error {
	stored, err := e.store.Get(ctx, jobKey(tableRetry, id))
	if errors.Is(err, navvy.ErrNotFound) {
		return nil
	} else if err != nil {
		return fmt.Errorf("engine: retry of job %s: %w", id, err)
	}
	sel, err := decodeRetry(stored)
	if err != nil {
		return err
	}
	state, err := e.State(ctx, id)
	if err != nil {
		return err
	}
	var moves driver.Batch
	flush := func() error {
		staged := moves
		moves = driver.Batch{}
		return e.committer.do(ctx, func(t *tx) error {
			t.batch.Append(&staged)
			return nil
		})
	}
	err = e.selected(ctx, id, sel, state.Round, func(r *navvy.Result, value []byte) error {
		moves.Put(historyKey(r.Task, r.Round), slices.Clone(value))
		moves.Delete(indexKey(tableResult, id, r.Task.Index))
		if moves.Size() < maxCommit {
			return nil
		}
		return flush()
	})
	if err != nil {
		return fmt.Errorf("engine: retry of job %s: %w", id, err)
	}
	moves.Delete(jobKey(tableRetry, id))
	moves.DeleteRange(jobKey(tablePrinted, id), driver.PrefixEnd(jobKey(tablePrinted, id)))
	return flush()
}
