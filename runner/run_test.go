package runner_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/output"
	"github.com/navvy-run/navvy/runner"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/driver/drivertest"
	"github.com/navvy-run/navvy/runner/driver/drivertest/remotetest"
	"github.com/navvy-run/navvy/runner/noop"
)

// judged is what a test looks at of an attempt.
type judged struct {
	outcome navvy.Outcome
	reason  navvy.Reason
	message string
}

func (want judged) check(t *testing.T, a *navvy.Attempt) {
	t.Helper()
	if got := (judged{a.Outcome, a.Reason, a.Message}); got != want {
		t.Errorf("the attempt ended as %+v, want %+v", got, want)
	}
}

func TestEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		work drivertest.Work
		want judged
	}{
		"success": {drivertest.Work{Stdout: "out"}, judged{navvy.OutcomeSucceeded, "", ""}},
		"code":    {drivertest.Work{Exit: 3}, judged{navvy.OutcomeFailed, navvy.ReasonExit, "exit code 3"}},
		"signal":  {drivertest.Work{Signal: 11}, judged{navvy.OutcomeFailed, navvy.ReasonSignal, "killed by SIGSEGV"}},
		"unnamed": {drivertest.Work{Signal: 50}, judged{navvy.OutcomeFailed, navvy.ReasonSignal, "killed by signal 50"}},
		"refused": {drivertest.Work{Refuse: navvy.ReasonInput}, judged{navvy.OutcomeFailed, navvy.ReasonInput, "remote: cannot be run"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, task := remote(&runner.Options{Worker: "bee"})
			work := task(c.work)
			a := r.Run(t.Context(), work)
			c.want.check(t, a)
			if a.ID != work.Attempt || a.Slot != work.Slot || a.Worker != "bee" || a.Exit.Code != c.work.Exit || a.Exit.Signal != c.work.Signal {
				t.Errorf("attempt %+v", a)
			}
			if a.Started.IsZero() || a.Finished.Before(a.Started) {
				t.Errorf("from %s to %s", a.Started, a.Finished)
			}
			if stdout, _, err := output.Split(a.Output.Inline); err != nil || string(stdout) != c.work.Stdout || a.Output.Logged {
				t.Errorf("output %+v", a.Output)
			}
		})
	}
}

func TestHostErrors(t *testing.T) {
	t.Parallel()
	broken := errors.New("the host is out of order")
	t.Run("start", func(t *testing.T) {
		t.Parallel()
		d := &wrapped{Driver: noop.Driver{}, start: func(context.Context, *driver.Task) (driver.Execution, error) { return nil, broken }}
		a := runner.New(d, nil).Run(t.Context(), newTask(&navvy.Spec{}, nil))
		judged{navvy.OutcomeLost, navvy.ReasonStart, broken.Error()}.check(t, a)
	})
	t.Run("refusal", func(t *testing.T) {
		t.Parallel()
		refusal := &driver.Refusal{Reason: navvy.ReasonNotFound, Message: "no such thing"}
		d := &wrapped{Driver: noop.Driver{}, start: func(context.Context, *driver.Task) (driver.Execution, error) { return nil, refusal }}
		a := runner.New(d, nil).Run(t.Context(), newTask(&navvy.Spec{}, nil))
		judged{navvy.OutcomeFailed, navvy.ReasonNotFound, "no such thing"}.check(t, a)
	})
	t.Run("a limit that it cannot enforce", func(t *testing.T) {
		t.Parallel()
		d := &wrapped{Driver: noop.Driver{}, caps: func(c *driver.Capabilities) {
			c.Enforces, c.Lacks = []navvy.Ability{navvy.AbilityCPUs}, "there are no control groups"
		}}
		spec := &navvy.Spec{Isolate: true, Limits: navvy.Limits{CPUs: 1000, Memory: 1 << 30}}
		a := runner.New(d, nil).Run(t.Context(), newTask(spec, nil))
		judged{navvy.OutcomeFailed, navvy.ReasonStart, "this host cannot enforce memory, isolate: there are no control groups"}.check(t, a)
	})
	t.Run("wait", func(t *testing.T) {
		t.Parallel()
		world := remotetest.NewWorld()
		spec, _ := world.Spec(drivertest.Work{Stdout: "x", Hang: true})
		sink := newBegan()
		x := runner.New(remotetest.New(world), nil).Prepare(newTask(spec, sink))
		x.Watch()
		go func() {
			<-sink.signal
			world.Disconnect()
		}()
		a := x.Do()
		if a.Outcome != navvy.OutcomeLost || a.Reason != navvy.ReasonLost || !strings.Contains(a.Message, "not known") {
			t.Errorf("attempt %+v", a)
		}
		world.Stop()
	})
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		work drivertest.Work
		want time.Duration
	}{
		"ends when asked": {drivertest.Work{Hang: true}, 10 * time.Second},
		"stubborn":        {drivertest.Work{Hang: true, Stubborn: true}, 13 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r, task := remote(nil)
				work := task(c.work)
				work.Spec.Timeout, work.Spec.Grace = 10*time.Second, 3*time.Second
				a := r.Run(t.Context(), work)
				judged{navvy.OutcomeFailed, navvy.ReasonTimeout, "ran longer than 10s"}.check(t, a)
				if took := a.Finished.Sub(a.Started); took != c.want {
					t.Errorf("it took %s, want %s", took, c.want)
				}
			})
		})
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	stopped := judged{navvy.OutcomeInterrupted, navvy.ReasonStopped, "stopped"}
	for name, c := range map[string]struct {
		work  drivertest.Work
		force bool
		want  time.Duration
	}{
		"asked":    {drivertest.Work{Hang: true}, false, 0},
		"stubborn": {drivertest.Work{Hang: true, Stubborn: true}, false, navvy.DefaultGrace},
		"forced":   {drivertest.Work{Hang: true, Stubborn: true}, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r, task := remote(nil)
				x := r.Prepare(task(c.work))
				time.AfterFunc(time.Minute, func() { x.Stop(c.force) })
				a := x.Do()
				stopped.check(t, a)
				if took := a.Finished.Sub(a.Started) - time.Minute; took != c.want {
					t.Errorf("the stop took %s, want %s", took, c.want)
				}
				x.Stop(true)
			})
		})
	}
	t.Run("before it begins", func(t *testing.T) {
		t.Parallel()
		r, task := remote(nil)
		x := r.Prepare(task(drivertest.Work{Hang: true}))
		x.Stop(false)
		a := x.Do()
		stopped.check(t, a)
	})
	t.Run("after its end", func(t *testing.T) {
		t.Parallel()
		r, task := remote(nil)
		x := r.Prepare(task(drivertest.Work{}))
		a := x.Do()
		x.Stop(false)
		judged{navvy.OutcomeSucceeded, "", ""}.check(t, a)
	})
	t.Run("by context", func(t *testing.T) {
		t.Parallel()
		r, task := remote(nil)
		ctx, cancel := context.WithCancel(t.Context())
		work := task(drivertest.Work{Stdout: "x", Hang: true})
		time.AfterFunc(time.Millisecond, cancel)
		a := r.Run(ctx, work)
		stopped.check(t, a)
	})
}

// TestStopWhileStarting stops a run whose start has not returned: it ends the
// start if it can, and what came of it otherwise.
func TestStopWhileStarting(t *testing.T) {
	t.Parallel()
	for name, heeds := range map[string]bool{"heeds": true, "does not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				world := remotetest.NewWorld()
				spec, _ := world.Spec(drivertest.Work{Hang: true})
				d := &wrapped{Driver: remotetest.New(world)}
				d.start = func(ctx context.Context, task *driver.Task) (driver.Execution, error) {
					select {
					case <-ctx.Done():
						if heeds {
							return nil, ctx.Err()
						}
					case <-time.After(time.Hour):
					}
					return d.Driver.Start(context.Background(), task)
				}
				x := runner.New(d, nil).Prepare(newTask(spec, nil))
				time.AfterFunc(time.Second, func() { x.Stop(false) })
				a := x.Do()
				judged{navvy.OutcomeInterrupted, navvy.ReasonStopped, "stopped"}.check(t, a)
				if took := a.Finished.Sub(a.Started); took != time.Second {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}

// TestGiveUp has an attempt that nothing ends.
func TestGiveUp(t *testing.T) {
	t.Parallel()
	for name, signals := range map[string]bool{"with signals": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				execution := &deaf{}
				d := &wrapped{Driver: noop.Driver{}, caps: func(c *driver.Capabilities) { c.Signals = signals }}
				d.start = func(context.Context, *driver.Task) (driver.Execution, error) { return execution, nil }
				x := runner.New(d, nil).Prepare(newTask(&navvy.Spec{}, nil))
				time.AfterFunc(time.Second, func() { x.Stop(false) })
				a := x.Do()
				judged{navvy.OutcomeLost, navvy.ReasonLost, "is not over 30s after it was killed"}.check(t, a)
				want := time.Second + driver.StopTimeout
				if signals {
					want += navvy.DefaultGrace
				}
				if took := a.Finished.Sub(a.Started); took != want {
					t.Errorf("it took %s, want %s", took, want)
				}
				if asked := execution.asked.Load() > 0; asked != signals || execution.forced.Load() < 2 {
					t.Errorf("it was asked %d times and forced %d times", execution.asked.Load(), execution.forced.Load())
				}
			})
		})
	}
}

func TestOutput(t *testing.T) {
	t.Parallel()
	const long = 200_000
	run := func(t *testing.T, w drivertest.Work, watch bool, sink *began) *navvy.Attempt {
		t.Helper()
		r, task := remote(nil)
		work := task(w)
		if sink != nil {
			work.Sink = sink
		}
		x := r.Prepare(work)
		if watch {
			x.Watch()
		}
		return x.Do()
	}
	for name, c := range map[string]struct {
		work  drivertest.Work
		watch bool
	}{"long": {work: drivertest.Work{Pattern: long}}, "watched": {drivertest.Work{Stdout: "short"}, true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sink := newBegan()
			a := run(t, c.work, c.watch, sink)
			judged{navvy.OutcomeSucceeded, "", ""}.check(t, a)
			stdout, _, err := output.Split(sink.frames)
			if want := c.work.Stdout + string(drivertest.Pattern(c.work.Pattern)); err != nil || string(stdout) != want {
				t.Errorf("%d bytes were uploaded, %v, want %d", len(stdout), err, len(want))
			}
			if o := a.Output; !o.Logged || o.Inline != nil || o.Length != int64(len(sink.frames)) || o.CRC != output.UpdateCRC(0, sink.frames) {
				t.Errorf("output %+v", o)
			}
		})
	}
	t.Run("failing sink", func(t *testing.T) {
		t.Parallel()
		sink := newBegan()
		sink.err = errors.New("the server is gone")
		a := run(t, drivertest.Work{Pattern: long, Hang: true, Stubborn: true}, false, sink)
		judged{navvy.OutcomeLost, navvy.ReasonLost, "its output could not be kept: the server is gone"}.check(t, a)
	})
	t.Run("fails at the end", func(t *testing.T) {
		t.Parallel()
		sink := newBegan()
		sink.err = errors.New("the server is gone")
		a := run(t, drivertest.Work{Stdout: "short", Exit: 1}, true, sink)
		if a.Outcome != navvy.OutcomeLost || a.Output.Length != 0 {
			t.Errorf("attempt %+v", a)
		}
	})
	t.Run("no sink", func(t *testing.T) {
		t.Parallel()
		if a := run(t, drivertest.Work{Pattern: long}, false, nil); a.Outcome != navvy.OutcomeLost {
			t.Errorf("attempt %+v", a)
		}
	})
}

// What must be done before a start and fails is the host's fault; a stop ends it.
func TestBefore(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before func(context.Context, *runner.Run) error
		want   judged
	}{
		"done":   {func(context.Context, *runner.Run) error { return nil }, judged{navvy.OutcomeSucceeded, "", ""}},
		"failed": {func(context.Context, *runner.Run) error { return errors.New("not yet") }, judged{navvy.OutcomeLost, navvy.ReasonStart, "not yet"}},
		"stopped": {func(ctx context.Context, x *runner.Run) error {
			x.Stop(false)
			<-ctx.Done()
			return ctx.Err()
		}, judged{navvy.OutcomeInterrupted, navvy.ReasonStopped, "stopped"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, task := remote(nil)
			x := r.Prepare(task(drivertest.Work{}))
			x.Before(func(ctx context.Context) error { return c.before(ctx, x) })
			a := x.Do()
			c.want.check(t, a)
		})
	}
	if r, _ := remote(nil); r.Vacate(t.Context(), "me") != nil { // which keeps nothing
		t.Error("nothing is left of others, and it fails")
	}
}
