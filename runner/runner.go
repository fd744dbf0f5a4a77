// Package runner runs attempts on any driver: it starts them, journals them so
// that nothing is left running unseen, bounds their time, stops them in two
// phases, collects their output and judges how they ended.
package runner

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/output"
	"github.com/navvy-run/navvy/runner/driver"
)

// Runner runs the attempts of one driver. All methods may be called at once.
type Runner struct {
	now     func() time.Time
	driver  driver.Driver
	first   driver.Capabilities // when it was made, see can
	late    driver.Latecomer    // the driver, if it is one
	journal *Journal
	worker  string
	log     *slog.Logger

	mu   sync.Mutex
	left []Entry // of an earlier navvy, which may live on
}

// Options configure New.
type Options struct {
	// Journal remembers what runs. Defaults to none: what a killed navvy left
	// running is then not found again.
	Journal *Journal
	// Worker is the name that attempts bear. Defaults to none.
	Worker string
	// Logger takes what goes wrong beside an attempt. Defaults to dropping it.
	Logger *slog.Logger
	// Clock tells when attempts start and end. Defaults to time.Now.
	Clock func() time.Time
}

// New returns a runner on a driver, which Close closes.
func New(d driver.Driver, o *Options) *Runner {
	if o == nil {
		o = &Options{}
	}
	r := &Runner{driver: d, journal: o.Journal, worker: o.Worker, log: o.Logger}
	r.late, _ = d.(driver.Latecomer)
	r.first = d.Capabilities()
	if r.now = o.Clock; r.now == nil {
		r.now = time.Now
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	return r
}

// Close closes the driver. All runs must have ended.
func (r *Runner) Close() error { return r.driver.Close() }

// Vacate ends what the driver keeps of other owners than this one, where attempts of
// different owners cannot be kept apart: see driver.Vacater. No attempt of theirs runs.
func (r *Runner) Vacate(ctx context.Context, owner string) error {
	if v, ok := r.driver.(driver.Vacater); ok {
		return v.Vacate(ctx, owner)
	}
	return nil
}

// Settles tells whether the driver wants to know which attempts are settled.
func (r *Runner) Settles() bool {
	_, ok := r.driver.(driver.Settler)
	return ok
}

// Settled says that the result of the attempt with this token is kept, or not wanted: see
// driver.Settler.
func (r *Runner) Settled(token string) {
	if s, ok := r.driver.(driver.Settler); ok {
		s.Settled(token)
	}
}

// Left gives the runner the journal's entries of an earlier navvy that may live on: what
// RecoverAll has returned. It is called before anything runs.
func (r *Runner) Left(list []Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range list {
		if list[i].Kind == r.first.Kind {
			r.left = append(r.left, list[i])
		}
	}
}

// Why tells in words what the attempt with this token waits for; empty if for nothing that is
// known: see driver.Explainer.
func (r *Runner) Why(ctx context.Context, token string) string {
	if e, ok := r.driver.(driver.Explainer); ok {
		return e.Why(ctx, token)
	}
	return ""
}

// Capabilities are the driver's.
func (r *Runner) Capabilities() driver.Capabilities { return *r.can() }

// Come is closed once the driver does its work here, if that may yet come to pass: see
// driver.Latecomer. Nil otherwise.
func (r *Runner) Come() <-chan struct{} {
	if r.late == nil {
		return nil
	}
	return r.late.Come()
}

// can is what the driver can do now.
func (r *Runner) can() *driver.Capabilities {
	if r.late == nil {
		return &r.first
	}
	now := r.driver.Capabilities()
	return &now
}

// Task is one attempt to run.
type Task struct {
	// Task is what the driver is given, less Stdout, Stderr and Value, which are the runner's.
	driver.Task
	// Sink takes the output if it is long, or watched. Nil makes long output an
	// error. It is done with when Do returns, but for an attempt that is lost
	// because nothing ended it.
	Sink output.Sink
}

// Prepare returns the run of a task, which has not begun.
func (r *Runner) Prepare(t *Task) *Run {
	x := &Run{runner: r, task: t.Task}
	if r.can().Output {
		x.output = output.NewCollector(watchedSink{t.Sink, x})
		if t.Spec != nil && t.Spec.Limits.Output > 0 {
			x.output.Limit(t.Spec.Limits.Output, x.tooMuchOutput)
		}
		x.task.Stdout, x.task.Stderr, x.task.Value = x.output.Stdout(), x.output.Stderr(), x.output.Value()
	}
	return x
}

// Run runs a task to its end. When ctx ends it is stopped in both phases.
func (r *Runner) Run(ctx context.Context, t *Task) *navvy.Attempt {
	x := r.Prepare(t)
	if ctx.Done() != nil {
		defer context.AfterFunc(ctx, func() { x.Stop(false) })()
	}
	return x.Do()
}
