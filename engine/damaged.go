package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// Owns tells whether a job is in the list of an owner's jobs, also if its own
// records are damaged. It reads the whole list.
func (e *Engine) Owns(ctx context.Context, owner string, id navvy.JobID) (bool, error) {
	keys, err := e.keysOf(ctx, ownerPrefix(owner), id)
	return len(keys) > 0, err
}

// keysOf gives the keys with a prefix that end in the id of a job.
func (e *Engine) keysOf(ctx context.Context, prefix []byte, id navvy.JobID) ([][]byte, error) {
	var keys [][]byte
	err := e.store.Scan(ctx, driver.Prefix(prefix), func(key, _ []byte) error {
		if keyJob(key) == id {
			keys = append(keys, slices.Clone(key))
		}
		return nil
	})
	return keys, err
}

// RemoveDamaged is Remove for a job whose state or description cannot be read,
// so that nobody knows whether it has ended. It looks at the keys of all jobs to
// find what names this one. A job that can be read is ErrConflict.
func (e *Engine) RemoveDamaged(ctx context.Context, id navvy.JobID) error {
	if _, _, err := e.Job(ctx, id); err == nil {
		return fmt.Errorf("job %s is not damaged: %w", id, navvy.ErrConflict)
	} else if !errors.Is(err, navvy.ErrCorrupt) {
		return err
	}
	names, err := e.namesOf(ctx, id) // nobody adds to them: no step reads such a job
	if err != nil {
		return fmt.Errorf("engine: look for what names job %s: %w", id, err)
	}
	err = e.committer.do(ctx, func(t *tx) error {
		s, err := t.load(id)
		if errors.Is(err, navvy.ErrCorrupt) {
			s, err = t.salvage(id)
		}
		if err != nil {
			return err
		}
		if s.stored == nil || s.state.Removed {
			return noJob(id)
		}
		state := t.touch(s)
		state.Stopped, state.Removed = true, true
		t.put(jobKey(tableTrash, id), nil)
		for _, key := range names {
			t.delete(key)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return e.sweep(context.WithoutCancel(ctx), id) // it is decided
}

// namesOf gives the keys of all indexes that name a job.
func (e *Engine) namesOf(ctx context.Context, id navvy.JobID) ([][]byte, error) {
	names := [][]byte{jobKey(tableOpen, id)}
	for _, table := range []byte{tableLine, tableOwner, tableExpiry} {
		keys, err := e.keysOf(ctx, []byte{table}, id)
		if err != nil {
			return nil, err
		}
		names = append(names, keys...)
	}
	err := e.store.Scan(ctx, driver.Prefix([]byte{tableLetter}), func(key, _ []byte) error {
		if len(key) > idLength+8 && letterJob(key) == id {
			names = append(names, slices.Clone(key))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = e.store.Scan(ctx, driver.Prefix([]byte{tableIdem}), func(key, value []byte) error {
		if string(value) == string(id) {
			names = append(names, slices.Clone(key))
		}
		return nil
	})
	return names, err
}

// salvage is load for a state that cannot be read: an empty one takes its place.
// What it weighed is what is left of the size of the data without all the others.
func (t *tx) salvage(id navvy.JobID) (*stateInTx, error) {
	stored, err := t.store.Get(t.ctx, jobKey(tableState, id))
	if err != nil {
		return nil, err
	}
	s := &stateInTx{stored: stored, weight: t.committer.size.Load()}
	err = t.store.Scan(t.ctx, driver.Prefix([]byte{tableState}), func(_, value []byte) error {
		if other, err := decodeState(value); err == nil {
			s.weight -= other.weight()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	t.states[id] = s
	return s, nil
}
