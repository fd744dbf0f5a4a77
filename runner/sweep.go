package runner

import (
	"context"
	"errors"
	"slices"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// Adrift is an attempt of which something is left, and which this process may not run.
type Adrift struct {
	driver.Adrift
	// Own says that an earlier process on this data directory has begun it.
	Own bool

	entry *Entry // in the journal, if Own
}

// Adrift lists attempts of which something is left: those that an earlier process on this
// directory has journaled, and those that the driver sees, among them what this process runs.
// What becomes of them is for whoever knows whether an answer is wanted.
func (r *Runner) Adrift() []Adrift {
	r.mu.Lock()
	var list []Adrift
	own := map[string]bool{}
	for i := range r.left {
		e := r.left[i]
		own[e.Token] = true
		list = append(list, Adrift{driver.Adrift{Task: e.Task, Token: e.Token}, true, &e})
	}
	r.mu.Unlock()
	if s, ok := r.driver.(driver.Sweeper); ok {
		for _, a := range s.Adrift() {
			if !own[a.Token] {
				list = append(list, Adrift{Adrift: a})
			}
		}
	}
	return list
}

// Strays has something when it should be looked soon for what is adrift; nil, which never has
// anything, if the driver cannot tell.
func (r *Runner) Strays() <-chan struct{} {
	if s, ok := r.driver.(driver.Strayer); ok {
		return s.Strays()
	}
	return nil
}

// Sweep ends an attempt that is adrift and that nobody waits for. Another attempt that has
// what it began is left alone. It does not wait for the end.
func (r *Runner) Sweep(ctx context.Context, a *Adrift) error {
	if a.entry == nil {
		if s, ok := r.driver.(driver.Sweeper); ok {
			return s.Sweep(ctx, a.Token)
		}
		return nil
	}
	execution, err := r.recoverLeft(ctx, a)
	if err == nil && execution != nil {
		err = execution.Stop(ctx, false)
	}
	if err != nil {
		return err
	}
	return r.forget(a)
}

// Look forgets an attempt of an earlier process of which nothing is left any more, or which
// another attempt has taken over. Where that is not known it stays.
func (r *Runner) Look(ctx context.Context, a *Adrift) error {
	if a.entry == nil {
		return nil
	}
	execution, err := r.recoverLeft(ctx, a)
	if err != nil || execution != nil {
		return err
	}
	return r.forget(a)
}

// recoverLeft takes hold of an attempt of an earlier process; nil if nothing is left of it.
func (r *Runner) recoverLeft(ctx context.Context, a *Adrift) (driver.Execution, error) {
	e := a.entry
	execution, err := r.driver.Recover(ctx, e.Handle, &driver.Task{ID: e.Task, Attempt: e.Attempt, Token: e.Token})
	if errors.Is(err, navvy.ErrNotFound) {
		return nil, nil //nolint:nilnil // nothing is left
	}
	return execution, err
}

func (r *Runner) forget(a *Adrift) error {
	r.mu.Lock()
	r.left = slices.DeleteFunc(r.left, func(e Entry) bool { return e.Token == a.Token })
	r.mu.Unlock()
	return r.journal.Forget(a.entry)
}
