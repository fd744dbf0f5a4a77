package boot_test

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy/runner/process/boot"
)

// envAct makes the test binary, started again, do what it says instead of testing.
const envAct = "NAVVY_TEST_ACT"

// soon lets a process that the race detector looks at end without a second's wait.
const soon = "GORACE=atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	if act, rest, ok := strings.Cut(os.Getenv(envAct), " "); ok || act != "" {
		os.Exit(perform(act, rest))
	}
	goleak.VerifyTestMain(m)
}

// perform is the task of a test. Its output goes to descriptor 1.
func perform(act, arg string) int {
	switch act {
	case "exit":
		code, _ := strconv.Atoi(arg)
		return code
	case "die":
		sig, _ := strconv.Atoi(arg)
		_ = unix.Kill(os.Getpid(), unix.Signal(sig))
		_ = unix.Pause()
	case "look": // what does a task see of its process?
		blocked, _ := os.ReadFile("/proc/thread-self/status")
		files, _ := filepath.Glob("/proc/self/fd/*")
		_, _ = fmt.Fprintln(os.Stdout, os.Getpid(), os.Getppid(), len(os.Args), os.Args[1:], mask(blocked), len(files))
		return 0
	case "wait": // for a signal, and tell it
		return await()
	case "hang":
		_, _ = fmt.Fprintln(os.Stdout, "hanging")
		_ = unix.Pause() // an empty select is a deadlock to Go, which ends the program
	case "leave": // a daemon behind, with two forks between
		return leave(arg)
	}
	return 99
}

func mask(status []byte) string {
	for line := range strings.Lines(string(status)) {
		if s, ok := strings.CutPrefix(line, "SigBlk:"); ok {
			return strings.TrimSpace(s)
		}
	}
	return "?"
}

func await() int {
	c := make(chan os.Signal, 8)
	signal.Notify(c, unix.SIGTERM, unix.SIGUSR1, unix.SIGHUP)
	_, _ = fmt.Fprintln(os.Stdout, "waiting")
	sig := <-c
	_, _ = fmt.Fprintln(os.Stdout, "got", sig)
	return int(sig.(syscall.Signal))
}

// leave starts what next says in a session of its own and does not wait for it;
// with levels left, what it starts does the same.
func leave(arg string) int {
	levels, next, _ := strings.Cut(arg, " ")
	n, _ := strconv.Atoi(levels)
	act := next
	if n > 1 {
		act = fmt.Sprintf("leave %d %s", n-1, next)
	}
	_, err := syscall.ForkExec(self(), []string{"left"}, &syscall.ProcAttr{
		Env: []string{soon, envAct + "=" + act}, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		_, _ = fmt.Fprintln(os.Stdout, err)
		return 98
	}
	return 7
}

func self() string {
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return path
}

// patience bounds each wait of these tests.
const patience = 30 * time.Second

// attempt is a process of an image, as a test starts it.
type attempt struct {
	t      *testing.T
	pid    int
	image  *boot.Image
	status *os.File
	output *os.File
}

const statusFD = 3

// start starts an image with the program that acts, in a PID namespace if the
// image has an init.
func start(t *testing.T, p *boot.Program, act string) *attempt {
	t.Helper()
	return startProgram(t, p, self(), act)
}

func startProgram(t *testing.T, p *boot.Program, program, act string) *attempt {
	t.Helper()
	p.Status = statusFD
	image, err := boot.NewImage(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = image.Close() })
	a := &attempt{t: t, image: image}
	statusRead, statusWrite := pipe(t)
	outRead, outWrite := pipe(t)
	sys := &syscall.SysProcAttr{Setsid: true}
	if p.Init {
		sys.Cloneflags = unix.CLONE_NEWPID
	}
	a.pid, err = syscall.ForkExec(boot.Path(4), []string{program, "self", "an argument"}, &syscall.ProcAttr{
		Env: []string{soon, envAct + "=" + act}, Files: []uintptr{0, outWrite.Fd(), outWrite.Fd(), statusWrite.Fd(), image.File()}, Sys: sys,
	})
	_, _ = statusWrite.Close(), outWrite.Close()
	a.status, a.output = statusRead, outRead
	if errors.Is(err, unix.EPERM) {
		lacking(t, "no right to make a PID namespace")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Kill(a.pid, unix.SIGKILL) }) // if the test has not waited for it
	return a
}

// lacking skips a test whose needs the host does not meet. As root in CI there is no such host.
func lacking(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") != "" && os.Getuid() == 0 {
		t.Fatal("CI must not skip this test:", why)
	}
	t.Skip(why)
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	_ = r.SetReadDeadline(time.Now().Add(patience))
	return r, w
}

// line reads a line of the task's output.
func (a *attempt) line() string {
	a.t.Helper()
	var line []byte
	for b := make([]byte, 1); ; line = append(line, b[0]) {
		if _, err := a.output.Read(b); err != nil {
			a.t.Fatalf("after %q: %v", line, err)
		}
		if b[0] == '\n' {
			return string(line)
		}
	}
}

// report reads the next report; ok is false if there is none and will be none.
func (a *attempt) report() (r boot.Report, ok bool) {
	a.t.Helper()
	raw := make([]byte, boot.ReportSize)
	n, err := a.status.Read(raw)
	if n == 0 {
		if os.IsTimeout(err) {
			a.t.Fatal("no report:", err)
		}
		return r, false
	}
	if r, err = a.image.Parse(raw[:n]); err != nil {
		a.t.Fatal(err)
	}
	return r, true
}

// wait waits for the process itself.
func (a *attempt) wait() unix.WaitStatus {
	a.t.Helper()
	timer := time.AfterFunc(patience, func() { _ = unix.Kill(a.pid, unix.SIGKILL) })
	defer timer.Stop()
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(a.pid, &status, 0, nil)
		if err == nil {
			return status
		}
		if err != unix.EINTR {
			a.t.Fatal(err)
		}
	}
}
