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

// bounder is a driver whose attempts keep to their time by themselves.
type bounder struct{ wrapped }

func (*bounder) Bounds(*driver.Task) bool { return true }

// late is an execution whose turn comes after an hour, and that then takes a second.
type late struct{ end driver.End }

func (*late) Handle() []byte                   { return nil }
func (*late) Stop(context.Context, bool) error { return nil }
func (l *late) Wait(ctx context.Context) (driver.End, error) {
	select {
	case <-time.After(time.Hour + time.Second):
		return l.end, nil
	case <-ctx.Done():
		return driver.End{}, ctx.Err()
	}
}

// Attempts that keep to their time by themselves have it when their turn comes, and began then.
func TestBounder(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end  driver.End
		want judged
	}{
		"in time":  {driver.End{Ran: time.Second}, judged{outcome: navvy.OutcomeSucceeded}},
		"too late": {driver.End{Ran: time.Second, Refusal: &driver.Refusal{Reason: navvy.ReasonTimeout, Message: "ran longer than 1s"}}, judged{navvy.OutcomeFailed, navvy.ReasonTimeout, "ran longer than 1s"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := &bounder{wrapped{Driver: noop.Driver{}, start: func(context.Context, *driver.Task) (driver.Execution, error) {
					return &late{c.end}, nil
				}}}
				a := runner.New(d, nil).Run(t.Context(), newTask(&navvy.Spec{Timeout: time.Second}, nil))
				c.want.check(t, a)
				if took := a.Finished.Sub(a.Started); took != time.Second {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}
