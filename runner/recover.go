package runner

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// recoverAtOnce is how many attempts are recovered at the same time.
const recoverAtOnce = 256

// RecoverAll ends what an earlier navvy left running of the kinds that cannot
// live on, and returns the entries of the others, for Adopt or End. An entry
// that could not be dealt with stays in the journal, and the error says why.
func RecoverAll(ctx context.Context, j *Journal, drivers ...driver.Driver) (adoptable []Entry, err error) {
	byKind := make(map[string]driver.Driver, len(drivers))
	for _, d := range drivers {
		byKind[d.Capabilities().Kind] = d
	}
	var (
		mu    sync.Mutex
		errs  []error
		ends  sync.WaitGroup
		slots = make(chan struct{}, recoverAtOnce)
	)
	failed := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		errs = append(errs, err)
	}
	for _, e := range j.Left() {
		d, ok := byKind[e.Kind]
		switch {
		case !ok:
			failed(fmt.Errorf("runner: recover %s: this navvy has no driver for kind %q: %w", e.Task, e.Kind, navvy.ErrUnsupported))
			continue
		case d.Capabilities().Adopts:
			adoptable = append(adoptable, e)
			continue
		}
		slots <- struct{}{}
		ends.Go(func() {
			defer func() { <-slots }()
			if err := end(ctx, j, d, &e); err != nil {
				failed(err)
			}
		})
	}
	ends.Wait()
	return adoptable, errors.Join(errs...)
}

// End ends what is left of an attempt that nobody wants any more, and forgets it.
func (r *Runner) End(ctx context.Context, e *Entry) error { return end(ctx, r.journal, r.driver, e) }

func end(ctx context.Context, j *Journal, d driver.Driver, e *Entry) error {
	t := driver.Task{ID: e.Task, Attempt: e.Attempt, Token: e.Token}
	execution, err := d.Recover(ctx, e.Handle, &t)
	if err == nil {
		if err = execution.Stop(ctx, true); err == nil {
			_, err = execution.Wait(ctx)
		}
	}
	if err != nil && !errors.Is(err, navvy.ErrNotFound) {
		return fmt.Errorf("runner: recover %s attempt %s: %w", e.Task, e.Attempt, err)
	}
	return j.Release(e.slot)
}

// Adopt returns the run of an attempt that an earlier navvy started, as if this
// one had: its Do waits for the end, and its output comes from the first byte.
// The error wraps navvy.ErrNotFound if nothing is left of it; any other leaves
// the entry in the journal.
func (r *Runner) Adopt(ctx context.Context, e *Entry, t *Task) (*Run, error) {
	x := r.Prepare(t)
	x.slot, x.journaled, x.since = e.slot, true, e.Started
	x.task.Began = e.Started
	execution, err := r.driver.Recover(ctx, e.Handle, &x.task)
	if errors.Is(err, navvy.ErrNotFound) {
		err = errors.Join(err, r.journal.Release(e.slot))
	}
	if err != nil {
		return nil, fmt.Errorf("runner: adopt %s attempt %s: %w", e.Task, e.Attempt, err)
	}
	x.execution = execution
	return x, nil
}
