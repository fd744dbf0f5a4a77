package worker

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/pythontest"
	"github.com/navvy-run/navvy/output"
	"github.com/navvy-run/navvy/runner"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/function"
	"github.com/navvy-run/navvy/runner/process"
)

// Where owners cannot be kept apart, a warm host, and what functions have left running in
// it, are gone before anything of another owner begins, a command too.
func TestNothingWarmBesideOthers(t *testing.T) {
	t.Parallel()
	pythontest.Need(t)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	processes := process.NewDriver(&process.Options{Work: filepath.Join(t.TempDir(), "work")})
	functions := runner.New(function.New(&function.Options{Python: pythontest.Python, Processes: processes, Hosts: 2, Logger: log}), nil)
	commands := runner.New(processes, nil)
	t.Cleanup(func() {
		for _, r := range []*runner.Runner{functions, commands} {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	w := New(nil, []*runner.Runner{commands, functions}, &Options{Dir: t.TempDir(), Logger: log})

	left := leaveRunning(t, functions, "ann")
	// Somebody may not have collected it yet.
	look := "grep -q '^State:[^Z]*$' /proc/" + left + "/status 2>/dev/null && echo there; true"
	for _, step := range []struct{ owner, want string }{{"ann", "there\n"}, {"bob", ""}} {
		a := w.prepare(t.Context(), &client.Assignment{
			AttemptRef: client.AttemptRef{Task: navvy.TaskID{Job: "0123456789ab", Index: 1}, Attempt: navvy.AttemptID{Number: 1, Epoch: 1}},
			Slot:       1,
			Job:        &client.WorkJob{Owner: step.owner, Spec: navvy.Spec{Command: &navvy.Command{Args: []string{"/bin/sh", "-c", look}, Dir: "/"}}},
		})
		if a == nil || a.owner == nil {
			t.Fatal("the worker keeps owners apart, or refuses the command")
		}
		ended := a.runInRoom()
		out, _, err := output.Split(ended.Output.Inline)
		if err != nil || ended.Outcome != navvy.OutcomeSucceeded || string(out) != step.want {
			t.Errorf("beside a command of %s ann's process %s: %q, want %q (%s %s, %v)", step.owner, left, out, step.want, ended.Outcome, ended.Message, err)
		}
	}
}

// leaveRunning has an owner's function start a process that outlives the call, and returns
// its pid.
func leaveRunning(t *testing.T, functions *runner.Runner, owner string) string {
	t.Helper()
	f := &navvy.FunctionVersion{
		ID: "00000000-0000-4000-8000-000000000001", Owner: owner, Name: "f", Version: 1, Form: navvy.FormSource, Entry: "f",
		Code: []byte("import subprocess\ndef f(): print(subprocess.Popen(['sleep', '1000'], start_new_session=True).pid)"),
	}
	a := functions.Run(t.Context(), &runner.Task{Task: driver.Task{
		ID: navvy.TaskID{Job: "0123456789ab", Index: 0}, Attempt: navvy.AttemptID{Number: 1, Epoch: 1}, Token: "vacate-test", Slot: 1,
		Owner: owner, Input: []byte("{}"), Spec: &navvy.Spec{Function: &navvy.Function{ID: f.ID, Encoding: navvy.EncodingJSON}},
		Function: func(context.Context) (*navvy.FunctionVersion, error) { return f, nil },
	}})
	out, _, err := output.Split(a.Output.Inline)
	if err != nil || a.Outcome != navvy.OutcomeSucceeded || len(out) == 0 {
		t.Fatalf("%s %s, %v", a.Reason, a.Message, err)
	}
	return strings.TrimSpace(string(out))
}
