package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// change is one step of one job: fn alters the state and stages what goes with it.
func (e *Engine) change(ctx context.Context, id navvy.JobID, fn func(*tx, *navvy.Job, *State) error) (State, error) {
	var after State
	err := e.committer.do(ctx, func(t *tx) error {
		state, err := t.edit(id)
		if err != nil {
			return err
		}
		job, err := t.job(id)
		if err != nil {
			return err
		}
		if err := fn(t, job, state); err != nil {
			return err
		}
		after = *state
		return nil
	})
	return after, err
}

// Hold lets no further task of the job start, until Resume. It does nothing to a
// job that has ended or is held already.
func (e *Engine) Hold(ctx context.Context, id navvy.JobID, why string) (State, error) {
	return e.HoldIf(ctx, id, why, func(*State) bool { return true })
}

// HoldIf is Hold, if the state then fits. Steps that come before the decision are
// seen by fits, those that come after undo it.
func (e *Engine) HoldIf(ctx context.Context, id navvy.JobID, why string, fits func(*State) bool) (State, error) {
	return e.change(ctx, id, func(t *tx, job *navvy.Job, state *State) error {
		if !state.Ended() && !state.Held && fits(state) {
			hold(t, job, state, why)
		}
		return nil
	})
}

// HoldAbandoned is Hold for a job whose client was attached in an earlier epoch,
// and has not come back meanwhile. It does nothing to others.
func (e *Engine) HoldAbandoned(ctx context.Context, id navvy.JobID, why string) (State, error) {
	return e.HoldIf(ctx, id, why, func(state *State) bool { return state.HeldIn(e.epoch) })
}

func hold(t *tx, job *navvy.Job, state *State, why string) {
	state.Held, state.Why = true, navvy.Shorten(why)
	t.delete(lineKey(job))
}

// ResumeOptions say how a job goes on.
type ResumeOptions struct {
	// Attached says that a client stays with the job: it is held again when this epoch ends.
	Attached bool
	// Parallelism takes the place of the job's cap; 0 leaves it.
	Parallelism int
}

// Resume frees the job. It does nothing to a job that has ended.
func (e *Engine) Resume(ctx context.Context, id navvy.JobID, o ResumeOptions) (State, error) {
	return e.change(ctx, id, func(t *tx, job *navvy.Job, state *State) error {
		if state.Ended() {
			return nil
		}
		state.Held, state.Attached = false, 0
		if !state.Cut {
			state.Why = ""
		}
		if o.Attached {
			state.Attached = e.epoch
		}
		if o.Parallelism > 0 {
			state.Parallelism = o.Parallelism
		}
		t.put(lineKey(job), nil)
		return nil
	})
}

// Stop ends the job: tasks without a result are stopped, later results refused.
// It does nothing to a job that has ended.
func (e *Engine) Stop(ctx context.Context, id navvy.JobID, why string) (State, error) {
	return e.change(ctx, id, func(t *tx, job *navvy.Job, state *State) error {
		if !state.Ended() {
			stop(t, job, state, why)
		}
		return nil
	})
}

func stop(t *tx, job *navvy.Job, state *State, why string) {
	state.Stopped, state.Held, state.Why = true, false, navvy.Shorten(why)
	t.end(job, state)
}

// end stages what goes with the end of a job; the caller stages the state.
func (t *tx) end(job *navvy.Job, state *State) {
	t.delete(lineKey(job))
	state.Finished = t.opts.Clock().UTC()
	if state.Letters == 0 { // else the last one's end decides
		t.expire(job.ID, state, t.opts.KeepUnread)
	}
}

// expire sets when an ended job is removed, counted from its end.
func (t *tx) expire(id navvy.JobID, state *State, keep time.Duration) {
	if !state.Expires.IsZero() {
		t.delete(timeKey(tableExpiry, state.Expires, id))
	}
	state.Expires = state.Finished.Add(keep)
	t.put(timeKey(tableExpiry, state.Expires, id), nil)
}

// reopen takes the end of a job back.
func (t *tx) reopen(job *navvy.Job, state *State) {
	if !state.Expires.IsZero() {
		t.delete(timeKey(tableExpiry, state.Expires, job.ID))
	}
	state.Stopped, state.Read, state.Why = false, false, ""
	state.Finished, state.Expires = time.Time{}, time.Time{}
	if !state.Held {
		t.put(lineKey(job), nil)
	}
}

// MarkRead notes that somebody has read all answers of an ended job, which then
// expires earlier, though never within a day from now.
func (e *Engine) MarkRead(ctx context.Context, id navvy.JobID) error {
	_, err := e.change(ctx, id, func(t *tx, job *navvy.Job, state *State) error {
		if state.Read || !state.Ended() {
			return nil
		}
		state.Read = true
		if state.Letters > 0 {
			return nil // its letters have not been acknowledged
		}
		soonest := e.opts.Clock().Add(min(e.opts.KeepRead, 24*time.Hour)).Sub(state.Finished)
		t.expire(id, state, max(e.opts.KeepRead, soonest))
		return nil
	})
	return err
}

// Remove deletes a job with all that belongs to it: first it is gone for
// everybody, then its data goes. A job that has not ended is ErrConflict.
func (e *Engine) Remove(ctx context.Context, id navvy.JobID) error {
	return e.removeIf(ctx, id, func(*State) bool { return true })
}

// removeIf is Remove, if the state then fits; ErrConflict if not.
func (e *Engine) removeIf(ctx context.Context, id navvy.JobID, fits func(*State) bool) error {
	_, err := e.change(ctx, id, func(t *tx, job *navvy.Job, state *State) error {
		if !state.Ended() {
			return fmt.Errorf("job %s has not ended; stop it first: %w", id, navvy.ErrConflict)
		}
		if !fits(state) {
			return fmt.Errorf("job %s has changed in between: %w", id, navvy.ErrConflict)
		}
		if err := t.noteCopied(e, job); err != nil {
			return err
		}
		state.Removed = true // from now on it weighs nothing
		t.dropLetters(job, state)
		t.put(jobKey(tableTrash, id), nil)
		t.delete(lineKey(job))
		t.delete(ownerKey(job.Owner, job.Accepted, id))
		t.delete(jobKey(tableOpen, id))
		if !state.Expires.IsZero() {
			t.delete(timeKey(tableExpiry, state.Expires, id))
		}
		if job.IdempotencyKey != "" {
			t.delete(idempotencyKey(job.Owner, job.IdempotencyKey))
		}
		return nil
	})
	if err != nil {
		return err
	}
	return e.sweep(context.WithoutCancel(ctx), id) // it is decided
}

// sweep removes the data of a job whose tombstone stands, the tombstone last.
func (e *Engine) sweep(ctx context.Context, id navvy.JobID) error {
	if err := e.dropData(ctx, id); err != nil {
		return err
	}
	return e.committer.do(ctx, func(t *tx) error {
		t.delete(jobKey(tableJob, id))
		t.delete(jobKey(tableState, id))
		t.delete(jobKey(tableTrash, id))
		return nil
	})
}

// discard removes what a secret submission has left.
func (e *Engine) discard(ctx context.Context, id navvy.JobID) error {
	if err := e.dropData(ctx, id); err != nil {
		return err
	}
	return e.committer.do(ctx, func(t *tx) error {
		t.delete(jobKey(tableOpen, id))
		return nil
	})
}

func (e *Engine) dropData(ctx context.Context, id navvy.JobID) error {
	err := e.committer.do(ctx, func(t *tx) error {
		for _, table := range []byte{tableInput, tableResult, tableAttempt, tableHistory, tablePrinted, tableRetry} {
			p := jobKey(table, id)
			t.batch.DeleteRange(p, driver.PrefixEnd(p))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("engine: remove the data of job %s: %w", id, err)
	}
	if err := e.store.DropLogs(ctx, string(id)); err != nil {
		return fmt.Errorf("engine: remove the logs of job %s: %w", id, err)
	}
	return nil
}
