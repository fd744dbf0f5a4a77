package function_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/driver/drivertest"
	"github.com/navvy-run/navvy/runner/function"
	"github.com/navvy-run/navvy/runner/process"
	"github.com/navvy-run/navvy/runner/process/cgroup"
	"github.com/navvy-run/navvy/runner/process/isolate"
)

// suite is a driver whose tasks bring their functions in their specs' names, since the
// suite knows no functions.
type suite struct{ *function.Driver }

// Start implements driver.Driver.
func (s suite) Start(ctx context.Context, t *driver.Task) (driver.Execution, error) {
	named := *t
	f := source("import os, sys, time\ndef f():\n" + t.Spec.Function.Name)
	f.ID = t.Spec.Function.ID
	switch {
	case strings.Contains(f.ID, string(navvy.ReasonInput)):
	default:
		named.Input = []byte("{}")
	}
	named.Function = func(context.Context) (*navvy.FunctionVersion, error) { return f, nil }
	return s.Driver.Start(ctx, &named)
}

// TestConformance runs the suite, without control groups and with them, and isolated.
func TestConformance(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(testing.TB, *process.Options, *navvy.Spec){
		"plain":    func(testing.TB, *process.Options, *navvy.Spec) {},
		"group":    grouped,
		"isolated": apart,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			change(t, &process.Options{}, &navvy.Spec{}) // may skip
			drivertest.Run(t, func(tb testing.TB) drivertest.Harness {
				own := tb.Name()
				return drivertest.Harness{
					Open: func(tb testing.TB) driver.Driver {
						o := process.Options{}
						change(tb, &o, &navvy.Spec{})
						return suite{openOn(tb, function.Options{Name: strings.NewReplacer("/", ".").Replace(own) + strconv.Itoa(os.Getpid()), Hosts: 24}, o)}
					},
					Spec: func(w drivertest.Work) (*navvy.Spec, bool) {
						spec, ok := specOf(w)
						if ok {
							change(tb, &process.Options{}, spec)
						}
						return spec, ok
					},
				}
			})
		})
	}
}

var trees atomic.Int64

// grouped gives hosts control groups.
func grouped(t testing.TB, o *process.Options, _ *navvy.Spec) {
	t.Helper()
	tree := cgroup.Open(&cgroup.Options{Name: fmt.Sprintf("navvy-test-%d-%d", os.Getpid(), trees.Add(1))})
	if tree.Version() == "none" {
		t.Skip(tree.Lacks())
	}
	o.Groups = tree
}

// apart isolates hosts.
func apart(t testing.TB, o *process.Options, spec *navvy.Spec) {
	t.Helper()
	o.Isolation = isolate.Open()
	if c := process.NewDriver(o).Capabilities(); errors.Is(errOf(c.Refuse(&navvy.Spec{Isolate: true})), errRefused) {
		t.Skip(c.Lacks)
	}
	spec.Isolate = true
}

var errRefused = errors.New("refused")

func errOf(r *driver.Refusal) error {
	if r == nil {
		return nil
	}
	return errRefused
}

// specOf makes the body of a function that does the work.
func specOf(w drivertest.Work) (*navvy.Spec, bool) {
	// There is no stop without force, 200 hosts at once are too many, and a function
	// that cannot be found is found by no driver.
	many := w.Hang && w.OnStop >= 1 && w.OnStop <= 3
	if w.Stubborn || many || w.Refuse != "" && w.Refuse != navvy.ReasonInput && w.Refuse != navvy.ReasonStart {
		return nil, false
	}
	var body strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&body, "  "+format+"\n", args...) }
	line("pass")
	writes := func(fd int, s string) {
		line("data = bytes(%s)", strings.ReplaceAll(fmt.Sprint([]byte(s)), " ", ","))
		line("while data: data = data[os.write(%d, data):]", fd)
	}
	writes(1, w.Stdout)
	writes(2, w.Stderr)
	if w.Pattern > 0 {
		line("data = memoryview((b'0123456789\\n' * (%d // 11 + 1))[:%d])", w.Pattern, w.Pattern)
		line("while data: data = data[os.write(1, data):]")
	}
	if w.Hang {
		line("time.sleep(1000)")
	}
	if w.Signal != 0 {
		line("os.kill(os.getpid(), %d)", w.Signal)
	}
	if w.Exit != 0 {
		line("os._exit(%d)", w.Exit)
	}
	if w.Refuse == navvy.ReasonStart {
		line("no valid python")
	}
	id := fmt.Sprintf("%s%d", w.Refuse, tasks.Add(1))
	return &navvy.Spec{Function: &navvy.Function{ID: id, Name: body.String(), Encoding: navvy.EncodingJSON}}, true
}
