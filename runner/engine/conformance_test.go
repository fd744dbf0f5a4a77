package engine_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/driver/drivertest"
	"github.com/navvy-run/navvy/runner/engine"
	"github.com/navvy-run/navvy/runner/engine/enginetest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		drivertest.Run(t, func(testing.TB) drivertest.Harness {
			name := instance()
			return drivertest.Harness{
				Open: func(tb testing.TB) driver.Driver { return w.open(tb, name, engine.Options{}) },
				Spec: func(work drivertest.Work) (*navvy.Spec, bool) { return specOf(work, w.rest) }, Many: 20, Patience: enginetest.Patience,
			}
		})
	})
}

// specOf makes a shell script that does the work, and rests behind long output.
func specOf(w drivertest.Work, rest string) (*navvy.Spec, bool) {
	switch w.Refuse {
	case "":
	case navvy.ReasonNotFound:
		s := shell("")
		s.Container.Entrypoint, s.Container.Command = []string{"/no/such/program"}, navvy.Command{}
		return s, true
	case navvy.ReasonPermission:
		s := shell("")
		s.Container.Entrypoint, s.Container.Command = []string{"/etc/passwd"}, navvy.Command{}
		return s, true
	default:
		return nil, false
	}
	var script strings.Builder
	switch {
	case w.Stubborn:
		script.WriteString("trap '' TERM\n")
	case w.Hang:
		fmt.Fprintf(&script, "trap 'exit %d' TERM\n", w.OnStop)
	}
	for i, text := range []string{w.Stdout, w.Stderr} {
		if text == "" {
			continue
		}
		script.WriteString("printf '")
		for _, b := range []byte(text) {
			fmt.Fprintf(&script, `\%03o`, b)
		}
		fmt.Fprintf(&script, "' >&%d\n", i+1)
	}
	if w.Pattern > 0 {
		fmt.Fprintf(&script, "yes 0123456789 | head -c %d\n%s", w.Pattern, rest)
	}
	switch {
	case w.Hang:
		script.WriteString("sleep 1000000 &\nwait\n")
	case w.Signal != 0: // what is the first in its container ignores what it sends to itself
		fmt.Fprintf(&script, "exec 2>/dev/null\nsh -c 'kill -%d $$'\nexit $?\n", w.Signal)
	}
	fmt.Fprintf(&script, "exit %d\n", w.Exit)
	return shell(script.String()), true
}
