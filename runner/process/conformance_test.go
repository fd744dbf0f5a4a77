package process_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/driver/drivertest"
	"github.com/navvy-run/navvy/runner/process"
)

const path = "PATH=/usr/local/bin:/usr/bin:/bin"

// shell is a spec that runs a shell script.
func shell(script string) *navvy.Spec {
	return &navvy.Spec{Command: &navvy.Command{Args: []string{script}, Shell: true, Env: []string{path}, Dir: "/"}}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	drivertest.Run(t, func(tb testing.TB) drivertest.Harness {
		return drivertest.Harness{
			Open: func(testing.TB) driver.Driver { return process.NewDriver(nil) },
			Spec: func(w drivertest.Work) (*navvy.Spec, bool) { return specOf(tb, w), true },
		}
	})
}

// TestGroupConformance gives each attempt a control group.
func TestGroupConformance(t *testing.T) {
	t.Parallel()
	tree(t, navvy.AbilityPIDs)
	drivertest.Run(t, func(tb testing.TB) drivertest.Harness {
		return drivertest.Harness{
			Open: func(tb testing.TB) driver.Driver { return process.NewDriver(&process.Options{Groups: tree(tb)}) },
			Spec: func(w drivertest.Work) (*navvy.Spec, bool) {
				spec := specOf(tb, w)
				spec.Limits.PIDs = 1000
				return spec, true
			},
		}
	})
}

// specOf makes a shell script that does the work.
func specOf(tb testing.TB, w drivertest.Work) *navvy.Spec {
	tb.Helper()
	if w.Refuse != "" {
		return refused(tb, w.Refuse)
	}
	var script strings.Builder
	switch {
	case w.Stubborn:
		script.WriteString("trap '' TERM\n")
	case w.Hang:
		fmt.Fprintf(&script, "trap 'exit %d' TERM\n", w.OnStop)
	}
	if w.Hang {
		// The one that hangs writes: between its fork and its exec a shell's child
		// would lose the signal that comes in answer to the output.
		fmt.Fprintf(&script, "(%s exec sleep 1000) &\nwait\n", writes(w))
	} else {
		script.WriteString(writes(w))
	}
	if w.Signal != 0 {
		fmt.Fprintf(&script, "kill -%d $$\n", w.Signal)
	}
	fmt.Fprintf(&script, "exit %d\n", w.Exit)
	return shell(script.String())
}

// writes is the part of a script that writes.
func writes(w drivertest.Work) string {
	var script strings.Builder
	if w.Stdout != "" {
		fmt.Fprintf(&script, "printf '%s'\n", octal(w.Stdout))
	}
	if w.Stderr != "" {
		fmt.Fprintf(&script, "printf '%s' >&2\n", octal(w.Stderr))
	}
	if w.Pattern > 0 {
		fmt.Fprintf(&script, "yes 0123456789 | head -c %d\n", w.Pattern)
	}
	return script.String()
}

func octal(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, `\%03o`, s[i])
	}
	return b.String()
}

// refused makes a spec that cannot be run, for the reason.
func refused(tb testing.TB, reason navvy.Reason) *navvy.Spec {
	tb.Helper()
	spec := shell("")
	spec.Command.Shell = false
	switch reason {
	case navvy.ReasonNotFound:
		spec.Command.Args = []string{"no-such-program"}
	case navvy.ReasonPermission:
		spec.Command.Args = []string{"/etc"}
	case navvy.ReasonInput:
		spec.Command.Args = []string{"echo", "a\x00b"}
	case navvy.ReasonStart:
		file := filepath.Join(tb.TempDir(), "no-program")
		if err := os.WriteFile(file, []byte("neither\nnor\n"), 0o700); err != nil {
			tb.Fatal(err)
		}
		spec.Command.Args = []string{file}
	default:
		tb.Skip("the driver has no such refusal")
	}
	return spec
}
