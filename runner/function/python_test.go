package function_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/internal/pythontest"
	"github.com/navvy-run/navvy/runner/function"
	"github.com/navvy-run/navvy/runner/process"
)

// What an interpreter is is told before anything is called: its version, what pickles,
// or why it will not do.
func TestLook(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct{ python, with, absent string }{
		{program("new", "echo python 3.14.0; echo dill 1.2"), "Python 3.14.0 (" + dir + "/new), dill 1.2", ""},
		{program("bare", "echo python 3.8.1"), "neither dill nor cloudpickle", ""},
		{program("old", "echo python 3.7.9"), "", "is Python 3.7.9, and functions need 3.8 or later: start the worker with --python"},
		{program("older", "echo python 2.7.18; exit 1"), "", "is Python 2.7.18"},
		{program("broken", "echo a; echo no libraries >&2; exit 3"), "", "is no Python that works (no libraries): start"},
		{program("killed", "kill -9 $$"), "", "is no Python that works (signal: killed)"},
		{program("killed-once", `[ -e "$0.seen" ] || { : >"$0.seen"; kill -9 $$; }; echo python 3.12.1`), "Python 3.12.1", ""},
		{"/bin/true", "", "/bin/true is no Python that works: start"},
		{dir + "/nothing", "", "/nothing is no program: start the worker with --python"},
	} {
		caps := looking(t, c.python).Capabilities()
		if !strings.Contains(caps.With, c.with) || !strings.Contains(caps.Absent, c.absent) || (c.with == "") != (caps.With == "") || (c.absent == "") != (caps.Absent == "") {
			t.Errorf("%s: with %q, absent %q", c.python, caps.With, caps.Absent)
		}
		a := caps.Abilities()
		if a.Kind != navvy.KindFunction || a.Absent != (c.absent != "") || a.Absent && (a.Lacks != caps.Absent || a.Enforces != nil) {
			t.Errorf("%s: %+v", c.python, a)
		}
	}
	pythontest.Need(t)
	if caps := looking(t, python).Capabilities(); !strings.HasPrefix(caps.With, "Python 3.") || caps.Absent != "" {
		t.Errorf("with %q, absent %q", caps.With, caps.Absent)
	}
}

// looking returns a driver that has its interpreter say what it is.
func looking(t *testing.T, exe string) *function.Driver {
	t.Helper()
	processes := process.NewDriver(&process.Options{})
	d := function.New(&function.Options{Python: exe, Processes: processes, Look: true})
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if err := processes.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}
