package isolate_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/process/isolate"
)

// envAct makes the test binary, started again, do what it says instead of testing.
const envAct = "NAVVY_TEST_ACT"

// soon lets a process that the race detector looks at end without a second's wait.
const soon = "GORACE=atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	if act, arg, _ := strings.Cut(os.Getenv(envAct), " "); act != "" {
		os.Exit(perform(act, arg))
	}
	goleak.VerifyTestMain(m)
}

// patience bounds each wait of these tests.
const patience = 30 * time.Second

func self(tb testing.TB) string {
	tb.Helper()
	path, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

// lacking skips a test whose needs the host does not meet. As root in CI there is no such host.
func lacking(tb testing.TB, why string) {
	tb.Helper()
	if os.Getenv("CI") != "" && os.Getuid() == 0 {
		tb.Fatal("CI must not skip this test:", why)
	}
	tb.Skip(why)
}

// attempt is a process in a box, as a test starts it.
type attempt struct {
	tb     testing.TB
	plan   *isolate.Plan
	status *isolate.Status
	pid    int
	output *os.File
}

// plan prepares the box for the test binary.
func plan(tb testing.TB, b isolate.Box) *isolate.Plan {
	tb.Helper()
	if b.Program == "" {
		b.Program = self(tb)
	}
	p, err := isolate.Open().Plan(b)
	if errors.Is(err, navvy.ErrUnsupported) {
		lacking(tb, err.Error())
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = p.Close() })
	return p
}

// start starts the test binary, to act in a box.
func start(tb testing.TB, b isolate.Box, act string) *attempt {
	tb.Helper()
	a := launch(tb, plan(tb, b), self(tb), "", act)
	if err := a.status.Started(); err != nil {
		a.wait()
		tb.Fatal(err)
	}
	return a
}

// launch starts a program by a plan.
func launch(tb testing.TB, p *isolate.Plan, program, dir, act string) *attempt {
	tb.Helper()
	s, err := p.Status()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	r, w, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	defer w.Close()
	_ = r.SetReadDeadline(time.Now().Add(patience))
	tb.Cleanup(func() { _ = r.Close() }) // twice is once
	sys := &syscall.SysProcAttr{Setpgid: true}
	p.Set(sys)
	env := p.Env([]string{soon, envAct + "=" + act, "HOME=/root", "TMPDIR=/elsewhere"})
	pid, err := syscall.ForkExec(p.Path(), p.Args(program, []string{filepath.Base(program), "an argument"}), &syscall.ProcAttr{
		Dir: dir, Env: env, Files: append([]uintptr{0, w.Fd(), w.Fd()}, s.Files()...), Sys: sys,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return &attempt{tb: tb, plan: p, status: s, pid: pid, output: r}
}

// wait waits for the end and returns how the main process ended.
func (a *attempt) wait() unix.WaitStatus {
	a.tb.Helper()
	timer := time.AfterFunc(patience, func() { _ = unix.Kill(a.pid, unix.SIGKILL) })
	defer timer.Stop()
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(a.pid, &status, 0, nil)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			a.tb.Fatal(err)
		}
	}
	if exit, known, err := a.status.Exit(); known && err == nil {
		return exit
	}
	return status
}

// all reads the whole output.
func (a *attempt) all() string {
	a.tb.Helper()
	out, err := io.ReadAll(a.output)
	if err != nil {
		a.tb.Fatal(err)
	}
	return string(out)
}

// look runs an attempt that looks around, and returns what it saw.
func look(tb testing.TB, b isolate.Box) (v view) {
	tb.Helper()
	return start(tb, b, "look").view()
}

func (a *attempt) view() (v view) {
	a.tb.Helper()
	out := a.all()
	if status := a.wait(); status != 0 {
		a.tb.Fatalf("it ended with %#x: %s", status, out)
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		a.tb.Fatalf("%v: %s", err, out)
	}
	return v
}
