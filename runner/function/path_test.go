package function_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/internal/pythontest"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/function"
	"github.com/navvy-run/navvy/runner/process"
)

// A call finds modules where its job says, in no host of another place, nor in one that
// has the modules as they were before.
func TestModulesOfCalls(t *testing.T) {
	t.Parallel()
	d := open(t, function.Options{Hosts: 2})
	write := func(dir, text string) {
		if err := os.WriteFile(filepath.Join(dir, "util.py"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a, b := t.TempDir(), t.TempDir()
	write(a, "def f(): return 'a'\n")
	write(b, "def f(): return 'b'\n")
	f := &navvy.FunctionVersion{ID: source("").ID, Owner: "me", Name: "f", Version: 1, Form: navvy.FormReference, Entry: "util:f"}
	want := func(dir, modules, value string) {
		t.Helper()
		c := calling(f, `{}`)
		c.Spec.Function.Path, c.Spec.Function.Modules = []string{dir}, modules
		if end := run(t, d, c); end.Refusal != nil || c.value.String() != value {
			t.Errorf("%s, modules %s: %s, %+v", dir, modules, c.value.String(), end.Refusal)
		}
	}
	want(a, "1", `"a"`)
	want(b, "1", `"b"`)
	want(a, "1", `"a"`)
	write(a, "def f(): return 'changed'\n")
	want(a, "2", `"changed"`)
	c := calling(f, `{}`)
	if end := run(t, d, c); end.Refusal == nil || end.Refusal.Reason != navvy.ReasonStart {
		t.Errorf("where nobody has named a directory: %+v %s", end, c.err.String())
	}
}

// An isolated function finds the modules of its worker below /tmp, too, but cannot change
// them; of a directory that it cannot see it is told.
func TestModulesOfIsolated(t *testing.T) {
	t.Parallel()
	pythontest.Need(t)
	dir := t.TempDir()
	for _, part := range []string{"worker", "call"} {
		file := filepath.Join(dir, part, part+"s.py")
		text := "def f():\n  try: open(__file__, 'a')\n  except OSError as e: return e.strerror\n"
		if err := errors.Join(os.Mkdir(filepath.Join(dir, part), 0o700), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	var options process.Options
	var spec navvy.Spec
	apart(t, &options, &spec)
	users := slices.Contains(process.NewDriver(&options).Capabilities().Enforces, navvy.AbilityUser)
	// With a user of its own it does not see what is closed to others, as the directories of others are.
	if err := os.Chmod(filepath.Join(dir, "worker"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "worker", "workers.py"), 0o666); err != nil {
		t.Fatal(err)
	}
	d := openOn(t, function.Options{Hosts: 1, Path: []string{filepath.Join(dir, "worker")}}, options)
	call := func(module string) (*attempt, driver.End) {
		c := calling(&navvy.FunctionVersion{ID: source("").ID, Owner: "me", Name: "f", Version: 1, Form: navvy.FormReference, Entry: module + ":f"}, `{}`)
		c.Spec.Isolate, c.Spec.Function.Path = true, []string{filepath.Join(dir, "call")}
		end := run(t, d, c)
		return c, end
	}
	if c, end := call("workers"); end.Refusal != nil || c.value.String() != `"Read-only file system"` {
		t.Errorf("a module of the worker: %s, %+v", c.value.String(), end.Refusal)
	}
	c, end := call("calls")
	switch {
	case !users && (end.Refusal != nil || c.value.String() != `"Read-only file system"`):
		t.Errorf("a module of the call: %s, %+v", c.value.String(), end.Refusal)
	case users && (end.Refusal == nil || !strings.Contains(end.Refusal.Message, "; it does not see "+filepath.Join(dir, "call")+": an isolated function sees")):
		t.Errorf("a module that only others may see: %s, %+v", c.value.String(), end.Refusal)
	}
}
