package runner

import (
	"context"
	"log/slog"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// forceEvery is how often a forced stop is repeated: a remote system may not
// have heard the first.
const forceEvery = driver.StopTimeout / 10

// Stop asks the attempt to end, and makes it once its grace is over; with force
// at once. The attempt then ends as interrupted, unless it had ended before. A
// run that has not begun will not begin. Stop does not wait for the end.
func (x *Run) Stop(force bool) { x.stop(causeStopped, force) }

// Leave ends the run, and leaves to itself what it has started if whoever is given the task
// next can take that over (driver.Capabilities.Passes); the attempt ends as interrupted,
// unless it had ended before. Others it stops, as Stop does. One that is being stopped already
// is not left. Leave does not wait for the end.
func (x *Run) Leave(force bool) {
	if !x.runner.can().Passes {
		x.Stop(force)
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.phase != phaseNone {
		return
	}
	x.phase, x.why = phaseAsked, causeLeft
	if x.timer != nil {
		x.timer.Stop()
	}
	if x.cancel != nil {
		x.cancel()
	}
}

// Left tells whether what the run has started goes on without it. It is good once Do has
// returned.
func (x *Run) Left() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.left
}

func (x *Run) stop(why cause, force bool) {
	x.mu.Lock()
	next := phaseAsked
	if force || !x.runner.can().Signals {
		next = phaseForced
	}
	// A forced stop is repeated, nothing else is.
	if x.why == causeLeft || x.phase > next || x.phase == phaseAsked && next == phaseAsked {
		x.mu.Unlock()
		return
	}
	if x.why == causeNone {
		x.why = why
	}
	x.phase = next
	execution := x.execution
	if execution == nil {
		if x.cancel != nil {
			x.cancel()
		}
		x.mu.Unlock()
		return
	}
	x.armLocked()
	x.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), driver.StopTimeout)
	defer cancel()
	if err := execution.Stop(ctx, next == phaseForced); err != nil {
		x.logger().Warn("a stop failed", "err", err)
	}
}

// armLocked sets the timer for what follows the present phase.
func (x *Run) armLocked() {
	if x.timer != nil {
		x.timer.Stop()
	}
	pause := x.grace()
	if x.phase == phaseForced {
		pause = forceEvery
		if x.forced.IsZero() {
			x.forced = time.Now()
		}
		if time.Since(x.forced) >= driver.StopTimeout {
			x.phase = phaseGivenUp
			if x.cancel != nil {
				x.cancel()
			}
			return
		}
	}
	x.timer = time.AfterFunc(pause, func() { x.stop(causeNone, true) })
}

func (x *Run) grace() time.Duration {
	if x.task.Spec == nil || x.task.Spec.Grace <= 0 {
		return navvy.DefaultGrace
	}
	return x.task.Spec.Grace
}

// logger is for what goes wrong beside the attempt.
func (x *Run) logger() *slog.Logger {
	return x.runner.log.With("task", x.task.ID.String(), "attempt", x.task.Attempt.String())
}
