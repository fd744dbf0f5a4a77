package lifetest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// RunWithNavvy builds navvy, tells where it is, runs the tests, and gives their exit
// code. It is for TestMain.
func RunWithNavvy(m *testing.M, tell func(navvy string)) int {
	dir, err := os.MkdirTemp("", "navvy-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	navvy := filepath.Join(dir, "navvy")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", navvy, "github.com/navvy-run/navvy/cmd/navvy").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build navvy: %v\n%s", err, out)
		return 1
	}
	tell(navvy)
	return m.Run()
}

// Alive lists the processes that run with this text in their environment.
func Alive(text string) (pids []int) {
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		panic(err) // the pattern
	}
	for _, dir := range all {
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil && Owns(pid, text) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Owns tells whether a process runs with this text in its environment.
func Owns(pid int, text string) bool {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return err == nil && bytes.Contains(env, []byte(text))
}

// CommandOf is what a process was started as, for people; empty if it has ended.
func CommandOf(pid int) string {
	command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return ""
	}
	return string(bytes.ReplaceAll(command, []byte{0}, []byte{' '}))
}

// Reports counts what a worker with this directory has finished, and keeps because
// nobody has settled it.
func Reports(dir string) (n int) {
	b, err := os.ReadFile(filepath.Join(dir, "reports"))
	if err != nil {
		return 0
	}
	_, b, _ = bytes.Cut(b, []byte("\n")) // the header
	for len(b) >= 8 {
		b = b[min(uint64(len(b)), 8+uint64(binary.LittleEndian.Uint32(b))):]
		n++
	}
	return n
}
