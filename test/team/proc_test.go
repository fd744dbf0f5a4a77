package team

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy/test/lifetest"
)

// patience bounds whatever should come about by itself, also on a machine that has
// much else to do.
const patience = 90 * time.Second

// proc is a navvy that was started.
type proc struct {
	what     string
	cmd      *exec.Cmd
	out, err string // the files that it writes
	over     chan struct{}
}

// start starts a navvy, whose output goes to files of that name.
func (m *team) start(name string, env []string, args ...string) *proc {
	m.Helper()
	return m.startIn(nil, name, env, args...)
}

// startIn starts a navvy by a command that runs it.
func (m *team) startIn(by []string, name string, env []string, args ...string) *proc {
	m.Helper()
	m.count++
	base := filepath.Join(m.dir, fmt.Sprintf("%s.%d", name, m.count))
	line := append(append(by, navvy), args...)
	p := &proc{what: "navvy " + strings.Join(args, " "), cmd: exec.Command(line[0], line[1:]...), out: base + ".out", err: base + ".err", over: make(chan struct{})}
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + m.dir, "TMPDIR=" + m.dir, taskDir + "=" + m.traces}, env...)
	stdout, err := os.Create(p.out)
	m.must(err)
	stderr, err := os.Create(p.err)
	m.must(err)
	p.cmd.Stdout, p.cmd.Stderr = stdout, stderr
	m.must(p.cmd.Start())
	m.must(stdout.Close())
	m.must(stderr.Close())
	go func() {
		_ = p.cmd.Wait() // await tells
		close(p.over)
	}()
	return p
}

func (p *proc) signal(sig unix.Signal) { _ = p.cmd.Process.Signal(sig) } // it may have ended

// kill ends a process at once.
func (p *proc) kill() {
	p.signal(unix.SIGKILL)
	<-p.over
}

// ended tells whether a process has ended.
func (p *proc) ended() bool {
	select {
	case <-p.over:
		return true
	default:
		return false
	}
}

// died tells whether a process was killed.
func (p *proc) died() bool { return p.ended() && p.cmd.ProcessState.ExitCode() < 0 }

// awaitEnd waits for the end of a navvy, and gives its exit code.
func (m *team) awaitEnd(p *proc) int {
	m.Helper()
	select {
	case <-p.over:
	case <-time.After(patience):
		p.signal(unix.SIGQUIT) // tells what it is doing
		<-p.over
		m.Fatalf("%s does not end:\n%s", p.what, m.text(p.err))
	}
	return p.cmd.ProcessState.ExitCode()
}

// do runs a navvy to its end, which has to be a good one, and gives what it has printed.
func (m *team) do(name string, env []string, args ...string) string {
	m.Helper()
	p := m.start(name, env, args...)
	if code := m.awaitEnd(p); code != 0 {
		m.Fatalf("%s: exit code %d\n%s", p.what, code, m.text(p.err))
	}
	return m.text(p.out)
}

// text is what is in a file.
func (m *team) text(path string) string {
	m.Helper()
	b, err := os.ReadFile(path)
	m.must(err)
	return string(b)
}

// tail is the end of a file, for people.
func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4000):])
}

// eventually waits for what other processes do.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	if !soon(ok) {
		t.Fatalf("never: %s", what)
	}
}

// soon waits for what other processes do; false if it does not come about.
func soon(ok func() bool) bool {
	timeout := time.After(patience)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ticker.C:
		case <-timeout:
			return ok()
		}
	}
	return true
}

// awaitText waits until a file has so many of a text.
func awaitText(t testing.TB, path, text string, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s says %d × %q", path, n, text), func() bool {
		b, err := os.ReadFile(path)
		return err == nil && bytes.Count(b, []byte(text)) >= n
	})
}

// gone waits until a process has ended.
func gone(t testing.TB, pid string) {
	t.Helper()
	eventually(t, "process "+pid+" ends", func() bool {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		return err != nil || bytes.Contains(stat, []byte(") Z "))
	})
}

// lines are those of a file; none if there is no such file.
func lines(t testing.TB, path string) []string {
	t.Helper()
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return strings.FieldsFunc(string(b), func(r rune) bool { return r == '\n' })
}

// checkGone sees that nothing is left running once all has ended.
func (m *team) checkGone() {
	m.Helper()
	if soon(func() bool { return len(lifetest.Alive(m.traces)) == 0 }) {
		return
	}
	for _, pid := range lifetest.Alive(m.traces) {
		m.Errorf("process %d is left: %s", pid, lifetest.CommandOf(pid))
	}
}

// bury ends whatever is left.
func (m *team) bury() {
	for _, pid := range lifetest.Alive(m.traces) {
		_ = unix.Kill(pid, unix.SIGKILL) // it may have ended
	}
	_ = soon(func() bool { return len(lifetest.Alive(m.traces)) == 0 })
}
