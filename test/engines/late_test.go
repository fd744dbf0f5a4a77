package engines

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy/runner/engine/enginetest"
)

// daemon is a navvy that runs in the background.
type daemon struct {
	cmd  *exec.Cmd
	said string // the file that it writes
}

// background starts navvy until the test ends. env is added to its environment.
func (p *place) background(name string, env []string, args ...string) *daemon {
	p.t.Helper()
	d := &daemon{cmd: p.command(p.t.Context(), args...), said: filepath.Join(p.home, name+".said")}
	d.cmd.Env = slices.Concat(d.cmd.Env, env)
	out, err := os.OpenFile(d.said, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	d.cmd.Stdout, d.cmd.Stderr = out, out
	if err := d.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		d.end(unix.SIGTERM)
		if text, err := os.ReadFile(d.said); err == nil && p.t.Failed() {
			p.t.Logf("%s wrote:\n%s", name, text)
		}
	})
	return d
}

// end ends it by a signal.
func (d *daemon) end(signal os.Signal) {
	if d.cmd.ProcessState != nil {
		return
	}
	_ = d.cmd.Process.Signal(signal) // it may have ended
	timer := time.AfterFunc(enginetest.Patience, func() { _ = d.cmd.Process.Kill() })
	defer timer.Stop()
	_ = d.cmd.Wait() // it was ended
}

// says waits until a daemon has written what fits, and gives the first group of it.
func (p *place) says(d *daemon, pattern string) (found string) {
	p.t.Helper()
	fits := regexp.MustCompile(pattern)
	p.until("it says "+pattern, func() bool {
		text, err := os.ReadFile(d.said)
		if err != nil {
			p.t.Fatal(err)
		}
		m := fits.FindSubmatch(text)
		if m != nil {
			found = string(m[1])
		}
		return m != nil
	})
	return found
}

// later is the environment of a navvy whose engine does not listen yet, and what makes it listen.
func (p *place) later() (env []string, listen func()) {
	socket := filepath.Join(p.home, "later.sock")
	return []string{"DOCKER_HOST=unix://" + socket, "CONTAINERD_ADDRESS=" + socket}, func() {
		p.t.Helper()
		if err := os.Symlink(p.at.Socket, socket); err != nil {
			p.t.Fatal(err)
		}
	}
}

// TestLate starts navvy before its engine. A command waits for it a little; who runs tasks says so,
// looks on, and runs containers once it is there.
func TestLate(t *testing.T) {
	each(t, func(p *place) {
		env, listen := p.later()
		hurried := p.command(p.t.Context(), "run", "--image", enginetest.Image, "-S", "--", "echo never")
		hurried.Env = slices.Concat(hurried.Env, env)
		if out, err := hurried.CombinedOutput(); err == nil || !strings.Contains(string(out), "later.sock") || !strings.Contains(string(out), "hint: start "+p.kind) {
			p.t.Errorf("without an engine a command ends with %v: %s", err, out)
		}
		dev := p.background("dev", env, "dev", "--data", filepath.Join(p.home, "data"), "--listen", "127.0.0.1:0", "--http", "")
		p.says(dev, `(not done here yet).*"kind":"container".*later.sock`)
		id := strings.TrimSpace(p.run(0, "map", "-d", "--image", enginetest.Image, "-S", "--", "echo ran {}", ":::", "a"))
		if why := p.run(0, "why", id); !strings.Contains(why, "later.sock") {
			p.t.Errorf("it waits because %q", why)
		}
		listen()
		p.run(0, "wait", id)
		if out := p.run(0, "results", id); out != "ran a\n" {
			p.t.Errorf("it wrote %q", out)
		}
		p.says(dev, "(done here from now on).*container")
		p.until("its container is gone", func() bool { return len(p.list(false)) == 0 }) // before dev is, as the next tests count them
	})
}

// TestWorkerKilled kills a worker, which had found its engine late, while a container of its runs whose
// job is then stopped, or removed. When it is back it ends that, and leaves alone what is wanted.
func TestWorkerKilled(t *testing.T) {
	each(t, func(p *place) {
		srv := filepath.Join(p.home, "srv")
		server := p.background("server", nil, "server", "--data", srv, "--listen", "127.0.0.1:0", "--host", "127.0.0.1", "--http", "", "--heartbeat", "200ms")
		at := p.says(server, `gRPC with certificates on (\S+)`)
		token := filepath.Join(p.home, "token")
		if err := os.WriteFile(token, []byte(p.run(0, "--data", srv, "token", "create")), 0o600); err != nil {
			p.t.Fatal(err)
		}
		admin := filepath.Join(srv, "clients", "admin")
		p.env = append(p.env, "NAVVY_SERVER="+at, "NAVVY_CA="+filepath.Join(srv, "ca", "ca.crt"), "NAVVY_CERT="+admin+".crt", "NAVVY_KEY="+admin+".key")
		env, listen := p.later()
		env = append(env, "NAVVY_SERVER=", "NAVVY_CA=", "NAVVY_CERT=", "NAVVY_KEY=") // it has its own
		work := func(args ...string) *daemon {
			return p.background("worker", env, append([]string{"worker", "start", "--data", filepath.Join(p.home, "work"), "-j", "4"}, args...)...)
		}
		worker := work("--join", at, "--token-file", token)
		p.says(worker, `(not done here yet).*"kind":"container".*later.sock`)
		p.says(worker, "(connected to the server)")
		jobs := make(map[string]string)
		for _, fate := range []string{"stop", "rm", "open"} {
			jobs[fate] = strings.TrimSpace(p.run(0, "map", "-d", "--name", fate, "--image", enginetest.Image, "-S", "--", "trap 'exit 4' TERM; echo {}; sleep 1000000 & wait", ":::", "a"))
		}
		listen()
		var made []string
		p.until("three containers run", func() bool { made = p.list(true); return len(made) == 3 })
		worker.end(unix.SIGKILL)
		if fleet := p.run(0, "worker", "ls", "-o", "json"); !strings.Contains(fleet, `"container"`) {
			p.t.Errorf("that it has run containers is not kept: %s", fleet)
		}
		p.run(0, "stop", jobs["stop"])
		p.run(0, "stop", jobs["rm"])
		p.until("what was stopped can be removed", func() bool {
			return p.command(p.t.Context(), "rm", jobs["rm"]).Run() == nil
		})
		if n := len(p.list(true)); n != 3 {
			p.t.Errorf("while nobody looks after them %d run", n)
		}
		worker = work()
		p.until("those that nobody wants are gone", func() bool { return len(p.list(false)) == 1 })
		p.says(worker, "(connected to the server)")
		if out := p.run(0, "status", jobs["open"], "-o", "json"); !strings.Contains(out, `"running"`) {
			p.t.Errorf("the other is not running: %s", out)
		}
		if left := p.list(true); len(left) != 1 || !strings.Contains(fmt.Sprint(made), left[0]) {
			p.t.Errorf("of %v there run %v", made, left)
		}
		p.run(0, "stop", jobs["open"])
		p.until("it is gone, too", func() bool { return len(p.list(false)) == 0 })
	})
}

// TestStopAfterDeath stops a job whose navvy was killed, without any other: its container ends before
// the command does, though it does not hear. One whose job was not stopped goes on.
func TestStopAfterDeath(t *testing.T) {
	each(t, func(p *place) {
		var made []string
		for _, name := range []string{"gone", "stays"} {
			first := p.command(p.t.Context(), "run", "--name", name, "--image", enginetest.Image, "-S", "--", "trap '' TERM; while :; do sleep 1; done")
			if err := first.Start(); err != nil {
				p.t.Fatal(err)
			}
			p.until("its container runs", func() bool { made = p.list(true); return len(made) > 0 && name == "gone" || len(made) == 2 })
			_ = first.Process.Kill()
			_ = first.Wait() // it was killed
		}
		var jobs []struct{ ID, Name string }
		if err := json.Unmarshal([]byte(p.run(0, "ls", "-o", "json")), &jobs); err != nil || len(jobs) != 2 {
			p.t.Fatalf("%v: there are jobs %v", err, jobs)
		}
		for _, left := range []int{1, 0} {
			for _, job := range jobs {
				if (job.Name == "gone") == (left == 1) {
					p.run(0, "stop", job.ID)
				}
			}
			if list := p.list(false); len(list) != left {
				p.t.Errorf("of %v there are %v, want %d", made, list, left)
			}
		}
	})
}
