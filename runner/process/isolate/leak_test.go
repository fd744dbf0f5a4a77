package isolate_test

import (
	"errors"
	"os"
	"strings"
	"sync"
	"syscall"
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
	const n = 1000
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

// Attempts start whatever descriptors this process has: those that an attempt is
// given are put in place before its program is looked for, which may move others,
// and must not be put upon it.
func TestDescriptorsInTheWay(t *testing.T) {
	p := plan(t, isolate.Box{Isolate: true})
	var fill []int
	defer func() {
		for _, fd := range fill {
			_ = unix.Close(fd)
		}
	}()
	for range 80 {
		for range 3 { // one more than are closed below
			fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 3)
			if err != nil {
				t.Fatal(err)
			}
			fill = append(fill, fd)
		}
		s, err := p.Status()
		if err != nil {
			t.Fatal(err)
		}
		// Where the fork puts a pipe of its own, below those of the attempt.
		_, _ = unix.Close(fill[0]), unix.Close(fill[1])
		fill = fill[2:]
		var sys syscall.SysProcAttr
		p.Set(&sys)
		pid, err := syscall.ForkExec(p.Path(), p.Args(self(t), []string{"self"}), &syscall.ProcAttr{
			Env: []string{soon, envAct + "=exit 0"}, Files: append([]uintptr{0, 1, 2}, s.Files()...), Sys: &sys,
		})
		if err != nil {
			t.Fatalf("with %d descriptors open: %v", len(fill), err)
		}
		var status syscall.WaitStatus
		if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil || status != 0 {
			t.Fatalf("with %d descriptors open, it ended with %#x, %v", len(fill), status, err)
		}
		s.Close()
	}
}
