package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/driver"
)

// Event tells of a change while a plan is carried out.
type Event struct {
	Change *Change
	Phase  Phase
	Took   time.Duration // of one that is over
	Err    error         // of one that failed, or why it was left out
}

// Phase says how far a change is.
type Phase string

// The phases of a change.
const (
	Begun  Phase = "begun"
	Done   Phase = "done"
	Failed Phase = "failed"
	// Forgotten is one of Options.Force: Err is the *driver.AwayError.
	Forgotten Phase = "forgotten"
	Left      Phase = "left out" // since what it waits for has failed, or it was interrupted
)

// FailedError tells which changes of a plan failed. Whatever did not need them was made; who
// applies once more goes on from there.
type FailedError struct {
	Cluster string
	Failed  []Event // in the order in which they failed
	Left    []Event
	Done    int
}

// Error names the first ones.
func (e *FailedError) Error() string {
	const shown = 5
	var b strings.Builder
	fmt.Fprintf(&b, "cluster %s: %d of %d changes failed", e.Cluster, len(e.Failed), len(e.Failed)+len(e.Left)+e.Done)
	if n := len(e.Left); n > 0 {
		fmt.Fprintf(&b, " and %d that wait for them were left out", n)
	}
	for i := range e.Failed[:min(shown, len(e.Failed))] {
		fmt.Fprintf(&b, "\n  %s: %v", e.Failed[i].Change.ID, e.Failed[i].Err)
	}
	if n := len(e.Failed) - shown; n > 0 {
		fmt.Fprintf(&b, "\n  and %d more", n)
	}
	return b.String()
}

// Unwrap gives what failed.
func (e *FailedError) Unwrap() []error {
	errs := make([]error, len(e.Failed))
	for i := range e.Failed {
		errs[i] = e.Failed[i].Err
	}
	return errs
}

// run carries out a plan.
type run struct {
	driver driver.Driver
	forget driver.Forgetter // nil if nothing is forgotten
	plan   *Plan
	room   chan struct{} // one for each change that is made at once
	tell   func(Event)

	mu     sync.Mutex // also around tell
	result FailedError
}

// carryOut makes the changes of a plan, so many at once as there is room for. What fails does
// not keep others from being made that do not need it. The error is a *FailedError, or that of
// ctx.
func carryOut(ctx context.Context, r *run, p *Plan, most int) error {
	r.plan, r.room, r.result = p, make(chan struct{}, most), FailedError{Cluster: p.Cluster}
	puts := make([]*step, 0, len(p.Changes))
	var removals []*step
	for i := range p.Changes {
		s := &step{change: &p.Changes[i], over: make(chan struct{})}
		if s.change.Action == Remove {
			removals = append(removals, s)
		} else {
			puts = append(puts, s)
		}
	}
	r.all(ctx, puts, needed)
	r.all(ctx, r.keep(removals), needing)
	if len(r.result.Failed) == 0 && len(r.result.Left) == 0 {
		return nil
	}
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("cluster %s: interrupted after %d of %d changes: %w", p.Cluster, r.result.Done, len(p.Changes), err)
	}
	return &r.result
}

// errKept says why a removal was left out.
var errKept = errors.New("something else failed, and with it more would be lost")

// keep leaves out the removals that lose something, if anything has failed before: what was to
// come in their place may not be there.
func (r *run) keep(removals []*step) []*step {
	if len(r.result.Failed) == 0 && len(r.result.Left) == 0 {
		return removals
	}
	for _, s := range removals {
		if s.change.Holds != "" {
			s.failed, s.kept = true, true
		}
	}
	return removals
}

// step is a change that is made.
type step struct {
	change *Change
	after  []*step
	over   chan struct{} // closed when it was made, or not
	failed bool          // to be read when it is over
	kept   bool          // it is left out from the beginning
}

// needed has each step wait for what it needs.
func needed(byID map[driver.ID]*step) {
	for _, s := range byID {
		for _, id := range s.change.needs {
			if of := byID[id]; of != nil {
				s.after = append(s.after, of)
			}
		}
	}
}

// needing has each step wait for what needs it, and the mark for all.
func needing(byID map[driver.ID]*step) {
	for _, s := range byID {
		for _, id := range s.change.needs {
			if of := byID[id]; of != nil && id.Kind != driver.KindCluster {
				of.after = append(of.after, s)
			}
		}
	}
	for _, mark := range byID {
		if mark.change.Kind != driver.KindCluster {
			continue
		}
		for _, s := range byID {
			if s != mark {
				mark.after = append(mark.after, s)
			}
		}
	}
}

// all makes changes, each after those that it has to wait for.
func (r *run) all(ctx context.Context, steps []*step, link func(map[driver.ID]*step)) {
	byID := make(map[driver.ID]*step, len(steps))
	for _, s := range steps {
		byID[s.change.ID] = s
	}
	link(byID)
	var running sync.WaitGroup
	for _, s := range steps {
		running.Go(func() { r.one(ctx, s) })
	}
	running.Wait()
}

// errWaits says why a change was left out.
var errWaits = errors.New("it waits for what failed")

// one makes a change when its time has come.
func (r *run) one(ctx context.Context, s *step) {
	defer close(s.over)
	if s.kept {
		r.note(Event{Change: s.change, Phase: Left, Err: errKept})
		return
	}
	for _, before := range s.after {
		<-before.over
		if before.failed && !s.failed {
			s.failed = true
			r.note(Event{Change: s.change, Phase: Left, Err: fmt.Errorf("%s: %w", before.change.ID, errWaits)})
		}
	}
	if s.failed {
		return
	}
	select {
	case r.room <- struct{}{}:
		defer func() { <-r.room }()
	case <-ctx.Done():
	}
	if err := context.Cause(ctx); err != nil {
		s.failed = true
		r.note(Event{Change: s.change, Phase: Left, Err: err})
		return
	}
	r.note(Event{Change: s.change, Phase: Begun})
	begun := time.Now()
	err := r.make(ctx, s.change)
	e := Event{Change: s.change, Phase: Done, Err: err}
	if away, is := errors.AsType[*driver.AwayError](err); is && r.forget != nil {
		if err = r.forget.Forget(ctx, r.plan.Cluster, s.change.observed); err == nil {
			e.Phase, e.Err = Forgotten, away
		}
	}
	if s.failed = err != nil; s.failed {
		e.Phase, e.Err = Failed, err
	}
	e.Took = time.Since(begun)
	r.note(e)
}

func (r *run) make(ctx context.Context, c *Change) error {
	if c.Action == Remove {
		return r.driver.Remove(ctx, r.plan.Cluster, c.observed)
	}
	err := r.driver.Put(ctx, r.plan.Cluster, c.resource)
	if errors.Is(err, navvy.ErrExists) {
		err = fmt.Errorf("%w: it was not made for this cluster and is left alone; remove or rename it, or name the cluster otherwise", err)
	}
	return err
}

// note counts and tells.
func (r *run) note(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e.Phase {
	case Done, Forgotten:
		r.result.Done++
	case Failed:
		r.result.Failed = append(r.result.Failed, e)
	case Left:
		r.result.Left = append(r.result.Left, e)
	case Begun:
	}
	if r.tell != nil {
		r.tell(e)
	}
}
