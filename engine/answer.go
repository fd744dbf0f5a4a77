package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/navvy-run/navvy"
)

// Report is an attempt that ended and is the task's result, if nothing speaks against it.
type Report struct {
	Job    *navvy.Job
	Result navvy.Result
	// State is what the caller believes the job's state to be, nil if it does not know. It
	// spares a read; where it is not what is stored, what is stored counts.
	State *State
	// Log is the log that the result's output lies in, if it is a logged one.
	Log *OutputLog
}

// Verdict is what became of a report. Err is nil if it is the task's result now;
// ErrExists if the task has one already, ErrConflict if it was stopped,
// ErrNotFound if the job is gone: the attempt is then kept as a stale one where there
// is a job to keep it with. ErrCorrupt says that the job's state is damaged. Any
// other error says that it is open.
type Verdict struct {
	State State // of the job, afterwards
	Err   error
}

// Answer makes results durable, each only if its task has none, and returns one
// verdict for each, in order. Output that lies in a log is durable before its result is.
func (e *Engine) Answer(ctx context.Context, reports []Report) []Verdict {
	verdicts := make([]Verdict, len(reports))
	for i := range reports {
		verdicts[i].Err = e.syncOutput(ctx, reports[i].Result.Task, reports[i].Log, &reports[i].Result.Output)
	}
	err := e.committer.do(ctx, func(t *tx) error {
		for i := range reports {
			if v := &verdicts[i]; v.Err == nil || refused(v.Err) {
				v.Err = t.answer(&reports[i])
				if v.Err != nil && !ofOne(v.Err) {
					return v.Err
				}
			}
		}
		for i := range reports {
			if s, ok := t.states[reports[i].Job.ID]; ok {
				verdicts[i].State = s.state
			}
		}
		return nil
	})
	if errors.Is(err, navvy.ErrConflict) && len(reports) > 1 {
		// The store knows better than we did: judge each alone.
		for i := range reports {
			verdicts[i] = e.Answer(ctx, reports[i:i+1])[0]
		}
		return verdicts
	}
	for i := range verdicts {
		if err != nil && verdicts[i].Err == nil {
			verdicts[i].Err = fmt.Errorf("engine: keep the result of %s: %w", reports[i].Result.Task, err)
		}
	}
	return verdicts
}

// refused tells whether a verdict is a decision, rather than an accident.
func refused(err error) bool {
	return errors.Is(err, navvy.ErrExists) || errors.Is(err, navvy.ErrConflict) || errors.Is(err, navvy.ErrNotFound)
}

// ofOne tells whether a verdict is about one report, so that the others are
// judged: a decision, or a job whose state is damaged.
func ofOne(err error) bool { return refused(err) || errors.Is(err, navvy.ErrCorrupt) }

// answer stages one result, or its attempt as a stale one.
func (t *tx) answer(r *Report) error {
	task := r.Result.Task
	t.believe(task, r.State)
	state, err := t.state(task.Job)
	if err != nil {
		return err
	}
	if task.Index < 0 || task.Index >= state.Total {
		return fmt.Errorf("task %s: the job has %d tasks: %w", task, state.Total, navvy.ErrNotFound)
	}
	key := appendIndexKey(t.room(keyRoom), tableResult, task.Job, task.Index)
	if state.Stopped {
		return t.refuse(r, fmt.Errorf("task %s was stopped: %w", task, navvy.ErrConflict))
	}
	if has, err := t.hasResult(task, key); err != nil {
		return err
	} else if has {
		return t.refuse(r, fmt.Errorf("task %s has a result: %w", task, navvy.ErrExists))
	}
	r.Result.Round = state.Round
	if !t.states[task.Job].blank {
		t.batch.IfAbsent(key)
	}
	t.put(key, appendResult(t.room(attemptRoom(&r.Result.Attempt)), &r.Result))
	t.answered[task] = struct{}{}
	t.added = append(t.added, task)
	state = t.touch(t.states[task.Job])
	state.ended(&r.Result.Attempt)
	state.Bytes += resultOverhead + int64(len(r.Result.Output.Inline))
	if r.Result.Output.Logged {
		state.Bytes += r.Result.Output.Length
	}
	if r.Result.State == navvy.Succeeded {
		state.Succeeded++
	} else {
		state.Failed++
	}
	if r.Job.Responses {
		t.post(r.Job, &r.Result, state)
	}
	if state.Ended() {
		t.end(r.Job, state)
	}
	return nil
}

// believe takes a caller's word for a job's state, if the result will be accepted then:
// so the state is written, under the condition that it was what we were told, and no
// decision stands on a belief that nobody checks.
func (t *tx) believe(task navvy.TaskID, told *State) {
	if told == nil || t.alone || told.Stopped || told.Removed || task.Index < 0 || task.Index >= told.Total || t.states[task.Job] != nil {
		return
	}
	t.states[task.Job] = known(*told, encodeState(told))
	t.believed = append(t.believed, task.Job)
}

// refuse keeps the attempt of a report as a stale one; the error is why.
func (t *tx) refuse(r *Report, why error) error {
	_, err := t.stale(r.Result.Task, &r.Result.Attempt, nil)
	return cmp.Or(err, why)
}

// hasResult trusts the caller, and the condition in the store, not to bring a
// second result; only when that condition has failed does it look.
func (t *tx) hasResult(task navvy.TaskID, key []byte) (bool, error) {
	if _, ok := t.answered[task]; ok {
		return true, nil
	}
	if !t.alone {
		return false, nil
	}
	_, err := t.store.Get(t.ctx, key)
	if errors.Is(err, navvy.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// stale keeps an attempt that came too late. If it was given up as lost before,
// it stays lost, which counts, and its end is filled in, with what it used. If it
// is on record already, this is a second report of it, and void. before is what
// this commit puts on record, nil if nothing. The caller has read the job's state.
// It returns what is on record then.
func (t *tx) stale(task navvy.TaskID, a, before *navvy.Attempt) (*navvy.Attempt, error) {
	late := *a
	late.Outcome = navvy.OutcomeStale
	key := attemptKey(task, late.ID)
	if before == nil {
		stored, err := t.store.Get(t.ctx, key)
		if err == nil {
			before, err = decodeAttempt(task, stored)
		}
		if err != nil && !errors.Is(err, navvy.ErrNotFound) {
			return nil, err
		}
	}
	if before != nil {
		if before.Outcome != navvy.OutcomeLost {
			return before, nil
		}
		late.Outcome, late.Reason, late.Message = before.Outcome, before.Reason, before.Message
		switch {
		case before.Usage != (navvy.Usage{}):
			late.Usage = before.Usage // which is counted
		case late.Usage != (navvy.Usage{}):
			t.touch(t.states[task.Job]).Usage.Add(&late.Usage)
		}
	}
	t.put(key, encodeAttempt(&late))
	return &late, nil
}

// Ended is an attempt that ended without being its task's result.
type Ended struct {
	Task    navvy.TaskID
	Attempt navvy.Attempt
	Log     *OutputLog
}

// KeepAttempts makes attempts durable that did not win: failed ones that will be
// tried again, lost and interrupted ones. Those of a removed job are dropped, and
// of one whose state is damaged. It returns the states of the others' jobs, afterwards.
func (e *Engine) KeepAttempts(ctx context.Context, ended []Ended) (map[navvy.JobID]State, error) {
	for i := range ended {
		err := e.syncOutput(ctx, ended[i].Task, ended[i].Log, &ended[i].Attempt.Output)
		if err != nil && !errors.Is(err, navvy.ErrNotFound) {
			return nil, err
		}
	}
	states := map[navvy.JobID]State{}
	err := e.committer.do(ctx, func(t *tx) error {
		kept := map[string]*navvy.Attempt{}
		for i := range ended {
			task, a := ended[i].Task, &ended[i].Attempt
			if _, err := t.state(task.Job); errors.Is(err, navvy.ErrNotFound) || errors.Is(err, navvy.ErrCorrupt) {
				continue
			} else if err != nil {
				return err
			}
			key := attemptKey(task, a.ID)
			if a.Outcome == navvy.OutcomeStale {
				late, err := t.stale(task, a, kept[string(key)])
				if err != nil {
					return err
				}
				kept[string(key)] = late
				continue
			}
			t.put(key, encodeAttempt(a))
			kept[string(key)] = a
			t.touch(t.states[task.Job]).ended(a)
		}
		for i := range ended {
			if s, ok := t.states[ended[i].Task.Job]; ok && s.edited {
				states[ended[i].Task.Job] = s.state
			}
		}
		return nil
	})
	return states, err
}
