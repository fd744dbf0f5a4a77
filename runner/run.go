package runner

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/output"
	"github.com/navvy-run/navvy/runner/driver"
)

// Run is one attempt, from before its start to its end. Do is called once, SetEnv and
// Before before it; the other methods at any time, by any number of goroutines.
type Run struct {
	runner    *Runner
	task      driver.Task
	output    *output.Collector // nil if the driver's attempts have no output
	slot      Slot              // in the journal, if journaled
	journaled bool
	before    func(context.Context) error
	since     time.Time // when an adopted attempt began; zero for one that begins here

	mu        sync.Mutex
	execution driver.Execution   // nil until it has started
	cancel    context.CancelFunc // of the start and of the wait; nil before
	phase     phase
	why       cause
	detail    error // what lies behind why, if it is causeOutput
	tooMuch   bool  // it wrote more than its limit, whether it could still be stopped or not
	left      bool  // what it has started goes on
	timer     *time.Timer
	forced    time.Time // when the stop was first forced
}

// phase is how far a run is on its way to a stop.
type phase uint8

const (
	phaseNone phase = iota
	phaseAsked
	phaseForced
	phaseGivenUp
	phaseEnded
)

// cause is why navvy stops a run. The first one counts.
type cause uint8

const (
	causeNone cause = iota
	causeStopped
	causeTimeout
	causeOutput
	causeTooMuch
	causeLeft
)

// Do runs the attempt and returns how it ended. While it waits it keeps little on its stack:
// thousands of containers may be waited for at once.
func (x *Run) Do() *navvy.Attempt {
	started := x.since
	if started.IsZero() {
		started = x.runner.now()
	}
	x.task.Began = started
	end, err := x.startAndWait(started)
	a := &navvy.Attempt{ID: x.task.Attempt, Worker: x.runner.worker, Slot: x.task.Slot, Started: started}
	x.conclude(a, &end, err)
	return a
}

// SetEnv adds to the environment of the attempt, in place of what its spec has under
// these names. It is called before Do, if at all.
func (x *Run) SetEnv(env []string) { x.task.Env = env }

// Before has f called before the attempt starts. ctx ends when the attempt is stopped, also
// by its timeout. An error is the host's fault, and nothing is started. It is called before
// Do, if at all.
func (x *Run) Before(f func(ctx context.Context) error) { x.before = f }

// startAndWait does all that the driver has part in.
func (x *Run) startAndWait(started time.Time) (driver.End, error) {
	ctx, ok := x.begin(started)
	if !ok {
		return driver.End{}, errNotStarted
	}
	if x.execution == nil {
		execution, err := x.start(ctx, started)
		if err != nil {
			x.setEnded()
			return driver.End{}, err
		}
		ctx = x.started(ctx, execution)
	}
	end, err := x.execution.Wait(ctx)
	x.setEnded()
	return end, err
}

// errNotStarted says that the run was stopped before it began.
var errNotStarted = errors.New("stopped before it began")

// begin arms the timeout. It returns false if the run was stopped already.
func (x *Run) begin(started time.Time) (context.Context, bool) {
	ctx, cancel := context.WithCancel(context.Background())
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.phase != phaseNone && x.execution == nil {
		x.phase = phaseEnded
		cancel()
		return nil, false
	}
	x.cancel = cancel
	if t := x.task.Spec.Timeout; t > 0 && x.phase == phaseNone && !x.bounds() {
		x.timer = time.AfterFunc(started.Add(t).Sub(x.runner.now()), func() { x.stop(causeTimeout, false) })
	}
	return ctx, true
}

// start journals the attempt and starts it.
func (x *Run) start(ctx context.Context, started time.Time) (driver.Execution, error) {
	r := x.runner
	if refusal := r.can().Refuse(x.task.Spec); refusal != nil {
		return nil, refusal
	}
	if x.before != nil {
		if err := x.before(ctx); err != nil {
			return nil, err
		}
	}
	if r.journal != nil && r.can().Remains {
		slot, err := r.journal.Reserve(&Entry{
			Kind: r.first.Kind, Task: x.task.ID, Attempt: x.task.Attempt, Token: x.task.Token, Started: started,
		})
		if err != nil {
			return nil, err
		}
		x.slot, x.journaled = slot, true
	}
	execution, err := r.driver.Start(ctx, &x.task)
	if err != nil {
		return nil, err
	}
	if handle := execution.Handle(); x.journaled && handle != nil {
		if err := r.journal.Set(x.slot, handle); err != nil {
			x.logger().Warn("the handle is not journaled", "err", err)
		}
	}
	return execution, nil
}

// started notes that the attempt can be stopped from now on, which it is at once
// if somebody asked for it meanwhile, and returns the context of its wait.
func (x *Run) started(ctx context.Context, execution driver.Execution) context.Context {
	x.mu.Lock()
	x.execution = execution
	phase, why := x.phase, x.why
	if phase == phaseNone || why == causeLeft { // its wait ends at once
		x.mu.Unlock()
		return ctx
	}
	ctx, x.cancel = context.WithCancel(context.Background()) // the start's was ended
	x.phase = phaseNone
	x.mu.Unlock()
	x.stop(why, phase == phaseForced)
	return ctx
}

// bounds tells whether the attempt keeps to its timeout by itself.
func (x *Run) bounds() bool {
	b, ok := x.runner.driver.(driver.Bounder)
	return ok && b.Bounds(&x.task)
}

func (x *Run) setEnded() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.phase != phaseGivenUp {
		x.phase = phaseEnded
	}
	x.cancel()
	if x.timer != nil {
		x.timer.Stop()
	}
}

// conclude judges the end and fills in the rest of the attempt.
func (x *Run) conclude(a *navvy.Attempt, end *driver.End, err error) {
	a.Exit, a.Usage = end.Exit, end.Usage
	a.Outcome, a.Reason, a.Message = x.judge(end, err)
	if x.phase == phaseGivenUp {
		a.Finished = x.runner.now()
		return // something of it still runs and writes; its journal entry stays
	}
	x.takeOutput(a)
	if x.journaled {
		if err := x.runner.journal.Release(x.slot); err != nil {
			x.logger().Warn("the end is not journaled", "err", err)
		}
	}
	a.Finished = x.runner.now()
	if began := a.Finished.Add(-end.Ran); end.Ran > 0 && began.After(a.Started) {
		a.Started = began
	}
}

// takeOutput ends the output. An attempt whose output is incomplete has no answer.
func (x *Run) takeOutput(a *navvy.Attempt) {
	if x.output == nil {
		return
	}
	out, err := x.output.Finish()
	if err == nil {
		a.Output = out
		return
	}
	if a.Outcome != navvy.OutcomeInterrupted && a.Outcome != navvy.OutcomeLost {
		a.Outcome, a.Reason, a.Message = navvy.OutcomeLost, navvy.ReasonLost, lostOutput(err)
	}
}

// Watch makes the output go to the sink from its first byte, as it comes, however short it is.
func (x *Run) Watch() {
	if x.output != nil {
		x.output.Watch()
	}
}

// watchedSink ends a run whose output can no longer be kept: it could not be answered for.
type watchedSink struct {
	sink output.Sink
	run  *Run
}

// Upload implements output.Sink.
func (s watchedSink) Upload(frames []byte) error {
	if s.sink == nil {
		return s.run.giveUpOutput(fmt.Errorf("it is %d bytes or more and there is no sink for it: %w", output.InlineLimit, navvy.ErrUnsupported))
	}
	if err := s.sink.Upload(frames); err != nil {
		return s.run.giveUpOutput(err)
	}
	return nil
}

// tooMuchOutput ends a run that writes more than its limit.
func (x *Run) tooMuchOutput() {
	x.mu.Lock()
	x.tooMuch = true
	x.mu.Unlock()
	go x.stop(causeTooMuch, false) // as in giveUpOutput
}

func (x *Run) giveUpOutput(err error) error {
	x.mu.Lock()
	if x.detail == nil {
		x.detail = err
	}
	x.mu.Unlock()
	// Not here: a driver may want the stream that waits for us before it stops.
	go x.stop(causeOutput, true)
	return err
}
