package service_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/process"
	"github.com/navvy-run/navvy/runner/process/cgroup"
	"github.com/navvy-run/navvy/runner/process/isolate"
	"github.com/navvy-run/navvy/runner/service"
)

var trees atomic.Int64

// enforcing returns a driver that enforces something, and skips the test where the host
// cannot: which hosts can is tested in runner/process.
func enforcing(t testing.TB, needs ...navvy.Ability) *process.Driver {
	t.Helper()
	d := processes(t, process.Options{
		Groups:    cgroup.Open(&cgroup.Options{Name: fmt.Sprintf("navvy-test-service-%d-%d", os.Getpid(), trees.Add(1))}),
		Isolation: isolate.Open(),
	})
	caps := d.Capabilities()
	for _, a := range needs {
		if !slices.Contains(caps.Enforces, a) {
			t.Skipf("this host does not enforce %s: %s", a, caps.Lacks)
		}
	}
	return d
}

// TestLimits has services that need more memory than they may have.
func TestLimits(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"lines", "lines-json"} {
		s := opened(t, form+":"+self(t), service.Options{
			Processes: enforcing(t, navvy.AbilityMemory), Env: acting(form), Limits: navvy.Limits{Memory: 256 << 20},
		})
		fails(t, s, "eat", "it needed more memory than its limit")
		ready(t, s)
		ask(t, s, "x")
	}
	s := opened(t, "cgi-raw:"+self(t), service.Options{
		Processes: enforcing(t, navvy.AbilityMemory), Env: acting("lines"), Limits: navvy.Limits{Memory: 256 << 20},
	})
	fails(t, s, "eat\n", "more memory than its limit")
}

// TestIsolated has services that see nothing of their host, and are reached all the same.
func TestIsolated(t *testing.T) {
	t.Parallel()
	for spec, act := range map[string]string{
		"grpc-cmd:":       "sdk",
		"grpc-any-cmd:- ": "greeter",
		"lines:":          "lines",
	} {
		o := service.Options{Processes: enforcing(t, navvy.AbilityIsolate), Env: acting(act), Isolate: true, Network: navvy.NetworkNone}
		s := opened(t, spec+self(t), o)
		switch act {
		case "greeter":
			if a := greet(t, s, "x"); a.Error != nil {
				t.Errorf("%s: %s", spec, a.error())
			}
		default:
			if got := ask(t, s, "do pid"); got == "" {
				t.Errorf("%s answered nothing", spec)
			}
		}
		closes(t, s)
		if _, err := tryOpen(t, "grpc-tcp-cmd:"+self(t), o); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("at a port, without a network: %v", err)
		}
		o.Dir = t.TempDir()
		if s, err := tryOpen(t, spec+self(t), o); act != "lines" && err == nil {
			t.Errorf("%s in a directory that it has not to itself: %v", spec, s)
		} else if err == nil {
			closes(t, s)
		}
	}
}
