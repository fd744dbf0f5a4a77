package unit_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/navvy-run/navvy/cluster/unit"
)

// What a unit leaves in its session when it ends is ended before it is started again: under a
// supervisor, and by the next one if it ended without.
func TestRemains(t *testing.T) {
	t.Parallel()
	m, dir := open(t)
	mark := fmt.Sprintf("remains-%d", os.Getpid())
	child := `sh -c 'while :; do sleep 1000; done' "$1" & `
	put(t, m, script("fails", child+"exit 3", mark+"-fails"))
	eventually(t, "it is given up", func() bool { return state(t, m, "fails").Phase == unit.GaveUp })
	if left := with(mark + "-fails"); len(left) > 0 {
		t.Errorf("of one that was given up is left %v", left)
	}
	if _, err := os.Stat(filepath.Join(dir, "run", "fails.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its number is kept, which another one may get: %v", err)
	}
	names := []string{"restarted", "removed"}
	for _, name := range names {
		put(t, m, script(name, child+"while :; do sleep 1000; done", mark+"-"+name))
	}
	was := map[string]int{}
	for _, name := range names {
		was[name] = state(t, m, name).Pid
		eventually(t, "its child is there", func() bool { return len(with(mark+"-"+name)) == 2 })
	}
	kill(t, supervisorOf(t, dir), syscall.SIGKILL)
	for _, name := range names {
		kill(t, was[name], syscall.SIGKILL)
	}
	if err := m.Remove(t.Context(), "removed"); err != nil || len(with(mark+"-removed")) > 0 {
		t.Errorf("of one that was removed is left %v, %v", with(mark+"-removed"), err)
	}
	eventually(t, "only the new ones are there", func() bool {
		s := state(t, m, "restarted")
		return s.Phase == unit.Up && s.Pid != was["restarted"] && len(with(mark+"-restarted")) == 2
	})
}
