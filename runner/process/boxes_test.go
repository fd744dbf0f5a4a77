package process_test

import (
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
