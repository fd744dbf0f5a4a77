package isolate_test

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy/runner/process/isolate"
)

// count counts what starts could leave behind in this process and on its host.
func count(t *testing.T) (descriptors, mounts int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds), strings.Count(string(raw), "\n")
}

// The call fails as the first, the second, and each other one of an attempt:
// what failed is told, and nothing is left.
func TestNothingIsLeftOfAStartThatFailed(t *testing.T) {
	needRoot(t)
	h := isolate.Open()
	b := isolate.Box{Isolate: true, UID: isolate.FirstUID + 7, Dir: t.TempDir(), Program: self(t)}
	_, mounts := count(t)
	index := 0
	for ; ; index++ {
		p, err := h.Sabotage(b, index)
		if err != nil {
			t.Fatal(err)
		}
		if p == nil {
			break
		}
		a := launch(t, p, self(t), "", "exit 0")
		var failed *isolate.CallError
		if err := a.status.Started(); !errors.As(err, &failed) || failed.Call != "sabotage" || failed.Errno != unix.ENOENT {
			t.Errorf("call %d: %v", index, err)
		}
		if status := a.wait(); status.ExitStatus() != 127 {
			t.Errorf("call %d: it ended with %#x", index, status)
		}
		a.status.Close()
		_ = p.Close()
	}
	if index < 20 {
		t.Errorf("only %d calls", index)
	}
	if _, now := count(t); now != mounts {
		t.Errorf("there were %d mounts, and there are %d", mounts, now)
	}
}

// Many starts, some of them at once, leave no process, descriptor or mount.
func TestNothingIsLeftOfManyStarts(t *testing.T) {
	n := 1000
	if testing.Short() {
		n = 100
	}
	b := isolate.Box{Isolate: true}
	if os.Getuid() == 0 {
		b.UID = isolate.FirstUID + 8
	}
	const program = "/bin/true"
	if _, err := os.Stat(program); err != nil {
		t.Skip(err)
	}
	p := plan(t, b)
	var all sync.WaitGroup
	run := func(times int) {
		for range times {
			a := launch(t, p, program, "", "")
			if err := a.status.Started(); err != nil {
				t.Error(err)
			}
			if status := a.wait(); status != 0 {
				t.Errorf("it ended with %#x", status)
			}
			a.status.Close()
			_ = a.output.Close()
		}
	}
	run(4)
	descriptors, mounts := count(t)
	for range 4 {
		all.Go(func() { run(n / 4) })
	}
	all.Wait()
	if d, m := count(t); d > descriptors+2 || m != mounts { // Go may have opened its poller
		t.Errorf("there were %d descriptors and %d mounts, and there are %d and %d", descriptors, mounts, d, m)
	}
	if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); !errors.Is(err, unix.ECHILD) {
		t.Errorf("a child is left: %d, %v", pid, err)
	}
}
