package runner_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/noop"
)

// given is an execution that ends after some time, or when it is stopped, in a given way.
type given struct {
	end   driver.End
	after time.Duration
	stop  chan struct{}
}

func (*given) Handle() []byte { return nil }

func (g *given) Wait(ctx context.Context) (driver.End, error) {
	select {
	case <-time.After(g.after):
	case <-g.stop:
	case <-ctx.Done():
		return driver.End{}, ctx.Err()
	}
	return g.end, nil
}

func (g *given) Stop(context.Context, bool) error {
	close(g.stop)
	return nil
}

// TestOutOfMemory has a host that kills for want of memory. That an attempt
// succeeded all the same, or that navvy ended it, counts more.
func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	killed, half := navvy.Exit{Signal: 9}, navvy.Limits{Memory: 512 << 20}
	for name, c := range map[string]struct {
		spec  navvy.Spec
		end   driver.End
		after time.Duration
		want  judged
	}{
		"limit": {
			navvy.Spec{Limits: half}, driver.End{Exit: killed, Usage: navvy.Usage{OOMKills: 1, MaxMemory: 512 << 20}}, 0,
			judged{navvy.OutcomeFailed, navvy.ReasonOOM, "out of memory: needed more than its limit of 512 MiB (peak 512 MiB)"},
		},
		"a child": {
			navvy.Spec{Limits: half}, driver.End{Exit: navvy.Exit{Code: 1}, Usage: navvy.Usage{OOMKills: 3}}, 0,
			judged{navvy.OutcomeFailed, navvy.ReasonOOM, "out of memory: needed more than its limit of 512 MiB"},
		},
		"no limit of its own": {
			navvy.Spec{}, driver.End{Exit: killed, Usage: navvy.Usage{OOMKills: 1}}, 0,
			judged{navvy.OutcomeFailed, navvy.ReasonOOM, "out of memory: the kernel killed it"},
		},
		"got over it":      {navvy.Spec{Limits: half}, driver.End{Usage: navvy.Usage{OOMKills: 1}}, 0, judged{navvy.OutcomeSucceeded, "", ""}},
		"killed by others": {navvy.Spec{Limits: half}, driver.End{Exit: killed}, 0, judged{navvy.OutcomeFailed, navvy.ReasonSignal, "killed by SIGKILL"}},
		"timeout": {
			navvy.Spec{Limits: half, Timeout: time.Second}, driver.End{Exit: killed, Usage: navvy.Usage{OOMKills: 1}}, time.Minute,
			judged{navvy.OutcomeFailed, navvy.ReasonTimeout, "ran longer than 1s"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				able := func(c *driver.Capabilities) { c.Enforces = []navvy.Ability{navvy.AbilityMemory} }
				d := &wrapped{Driver: noop.Driver{}, caps: able, start: func(context.Context, *driver.Task) (driver.Execution, error) {
					return &given{c.end, c.after, make(chan struct{})}, nil
				}}
				a := runner.New(d, nil).Run(t.Context(), newTask(&c.spec, nil))
				c.want.check(t, a)
				if a.Usage != c.end.Usage || a.Exit != c.end.Exit {
					t.Errorf("attempt %+v", a)
				}
			})
		})
	}
}

// TestAway has a driver whose attempt comes to nothing because something is away: nobody
// is to blame, unless navvy ended it first.
func TestAway(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spec navvy.Spec
		want judged
	}{
		"away":    {navvy.Spec{}, judged{navvy.OutcomeInterrupted, navvy.ReasonAway, "it is being started again"}},
		"timeout": {navvy.Spec{Timeout: time.Second}, judged{navvy.OutcomeFailed, navvy.ReasonTimeout, "ran longer than 1s"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := &wrapped{Driver: noop.Driver{}, start: func(context.Context, *driver.Task) (driver.Execution, error) {
					return &isAway{given{after: time.Minute, stop: make(chan struct{})}}, nil
				}}
				a := runner.New(d, nil).Run(t.Context(), newTask(&c.spec, nil))
				c.want.check(t, a)
			})
		})
	}
}

// isAway is an execution that ends so.
type isAway struct{ given }

func (e *isAway) Wait(ctx context.Context) (driver.End, error) {
	end, err := e.given.Wait(ctx)
	if err == nil {
		err = &driver.Away{Message: "it is being started again"}
	}
	return end, err
}
