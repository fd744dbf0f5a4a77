package kill

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy/test/lifetest"
)

// proc is a navvy that was started.
type proc struct {
	cmd  *exec.Cmd
	out  string // the file that its output goes to
	over chan struct{}
}

// patience bounds whatever should end by itself.
const patience = 90 * time.Second

// session starts a navvy whose output counts as printed.
func (l *life) session(args ...string) *proc {
	name := fmt.Sprintf("session%d", len(l.sessions))
	l.sessions = append(l.sessions, name)
	return l.start(name, args...)
}

// start starts a navvy; its output goes to a file.
func (l *life) start(out string, args ...string) *proc {
	l.note("navvy %s", strings.Join(args, " "))
	p := &proc{cmd: exec.Command(navvy, args...), out: out, over: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), "NAVVY_DATA="+l.path("data"), taskDir+"="+l.traces, "GORACE=atexit_sleep_ms=0") // or each task takes a second
	if l.retries {
		p.cmd.Env = append(p.cmd.Env, flaky+"=1")
	}
	stdin, err := os.Open(l.path("inputs"))
	l.must(err)
	stdout, err := os.Create(l.path(out))
	l.must(err)
	stderr, err := os.Create(l.path("stderr"))
	l.must(err)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = stdin, stdout, stderr
	l.must(p.cmd.Start())
	for _, f := range []*os.File{stdin, stdout, stderr} {
		l.must(f.Close())
	}
	go func() {
		_ = p.cmd.Wait() // await tells
		close(p.over)
	}()
	return p
}

// await waits for the end of a navvy, and gives its exit code.
func (l *life) await(p *proc) int {
	select {
	case <-p.over:
	case <-time.After(patience):
		l.signal(p, unix.SIGQUIT) // tells what it is doing
		<-p.over
		l.violate(errState, "navvy %s does not end:\n%s", strings.Join(p.cmd.Args[1:], " "), l.read("stderr"))
	}
	code := p.cmd.ProcessState.ExitCode()
	if code != 0 {
		l.note("exit code %d: %.300s", code, l.read("stderr"))
	}
	return code
}

func (l *life) signal(p *proc, sig unix.Signal) {
	l.note("signal %s", unix.SignalName(sig))
	_ = p.cmd.Process.Signal(sig) // it may have ended
}

func (l *life) kill(p *proc) {
	l.signal(p, unix.SIGKILL)
	<-p.over
}

// holder is the process that holds the data directory, 0 if none does.
func (l *life) holder() int {
	pid, err := strconv.Atoi(strings.TrimSpace(string(l.read("data/lock"))))
	if err != nil {
		return 0
	}
	if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err != nil || exe != navvy || !lifetest.Owns(pid, l.traces) {
		return 0
	}
	return pid
}

func (l *life) killHolder() {
	pid := l.holder()
	if pid == 0 {
		return
	}
	l.note("kill the holder, %d", pid)
	_ = unix.Kill(pid, unix.SIGKILL) // it may have ended
	l.until(func() bool { return l.holder() != pid })
}

// alive lists what belongs to this life and runs.
func (l *life) alive() []int { return lifetest.Alive(l.traces) }

func (l *life) until(ok func() bool) bool {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) { //nolint:forbidigo // nothing tells when another process ends
		if ok() {
			return true
		}
	}
	return false
}

// checkGone sees that nothing is left running when everything has ended.
func (l *life) checkGone() {
	if l.until(func() bool { return len(l.alive()) == 0 }) {
		return
	}
	for _, pid := range l.alive() {
		l.violate(errLeft, "process %d, %s", pid, lifetest.CommandOf(pid))
	}
}

// bury ends and removes whatever is left of this life.
func (l *life) bury() {
	for _, pid := range l.alive() {
		_ = unix.Kill(pid, unix.SIGKILL) // it may have ended
	}
	_ = os.RemoveAll(l.dir)
	_ = os.RemoveAll(l.traces)
}
