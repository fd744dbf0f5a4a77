package service_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/driver/drivertest"
	"github.com/navvy-run/navvy/runner/process"
	"github.com/navvy-run/navvy/runner/service"
)

// suite is a driver as the suite has it: what tasks that hang write first goes to their
// standard error, as there is no answer yet; and some have more than one field.
type suite struct{ *service.Driver }

const (
	envHangs  = "SUITE_HANGS=1"
	envFields = "SUITE_FIELDS=1"
)

// Start implements driver.Driver.
func (s suite) Start(ctx context.Context, t *driver.Task) (driver.Execution, error) {
	changed := *t
	if slices.Contains(t.Spec.Service.Env, envHangs) {
		changed.Stderr = t.Stdout
	}
	if slices.Contains(t.Spec.Service.Env, envFields) {
		changed.Format, changed.Input = navvy.InputFields, navvy.AppendFields(nil, "a", "b")
	}
	return s.Driver.Start(ctx, &changed)
}

// TestConformance runs the suite of drivers, without control groups, with them, and isolated.
func TestConformance(t *testing.T) {
	t.Parallel()
	for name, needs := range map[string][]navvy.Ability{"plain": nil, "group": {navvy.AbilityPIDs}, "isolated": {navvy.AbilityIsolate}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			on := func(tb testing.TB) *process.Driver { tb.Helper(); return processes(tb, process.Options{}) }
			if needs != nil {
				on = func(tb testing.TB) *process.Driver { tb.Helper(); return enforcing(tb, needs...) }
			}
			on(t) // may skip
			drivertest.Run(t, func(tb testing.TB) drivertest.Harness {
				own := strings.NewReplacer("/", ".").Replace(tb.Name()) + strconv.Itoa(os.Getpid())
				return drivertest.Harness{
					Codeless: true,
					Open: func(tb testing.TB) driver.Driver {
						return suite{newDriver(tb, service.DriverOptions{Name: own, Processes: on(tb), MaxAnswer: 64 << 20})}
					},
					Spec: func(w drivertest.Work) (*navvy.Spec, bool) {
						spec, ok := specOf(w)
						spec.Isolate = name == "isolated"
						if name == "group" {
							spec.Limits.PIDs = 100
						}
						return spec, ok
					},
				}
			})
		})
	}
}

// newDriver returns a driver that is closed with the test.
func newDriver(t testing.TB, o service.DriverOptions) *service.Driver {
	t.Helper()
	if o.Processes == nil {
		o.Processes = processes(t, process.Options{})
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	d := service.NewDriver(&o)
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// specOf makes a service that does the work for each request: a script.
func specOf(w drivertest.Work) (*navvy.Spec, bool) {
	s := &navvy.Service{}
	spec := &navvy.Spec{Service: s}
	switch w.Refuse {
	case "":
	case navvy.ReasonNotFound:
		s.Form = "lines:no-such-program"
	case navvy.ReasonPermission:
		s.Form = "lines:/etc"
	case navvy.ReasonInput:
		s.Form, s.Env = "echo", []string{envFields}
	case navvy.ReasonStart:
		s.Form = "grpc-cmd:sh -c 'exit 3'" // which never comes up, however slow the machine is
	default:
		return spec, false
	}
	if w.Refuse != "" {
		return spec, true
	}
	var script strings.Builder
	if w.Hang {
		s.Env = append(s.Env, envHangs)
		script.WriteString("exec 1>&2\n")
	}
	if w.Stubborn {
		script.WriteString("trap '' TERM\n")
	} else if w.OnStop != 0 {
		fmt.Fprintf(&script, "trap 'exit %d' TERM\n", w.OnStop)
	}
	writes := fmt.Sprintf("printf '%s'; printf '%s' >&2; yes 0123456789 | head -c %d\n", octal(w.Stdout), octal(w.Stderr), w.Pattern)
	if w.Hang {
		// Between its fork and its exec a shell's child would lose a signal.
		fmt.Fprintf(&script, "(%s exec sleep 1000) &\nwait\n", writes)
	} else {
		script.WriteString(writes)
	}
	if w.Signal != 0 {
		fmt.Fprintf(&script, "kill -%d $$\n", w.Signal)
	}
	fmt.Fprintf(&script, "exit %d\n", w.Exit)
	s.Form = "cgi-raw:sh -c '" + strings.ReplaceAll(script.String(), "'", `'\''`) + "'"
	return spec, true
}

func octal(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, `\%03o`, s[i])
	}
	return b.String()
}
