package kill

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	domain "github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/process/cgroup"
	"github.com/navvy-run/navvy/test/lifetest"
)

// groups is the trace of the control groups that tasks found themselves in.
const groups = "groups"

// canLimit tells whether this host lets us limit how many processes a task has.
var canLimit = sync.OnceValue(func() bool {
	tree := cgroup.Open(&cgroup.Options{Name: fmt.Sprintf("navvy-kill-%d", os.Getpid())})
	defer tree.Close() //nolint:errcheck // it is empty
	return slices.Contains(tree.Enforces(), domain.AbilityPIDs)
})

// noteGroup leaves a trace of this task's control groups.
func noteGroup(dir string) {
	raw, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		os.Exit(90)
	}
	for line := range strings.Lines(string(raw)) {
		if _, path, ok := strings.Cut(line, ":/"); ok && strings.Contains(path, "navvy-") {
			lifetest.Leave(filepath.Join(dir, groups), "/"+path)
		}
	}
}

// checkGroups sees that tasks with limits had control groups, and that none is left.
func (l *life) checkGroups() {
	raw := string(l.trace(groups))
	if l.limited && raw == "" {
		l.violate(errLeft, "no task with limits was in a control group")
	}
	seen := map[string]bool{}
	for line := range strings.Lines(raw) {
		place := filepath.Dir(strings.TrimSpace(line)) // of the data directory
		if seen[place] {
			continue
		}
		seen[place] = true
		for _, pattern := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
			left, err := filepath.Glob(pattern + place)
			l.must(err)
			if len(left) > 0 {
				l.violate(errLeft, "control groups %q", left)
			}
		}
	}
}
