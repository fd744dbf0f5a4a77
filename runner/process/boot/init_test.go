package boot_test

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy/runner/process/boot"
)

func fields(raw []byte) []string { return strings.Fields(string(raw)) }

// until waits for a state that nobody announces.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("never:", what)
		}
	}
}

func send(t *testing.T, pid int, sig unix.Signal) {
	t.Helper()
	if err := unix.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
}

func TestSignalsArePassedOn(t *testing.T) {
	t.Parallel()
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGUSR1, unix.SIGHUP} {
		a := start(t, &boot.Program{Init: true}, "wait")
		a.line()
		send(t, a.pid, sig)
		if got := a.line(); got != "got "+sig.String() {
			t.Errorf("the task %s, sent was %s", got, sig)
		}
		if status := ended(t, a); status.ExitStatus() != int(sig) {
			t.Errorf("ended with %#x", status)
		}
	}
}

// A signal reaches what has left for a session of its own, and the attempt lasts
// as long as that.
func TestSignalsReachDaemons(t *testing.T) {
	t.Parallel()
	a := start(t, &boot.Program{Init: true}, "leave 2 wait")
	a.line()
	if r, _ := a.report(); r.Kind != boot.Started {
		t.Errorf("report %+v", r)
	}
	if r, _ := a.report(); r.Kind != boot.Ended || r.Status.ExitStatus() != 7 {
		t.Errorf("report %+v, want the end of the main process while others run", r)
	}
	until(t, "the daemon alone is left", func() bool { return len(children(t, a.pid)) == 1 })
	send(t, a.pid, unix.SIGTERM)
	if got := a.line(); got != "got terminated" {
		t.Error("the daemon", got)
	}
	if status := a.wait(); status != 0 {
		t.Errorf("the init ended with %#x", status)
	}
}

// SIGTERM wakes what is stopped.
func TestStoppedTaskGetsSIGTERM(t *testing.T) {
	t.Parallel()
	a := start(t, &boot.Program{Init: true}, "wait")
	a.line()
	main := children(t, a.pid)
	if len(main) != 1 {
		t.Fatal("the init has children", main)
	}
	pid, err := strconv.Atoi(main[0])
	if err != nil {
		t.Fatal(err)
	}
	send(t, pid, unix.SIGSTOP)
	until(t, "the task is stopped", func() bool { return state(main[0]) == "T" })
	send(t, a.pid, unix.SIGTERM)
	if got := a.line(); got != "got terminated" {
		t.Error("the task", got)
	}
	ended(t, a)
}

func state(pid string) string {
	raw, _ := os.ReadFile("/proc/" + pid + "/stat")
	_, rest, _ := strings.Cut(string(raw), ") ")
	return rest[:min(1, len(rest))]
}

func TestZombiesAreReaped(t *testing.T) {
	t.Parallel()
	a := start(t, &boot.Program{Init: true}, "leave 3 hang")
	a.line() // two have ended in between, whose parents did not wait for them

	// Who has just lost its parent is a zombie for a moment.
	until(t, "one process is left, which is no zombie", func() bool {
		left := children(t, a.pid)
		return len(left) == 1 && state(left[0]) != "Z"
	})
	send(t, a.pid, unix.SIGKILL)
	if status := a.wait(); status.Signal() != unix.SIGKILL {
		t.Errorf("the init ended with %#x", status)
	}
}

// The death of the init is the end of all, and when it can be waited for none is left.
func TestKilledInitTakesAllWithIt(t *testing.T) {
	t.Parallel()
	a := start(t, &boot.Program{Init: true}, "leave 2 hang")
	a.line()
	until(t, "the daemon alone is left", func() bool { return len(children(t, a.pid)) == 1 })
	daemon, err := strconv.Atoi(children(t, a.pid)[0])
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(daemon, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	send(t, a.pid, unix.SIGKILL)
	a.wait()
	if err := unix.PidfdSendSignal(fd, 0, nil, 0); err != unix.ESRCH {
		t.Error("a daemon outlived the init:", err)
	}
}

// Nobody reads the reports: navvy has died. The task goes on to its end.
func TestInitOutlivesItsReader(t *testing.T) {
	t.Parallel()
	a := start(t, &boot.Program{Init: true}, "leave 2 wait")
	a.line()
	if err := a.status.Close(); err != nil {
		t.Fatal(err)
	}
	until(t, "the daemon alone is left", func() bool { return len(children(t, a.pid)) == 1 })
	send(t, a.pid, unix.SIGTERM)
	if got := a.line(); got != "got terminated" {
		t.Error("the daemon", got)
	}
	if status := a.wait(); status != 0 {
		t.Errorf("the init ended with %#x", status)
	}
}
