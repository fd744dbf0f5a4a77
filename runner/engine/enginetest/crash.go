package enginetest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Crash kills the engine's daemon with all that it has started, as when a machine is switched
// off, and leaves the rest to what starts it again.
func (e *Engine) Crash(t testing.TB) {
	t.Helper()
	for _, pid := range descendants(e.first.Process.Pid, "sleep") { // which is between two starts of the daemon
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			t.Fatal(err)
		}
	}
}

// descendants lists the processes that one has started, but for those of a name, and what
// these have.
func descendants(of int, except string) []int {
	var text []byte
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", of)) // it may have ended
	for _, name := range threads {
		more, _ := os.ReadFile(name)
		text = append(append(text, more...), ' ')
	}
	var list []int
	for text := range strings.FieldsSeq(string(text)) {
		name, _ := os.ReadFile("/proc/" + text + "/comm")
		pid, err := strconv.Atoi(text)
		if err != nil || strings.TrimSpace(string(name)) == except {
			continue
		}
		list = append(append(list, pid), descendants(pid, "")...)
	}
	return list
}
