package runner_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/driver/drivertest"
	"github.com/navvy-run/navvy/runner/driver/drivertest/remotetest"
)

// counted counts the stops of an execution.
type counted struct {
	driver.Execution
	stops *atomic.Int64
}

func (c counted) Stop(ctx context.Context, force bool) error {
	c.stops.Add(1)
	return c.Execution.Stop(ctx, force)
}

// passing makes a runner of work that others can take over, or not.
func passing(world *remotetest.World, passes bool, stops *atomic.Int64) *runner.Runner {
	remote := remotetest.New(world)
	return runner.New(&wrapped{
		Driver: remote, caps: func(c *driver.Capabilities) { c.Passes = passes },
		start: func(ctx context.Context, t *driver.Task) (driver.Execution, error) {
			x, err := remote.Start(ctx, t)
			return counted{x, stops}, err
		},
	}, nil)
}

// What others can take over is not stopped when its worker leaves; all else is.
func TestLeave(t *testing.T) {
	t.Parallel()
	for _, passes := range []bool{true, false} {
		world := remotetest.NewWorld()
		spec, _ := world.Spec(drivertest.Work{Stdout: "x", Hang: true})
		sink := newBegan()
		var stops atomic.Int64
		x := passing(world, passes, &stops).Prepare(newTask(spec, sink))
		x.Watch()
		go func() {
			<-sink.signal
			x.Leave(true)
			x.Leave(true)
			if passes {
				x.Stop(true) // somebody who had not heard of it
			}
		}()
		a := x.Do()
		if passes {
			judged{navvy.OutcomeInterrupted, navvy.ReasonAway, "its worker has left: who is given the task next goes on with it"}.check(t, a)
		} else {
			judged{navvy.OutcomeInterrupted, navvy.ReasonStopped, "stopped"}.check(t, a)
		}
		if x.Left() != passes || (stops.Load() == 0) != passes {
			t.Errorf("passes %t: left %t, stopped %d times", passes, x.Left(), stops.Load())
		}
		world.Stop()
	}
}

// What has not begun does not begin, and what has ended has ended.
func TestLeaveEarlyAndLate(t *testing.T) {
	t.Parallel()
	world := remotetest.NewWorld()
	defer world.Stop()
	var stops atomic.Int64
	spec, _ := world.Spec(drivertest.Work{Exit: 3})
	early := passing(world, true, &stops).Prepare(newTask(spec, nil))
	early.Leave(false)
	a := early.Do()
	if a.Outcome != navvy.OutcomeInterrupted {
		t.Errorf("it ended as %+v", a)
	}
	late := passing(world, true, &stops).Prepare(newTask(spec, nil))
	a = late.Do()
	late.Leave(false)
	if a.Exit.Code != 3 || a.Outcome != navvy.OutcomeFailed || late.Left() {
		t.Errorf("it ended as %+v, left %t", a, late.Left())
	}
}
