package engine

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// Verified says what Verify has looked at.
type Verified struct {
	Jobs, Inputs, Results, Attempts int64
	Bytes                           int64 // what the jobs weigh together
	Entries                         int64 // of the registry
	Values                          int64 // of the key-value store
	Letters                         int64 // answered messages that nobody has acknowledged
	Logs                            int64 // logs of output
	LogBytes                        int64
	Files                           int64 // that the engine keeps by name
	FileBytes                       int64
	Problems                        int64
}

// Verify reads everything: the store's checksums, each record, each job's
// counts beside its results, each log of output, each file. It calls problem for each thing
// that is wrong, with an error that wraps ErrCorrupt and names it, and returns an
// error only if it could not go on. Nothing may change meanwhile.
func (e *Engine) Verify(ctx context.Context, problem func(error)) (Verified, error) {
	v := &verifier{e: e, ctx: ctx}
	v.problem = func(err error) {
		v.Problems++
		problem(err)
	}
	if check := e.store.Info().Check; check != nil {
		if err := check(ctx); errors.Is(err, navvy.ErrCorrupt) {
			v.problem(err)
		} else if err != nil {
			return v.Verified, fmt.Errorf("engine: verify: %w", err)
		}
	}
	if err := v.letters(); err != nil {
		return v.Verified, err
	}
	err := e.store.Scan(ctx, driver.Prefix([]byte{tableState}), func(key, value []byte) error {
		state, err := decodeState(value)
		if err != nil {
			v.problem(fmt.Errorf("job %s: %w", key[1:], err))
			return nil
		}
		if !state.Removed {
			v.Jobs++
			v.Bytes += state.weight()
			return v.job(navvy.JobID(key[1:]), &state)
		}
		return nil
	})
	if err == nil {
		err = v.indexes()
	}
	if err == nil {
		err = v.registry()
	}
	if err == nil {
		err = v.values()
	}
	if err == nil {
		err = v.files()
	}
	if size := e.Size(); err == nil && size != v.Bytes {
		v.corrupt("all jobs together are counted as %d bytes, and add up to %d", size, v.Bytes)
	}
	return v.Verified, err
}

type verifier struct {
	Verified
	e       *Engine
	ctx     context.Context //nolint:containedctx // of the one call of Verify
	problem func(error)
	// lettersOf is how many letters there are of each job.
	lettersOf map[navvy.JobID]int64
}

// found passes on what is corrupt, and stops at other errors.
func (v *verifier) found(err error) error {
	if errors.Is(err, navvy.ErrCorrupt) || errors.Is(err, navvy.ErrNotFound) {
		v.problem(err)
		return nil
	}
	return err
}

func (v *verifier) corrupt(format string, args ...any) {
	v.problem(fmt.Errorf(format+": %w", append(args, navvy.ErrCorrupt)...))
}

// job checks one job and what belongs to it.
func (v *verifier) job(id navvy.JobID, state *State) error {
	if _, _, err := v.e.Job(v.ctx, id); err != nil {
		return v.found(err)
	}
	if err := v.inputs(id, state); err != nil {
		return err
	}
	var succeeded, failed int64
	var used State // as counted here
	err := v.e.store.Scan(v.ctx, driver.Prefix(jobKey(tableResult, id)), func(key, value []byte) error {
		task := navvy.TaskID{Job: id, Index: keyIndex(key)}
		r, err := decodeResult(task, value)
		if err != nil {
			return v.found(err)
		}
		v.Results++
		used.ended(&r.Attempt)
		if r.State == navvy.Succeeded {
			succeeded++
		} else {
			failed++
		}
		if task.Index >= state.Total {
			v.corrupt("task %s has a result, and the job has only %d tasks", task, state.Total)
		}
		return v.output(task, &r.Attempt)
	})
	if err != nil {
		return err
	}
	if succeeded != state.Succeeded || failed != state.Failed {
		v.corrupt("job %s counts %d succeeded and %d failed tasks, and has %d and %d results", id, state.Succeeded, state.Failed, succeeded, failed)
	}
	if n := v.lettersOf[id]; n != state.Letters {
		v.corrupt("job %s counts %d letters, and has %d", id, state.Letters, n)
	}
	if err := v.attempts(id, &used); err != nil {
		return err
	}
	return v.used(id, state, &used)
}

// used compares what the attempts used with what the job says: it knows of fewer
// if an older navvy has kept some.
func (v *verifier) used(id navvy.JobID, state, used *State) error {
	err := v.e.History(v.ctx, navvy.TaskID{Job: id, Index: -1}, func(r *navvy.Result) error {
		used.ended(&r.Attempt)
		return nil
	})
	if err != nil {
		return v.found(err)
	}
	if state.Attempts > used.Attempts || state.Attempts == used.Attempts && state.Usage != used.Usage {
		v.corrupt("job %s counts %d attempts that used %+v, and has %d that used %+v", id, state.Attempts, state.Usage, used.Attempts, used.Usage)
	}
	return nil
}

// inputs checks that every task has its input.
func (v *verifier) inputs(id navvy.JobID, state *State) error {
	for next := int64(0); next < state.Total; {
		chunk, err := v.e.Inputs(v.ctx, id, next)
		if err != nil {
			return v.found(fmt.Errorf("input %d of job %s: %w", next, id, err))
		}
		v.Inputs += chunk.End() - next
		next = chunk.End()
	}
	return nil
}

func (v *verifier) attempts(id navvy.JobID, used *State) error {
	err := v.e.Attempts(v.ctx, id, -1, func(task navvy.TaskID, a *navvy.Attempt) error {
		v.Attempts++
		if a.Outcome != navvy.OutcomeStale {
			used.ended(a)
		}
		return v.output(task, a)
	})
	return v.found(err)
}

// output reads a log and judges its checksum.
func (v *verifier) output(task navvy.TaskID, a *navvy.Attempt) error {
	if !a.Output.Logged {
		return nil
	}
	v.Logs++
	r, err := v.e.ReadOutput(v.ctx, task, a.ID, &a.Output)
	if err != nil {
		return v.found(err)
	}
	n, err := io.Copy(io.Discard, r)
	v.LogBytes += n
	return v.found(errors.Join(err, r.Close()))
}

// indexes checks that what points to a job points to one that exists.
func (v *verifier) indexes() error {
	for _, table := range []byte{tableLine, tableOwner, tableExpiry} {
		err := v.e.store.Scan(v.ctx, driver.Prefix([]byte{table}), func(key, _ []byte) error {
			id := keyJob(key)
			if _, err := v.e.State(v.ctx, id); errors.Is(err, navvy.ErrNotFound) {
				v.corrupt("the index %q names job %s, which does not exist", table, id)
			} else if err != nil {
				return v.found(err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// registry reads each entry.
func (v *verifier) registry() error {
	return v.e.store.Scan(v.ctx, driver.Prefix([]byte{tableRegistry}), func(key, value []byte) error {
		v.Entries++
		kind, name, err := splitEntryKey(key)
		if err == nil {
			_, err = decodeEntry(kind, name, value)
		}
		return v.found(err)
	})
}
