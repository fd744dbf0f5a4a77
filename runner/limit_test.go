package runner_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/output"
	"github.com/navvy-run/navvy/runner"
	"github.com/navvy-run/navvy/runner/driver/drivertest"
	"github.com/navvy-run/navvy/runner/process"
)

// TestOutputLimit has attempts that write more than they may, with both drivers'
// ways of ending: asked, forced, and by themselves before anybody could ask.
func TestOutputLimit(t *testing.T) {
	t.Parallel()
	tooMuch := judged{navvy.OutcomeFailed, navvy.ReasonOutput, "wrote more than its limit of 100 B"}
	for name, c := range map[string]struct {
		work drivertest.Work
		want judged
		took time.Duration
	}{
		"less":             {drivertest.Work{Pattern: 99}, judged{navvy.OutcomeSucceeded, "", ""}, 0},
		"just so":          {drivertest.Work{Pattern: 60, Stderr: strings.Repeat("e", 40)}, judged{navvy.OutcomeSucceeded, "", ""}, 0},
		"one more":         {drivertest.Work{Pattern: 101}, tooMuch, 0},
		"both together":    {drivertest.Work{Pattern: 61, Stderr: strings.Repeat("e", 40)}, tooMuch, 0},
		"and fails":        {drivertest.Work{Pattern: 101, Exit: 3}, tooMuch, 0},
		"ends when asked":  {drivertest.Work{Pattern: 101, Hang: true}, tooMuch, 0},
		"stubborn":         {drivertest.Work{Pattern: 1 << 20, Hang: true, Stubborn: true}, tooMuch, 3 * time.Second},
		"too long as well": {drivertest.Work{Pattern: 99, Hang: true}, judged{navvy.OutcomeFailed, navvy.ReasonTimeout, "ran longer than 1m0s"}, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r, task := remote(nil)
				work := task(c.work)
				work.Spec.Limits.Output, work.Spec.Grace, work.Spec.Timeout = 100, 3*time.Second, time.Minute
				a := r.Run(t.Context(), work)
				c.want.check(t, a)
				if took := a.Finished.Sub(a.Started); took != c.took {
					t.Errorf("it took %s, want %s", took, c.took)
				}
				stdout, stderr, err := output.Split(a.Output.Inline)
				if want := min(100, int64(c.work.Pattern+len(c.work.Stderr))); err != nil || int64(len(stdout)+len(stderr)) != want || a.Output.Stdout+a.Output.Stderr != want {
					t.Errorf("%d and %d bytes are kept, %v, want %d", len(stdout), len(stderr), err, want)
				}
			})
		})
	}
}

// TestOutputLimitOfProcesses does the same with real ones, also beyond what travels in a result.
func TestOutputLimitOfProcesses(t *testing.T) {
	t.Parallel()
	r := runner.New(process.NewDriver(nil), nil)
	for _, limit := range []int64{1, 100, 200_000} {
		for more, want := range map[int64]navvy.Reason{0: "", 1: navvy.ReasonOutput} {
			t.Run(fmt.Sprint(limit, " and ", more), func(t *testing.T) {
				t.Parallel()
				line := fmt.Sprintf("head -c %d /dev/zero", limit+more)
				spec := &navvy.Spec{Command: &navvy.Command{Args: []string{line}, Shell: true, Env: []string{"PATH=/usr/bin:/bin"}, Dir: "/"}, Limits: navvy.Limits{Output: limit}}
				sink := newBegan()
				a := r.Run(t.Context(), newTask(spec, sink))
				if a.Reason != want || a.Output.Stdout != limit || a.Output.Logged != (limit > output.InlineLimit) {
					t.Errorf("%+v", a)
				}
				if a.Output.Logged && a.Output.CRC != output.UpdateCRC(0, sink.frames) {
					t.Error("the log is not what the result names")
				}
			})
		}
	}
	t.Run("endless", func(t *testing.T) {
		t.Parallel()
		spec := &navvy.Spec{Command: &navvy.Command{Args: []string{"trap '' TERM; yes & yes >&2"}, Shell: true, Env: []string{"PATH=/usr/bin:/bin"}, Dir: "/"}, Limits: navvy.Limits{Output: 1 << 20}, Grace: 50 * time.Millisecond}
		a := r.Run(t.Context(), newTask(spec, newBegan()))
		judged{navvy.OutcomeFailed, navvy.ReasonOutput, "wrote more than its limit of 1.0 MiB"}.check(t, a)
		if a.Output.Stdout+a.Output.Stderr != 1<<20 {
			t.Errorf("%+v", a.Output)
		}
	})
}
