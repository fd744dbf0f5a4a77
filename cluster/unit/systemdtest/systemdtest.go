// Package systemdtest runs tests where the user's systemd runs, a real one, whatever has
// started the machine.
package systemdtest

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/navvy-run/navvy/cluster/unit"
)

// variable says to a test that it is within.
const variable = "NAVVY_TEST_SYSTEMD"

//go:embed within.sh
var script string

// parts are the programs that it takes.
var parts = []string{"/lib/systemd/systemd", "/lib/systemd/systemd-journald", "systemctl", "journalctl", "unshare", "mount"}

// Within runs the test once more in a process beside which a systemd of the user runs, in mount
// and process namespaces and a control group of its own, and tells whether this is that process:
// where it is false the test is over. It wants root, for the mounts, and systemd; without them it
// skips on a laptop, and fails in CI.
func Within(t *testing.T) bool {
	t.Helper()
	if os.Getenv(variable) != "" {
		return true
	}
	missing := func(why string) {
		if os.Getenv("CI") != "" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	if os.Geteuid() != 0 {
		missing("only root can start a systemd of its own: it mounts a /run and control groups")
	}
	for _, part := range parts {
		if _, err := exec.LookPath(part); err != nil {
			missing(fmt.Sprintf("there is no %s: apt-get install systemd", part))
		}
	}
	unshare := []string{"--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"}
	if out, err := exec.Command("unshare", append(unshare, "sh", "-c", "mount -t tmpfs tmpfs /run && mount -t cgroup2 cgroup2 /sys/fs/cgroup && mkdir /sys/fs/cgroup/$0 && rmdir /sys/fs/cgroup/$0", group())...).CombinedOutput(); err != nil {
		missing(fmt.Sprintf("there can be no namespaces, or no control groups of version 2 in them: %v: %s", err, out))
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := append(unshare, "sh", "-c", script, "sh", group(), t.TempDir(), self, "-test.run=^"+regexp.QuoteMeta(t.Name())+"$", "-test.v", "-test.count=1")
	cmd := exec.CommandContext(t.Context(), "unshare", args...)
	cmd.Env = append(os.Environ(), variable+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()+" ") {
		t.Fatalf("with systemd: %v\n%s", err, out)
	}
	t.Logf("%s", out)
	return false
}

var groups atomic.Int64

// group is a name for a control group that nobody else uses.
func group() string { return fmt.Sprintf("navvy%dx%d", os.Getpid(), groups.Add(1)) }

// Options say where the user's systemd is, within.
func Options() *unit.SystemdOptions {
	return &unit.SystemdOptions{RuntimeDir: os.Getenv("XDG_RUNTIME_DIR"), ConfigDir: os.Getenv("XDG_CONFIG_HOME"), Env: os.Environ()}
}
