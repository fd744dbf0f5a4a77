package kill

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	domain "github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/process/isolate"
	"github.com/navvy-run/navvy/test/lifetest"
)

// apart is the trace of the working directories of tasks.
const apart = "apart"

// outside is a directory of the host that isolated tasks see; empty if there is
// none that we know of. They do not see /tmp.
func outside() string {
	if os.Getuid() == 0 {
		return "/run"
	}
	return os.Getenv("XDG_RUNTIME_DIR")
}

// canIsolate tells whether this host lets us isolate tasks that leave traces.
var canIsolate = sync.OnceValue(func() bool {
	return outside() != "" && slices.Contains(isolate.Open().Abilities(), domain.AbilityIsolate)
})

// makeTraces makes the directory of traces. Isolated tasks of one job run as one
// user, and after navvy's death as another one.
func (l *life) makeTraces() {
	l.traces = l.path("traces")
	if !l.isolated {
		l.must(os.Mkdir(l.traces, 0o700))
		return
	}
	var err error
	l.traces, err = os.MkdirTemp(outside(), "navvy-traces-")
	l.must(err)
	l.must(os.Chmod(l.traces, 0o733)) // for those users
}

// openToAll lets later attempts, of other users, write to the traces of this one.
func openToAll() { unix.Umask(0) }

// noteDir leaves a trace of where this task runs.
func noteDir(dir string) {
	wd, err := os.Getwd()
	if err != nil {
		os.Exit(89)
	}
	lifetest.Leave(filepath.Join(dir, apart), wd+"\n")
}

// checkApart sees that isolated tasks were isolated, and that of none a directory
// or a mount is left.
func (l *life) checkApart() {
	lines := strings.Split(strings.TrimSuffix(string(l.trace(apart)), "\n"), "\n")
	if l.isolated && slices.ContainsFunc(lines, func(wd string) bool { return wd != isolate.WorkDir }) {
		l.violate(errApart, "isolated tasks ran in %q", slices.Compact(slices.Sorted(slices.Values(lines))))
	}
	left, err := filepath.Glob(l.path("data/worker/work/*"))
	l.must(err)
	if len(left) > 0 {
		l.violate(errLeft, "private directories %q", left)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	l.must(err)
	for line := range strings.Lines(string(mounts)) {
		if slices.ContainsFunc([]string{l.dir, l.traces, os.Args[0], isolate.WorkDir}, func(path string) bool { return strings.Contains(line, path) }) {
			l.violate(errLeft, "mount %s", line)
		}
	}
}
