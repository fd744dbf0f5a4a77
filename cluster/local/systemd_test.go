package local_test

import (
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/local"
	"github.com/navvy-run/navvy/cluster/unit"
	"github.com/navvy-run/navvy/cluster/unit/systemdtest"
)

// A cluster that the user's systemd keeps up, with a real one, from beginning to end.
func TestSystemdCluster(t *testing.T) {
	t.Parallel()
	if !systemdtest.Within(t) {
		return
	}
	w := &world{t: t, state: t.TempDir()}
	o := options(w.state)
	o.Systemd = systemdtest.Options()
	w.Driver = local.New(o)
	w.refuses()
	c := echoes("kept", 2)
	c.Local.Supervisor = "systemd"
	w.apply(c)
	w.well(c)
	if got := w.answers("kept", "requests", "x"); !slices.Equal(got, []string{"x"}) {
		t.Errorf("it answers %q", got)
	}

	m, err := unit.OpenSystemd(filepath.Join(w.state, "navvy-clusters", "kept", "units"), "navvy-kept", o.Systemd)
	if err != nil {
		t.Fatal(err)
	}
	list, err := m.List(t.Context())
	if err != nil || len(list) != 3 {
		t.Fatalf("%+v, %v", list, err)
	}
	for _, s := range list { // the server and both workers
		w.kill(s.Pid, syscall.SIGKILL)
	}
	w.well(c)

	ctl := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("systemctl", append([]string{"--user"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("systemctl %q: %v: %s", args, err, out)
		}
		return string(out)
	}
	for verb, want := range map[string]string{"stop": "it does not run: somebody has stopped it", "disable": "somebody has disabled it"} {
		ctl(verb, "navvy-kept-worker-001.service")
		if o := w.observed("kept", "worker", "worker-001"); o == nil || o.Health != driver.HealthFailed || !strings.Contains(o.Detail, want) {
			t.Errorf("%s: %+v", verb, o)
		}
		w.apply(c)
		w.well(c)
	}
	w.destroy("kept")
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	w.nothing()
	if listed := ctl("list-units", "--all") + ctl("list-unit-files"); strings.Contains(listed, "navvy-") {
		t.Errorf("systemd still has\n%s", listed)
	}
}

// refuses checks that what systemd would not run is refused before anything is made.
func (w *world) refuses() {
	w.t.Helper()
	odd := onNATS("odd", "nats://127.0.0.1:1", "in", "out")
	odd.Workers.Environment = map[string]config.Value{"A-B": {Text: "c"}}
	for supervisor, want := range map[string]error{"systemd": navvy.ErrInvalid, "navvy": nil} {
		odd.Local.Supervisor = supervisor
		if _, err := w.Compile(w.ctx(), odd, salt); !errors.Is(err, want) {
			w.t.Errorf("a variable that systemd does not take, with %s: %v", supervisor, err)
		}
	}
}
