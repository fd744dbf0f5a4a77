package process_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/driver/drivertest"
	"github.com/navvy-run/navvy/runner/process"
	"github.com/navvy-run/navvy/runner/process/isolate"
)

// isolated opens a driver that isolates, and skips the test where that can't be.
func isolated(t testing.TB, o process.Options) (d *process.Driver, work string) {
	t.Helper()
	work = filepath.Join(t.TempDir(), "work")
	o.Isolation, o.Work = isolate.Open(), work
	d = process.NewDriver(&o)
	if c := d.Capabilities(); !slices.Contains(c.Enforces, navvy.AbilityIsolate) {
		mustNot(t, string(navvy.AbilityIsolate), c.Lacks)
		t.Skip(c.Lacks)
	}
	return d, work
}

// TestIsolatedConformance isolates each attempt, with a group and without.
func TestIsolatedConformance(t *testing.T) {
	t.Parallel()
	isolated(t, process.Options{})
	drivertest.Run(t, func(tb testing.TB) drivertest.Harness {
		return drivertest.Harness{
			Open: func(tb testing.TB) driver.Driver { d, _ := isolated(tb, process.Options{}); return d },
			Spec: func(w drivertest.Work) (*navvy.Spec, bool) {
				spec := specOf(tb, w)
				spec.Isolate = true
				// That file is in a directory which another user does not even see.
				return spec, w.Refuse != navvy.ReasonStart
			},
		}
	})
}

// TestPrivateDirectory gives an attempt a directory of its own, and leaves none.
func TestPrivateDirectory(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]process.Options{"group": {Groups: tree(t)}, "no group": {}} {
		t.Run(name, func(t *testing.T) {
			d, work := isolated(t, o)
			defer func() {
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			}()
			var out strings.Builder
			spec := shell("mkdir -p a/b; echo x > a/b/c; chmod 0 a; ls; ulimit -n; exit 7")
			spec.Isolate, spec.Command.Dir = true, ""
			spec.Limits.Ulimits = []navvy.Ulimit{{Name: "nofile", Soft: 77, Hard: 77}}
			task := &driver.Task{ID: navvy.TaskID{Job: "0123456789ab"}, Token: "0123456789ab-0-1.1", Slot: 1, Spec: spec, Stdout: &out}
			x, err := d.Start(t.Context(), task)
			if err != nil {
				t.Fatal(err)
			}
			end, err := x.Wait(t.Context())
			if err != nil || end.Exit.Code != 7 || out.String() != "a\n77\n" {
				t.Errorf("ended with %+v, %v, output %q", end, err, out.String())
			}
			if left, err := os.ReadDir(work); err != nil || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}

// startOwn starts a shell line that names no directory, and writes to out.
func startOwn(t *testing.T, d *process.Driver, token, line string, out *strings.Builder, env ...string) driver.Execution {
	t.Helper()
	spec := shell(line)
	spec.Command.Dir, spec.Command.Env = "", env
	x, err := d.Start(t.Context(), &driver.Task{
		ID: navvy.TaskID{Job: "0123456789ab"}, Token: token, Slot: 1, Spec: spec, Stdout: out,
	})
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// TestOwnDirectory gives an attempt that is not isolated a directory of its own and
// what any program expects in its environment, and leaves none.
func TestOwnDirectory(t *testing.T) {
	t.Parallel()
	work := filepath.Join(t.TempDir(), "work")
	d := process.NewDriver(&process.Options{Work: work})
	var out strings.Builder
	x := startOwn(t, d, "0123456789ab-0-1.1", `mkdir -p a/b; chmod 0 a; test "$PWD" = "$HOME" -a "$HOME" = "$TMPDIR" && pwd; echo "$LANG $A ${USER:+user} $(env | sed -n s/^PATH=.*/path/p)"`, &out, "A=b", "LANG=de")
	if _, err := x.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	dir, rest, _ := strings.Cut(out.String(), "\n")
	if filepath.Dir(dir) != work || !strings.HasPrefix(rest, "de b user path\n") {
		t.Errorf("it ran in %q and found %q", dir, rest)
	}
	if left, err := os.ReadDir(work); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// TestOwnDirectoryAfterCrash removes what an attempt has left whose navvy died.
func TestOwnDirectoryAfterCrash(t *testing.T) {
	t.Parallel()
	work := filepath.Join(t.TempDir(), "work")
	crashed := process.NewDriver(&process.Options{Work: work})
	var out strings.Builder
	x := startOwn(t, crashed, "0123456789ab-0-2.1", "touch file; exec sleep 1000", &out)
	d := process.NewDriver(&process.Options{Work: work})
	task := &driver.Task{ID: navvy.TaskID{Job: "0123456789ab"}, Token: "0123456789ab-0-2.1"} // by which others are found, too
	if _, err := d.Recover(t.Context(), x.Handle(), task); !errors.Is(err, navvy.ErrNotFound) {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(work); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if _, err := x.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestNoPlaceForDirectories refuses a command without a directory where there is
// no place to make one.
func TestNoPlaceForDirectories(t *testing.T) {
	t.Parallel()
	spec := shell("true")
	spec.Command.Dir = ""
	_, err := process.NewDriver(nil).Start(t.Context(), &driver.Task{Token: "0123456789ab-0-1.1", Spec: spec})
	if refusal, ok := errors.AsType[*driver.Refusal](err); !ok || !strings.Contains(refusal.Message, "working directories") {
		t.Errorf("started with %v", err)
	}
}
