package ssh_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/navvy-run/navvy/cluster/ssh/sshdtest"
)

// The way of somebody who has the binary, two machines and keys for them.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	home := w.home()
	run := func(ok bool, want string, args ...string) string {
		t.Helper()
		cmd := w.command(home, args...)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); (err == nil) != ok || !strings.Contains(out.String()+errs.String(), want) {
			t.Fatalf("navvy %s: %v\n%s%s", strings.Join(args, " "), err, &out, &errs)
		}
		return out.String()
	}
	file := filepath.Join(home, "cluster.yaml")
	text := run(true, "provider: ssh", "cluster", "init", "--provider", "ssh")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(text)
	run(false, "fill in those that you reach by ssh", "cluster", "plan", "-f", file)
	run(true, w.net.Hosts[1].Name(), "cluster", "plan", "-f", file, "--hosts", w.hostsFile(home))
	for i, name := range []string{"user@worker-1.example", "user@worker-2.example"} {
		text = strings.Replace(text, name, w.net.Hosts[i].Name(), 1)
	}
	write(text)
	run(true, "+ create worker worker-002", "cluster", "plan", "-f", file)
	t.Cleanup(func() {
		run(true, "", "cluster", "destroy", "hosts", "--yes", "--provider", "ssh")
		if left := w.left("hosts"); len(left) > 0 {
			t.Errorf("there is left %q", left)
		}
	})
	run(true, "created", "cluster", "apply", "-f", file)
	run(true, "nothing to do", "cluster", "apply", "-f", file)
	run(true, "hosts", "cluster", "ls", "--provider", "ssh")
	server := filepath.Join(w.clusterDir("hosts"), "server")
	run(true, "", "--data", server, "queue", "send", "requests", "hello")
	run(true, "hello", "--data", server, "queue", "recv", "requests", "--wait", "2m")
	run(true, "1 created", "cluster", "scale", "hosts", "--workers", "3", "--provider", "ssh")
	run(true, "worker-003", "cluster", "status", "hosts", "--provider", "ssh")
	run(true, "", "cluster", "scale", "hosts", "--workers", "1", "--provider", "ssh")
	if left := commands(filepath.Dir(hostDir(w.net.Hosts[1], "hosts")) + "/"); len(left) > 0 {
		t.Errorf("on the host that has no worker any more there is %q", left)
	}
}

// home is a home directory with the keys for all hosts.
func (w *world) home() string {
	w.t.Helper()
	home := w.t.TempDir()
	keys := filepath.Join(home, ".ssh")
	if err := os.Mkdir(keys, 0o700); err != nil {
		w.t.Fatal(err)
	}
	for to, from := range map[string]string{"known_hosts": w.net.KnownHosts, "id_ed25519": w.net.Identity} {
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(filepath.Join(keys, to), text, 0o600)
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	return home
}

// command is navvy with arguments, of somebody with a home directory.
func (w *world) command(home string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(w.ctx(), navvyBinary, args...)
	cmd.Dir, cmd.Env = home, []string{"HOME=" + home, "PATH=/usr/bin:/bin", "XDG_STATE_HOME=" + w.state}
	return cmd
}

// hostsFile lists hosts as map --hosts reads them.
func (w *world) hostsFile(home string, more ...string) string {
	w.t.Helper()
	path := filepath.Join(home, "hosts")
	text := "# those of the test\n\n" + strings.Join(append(w.net.Names(), more...), " # one\n") + "\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// nothing checks that no run has left anything, here or on the hosts.
func (w *world) nothing() {
	w.t.Helper()
	roots := []string{filepath.Join(w.state, "navvy-ssh")}
	for _, h := range w.net.Hosts {
		roots = append(roots, filepath.Join(h.Home, ".local/state/navvy-hosted"))
	}
	for _, root := range roots {
		if _, err := os.Lstat(root); err == nil {
			w.t.Errorf("there is still %s", root)
		}
		if left := commands(root); len(left) > 0 {
			w.t.Errorf("there runs %q", left)
		}
	}
}

// A run on hosts has its answers in order, from all hosts but one that is dead, and leaves
// nothing.
func TestMapOnHosts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	home := w.home()
	hosts := w.hostsFile(home, w.net.User+"@127.0.0.1:"+strconv.Itoa(sshdtest.FreePort(t)))
	cmd := w.command(home, "map", "--hosts", hosts, "-S", "echo {} too")
	var in, want strings.Builder
	for i := range 200 {
		in.WriteString(strconv.Itoa(i) + "\n")
	}
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(in.String()), &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, &errs)
	}
	if !strings.Contains(errs.String(), "2 of 3 hosts have a worker") {
		t.Errorf("of the dead host it is said: %s", &errs)
	}
	for line := range strings.Lines(out.String()) {
		number, rest, _ := strings.Cut(line, " ")
		want.WriteString(number + "\n")
		if rest != "too\n" {
			t.Errorf("an answer is %q", line)
		}
	}
	if in.String() != want.String() {
		t.Errorf("the answers are of %q", want.String())
	}
	w.nothing()
}

// Whoever interrupts a run finds nothing left of it.
func TestMapOnHostsInterrupted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	home := w.home()
	long := "1000" + strconv.Itoa(os.Getpid()) // one of this test
	sleeps := func() bool {
		return slices.ContainsFunc(commands(long), func(line string) bool { return strings.HasPrefix(line, "sleep ") })
	}
	cmd := w.command(home, "map", "--hosts", w.hostsFile(home), "-S", "exec sleep "+long+" {}", ":::", "1")
	var errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &errs, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.until(sleeps)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	exit, is := errors.AsType[*exec.ExitError](cmd.Wait())
	if !is || exit.ExitCode() != 128+int(syscall.SIGTERM) {
		t.Errorf("it ends with %v: %s", exit, &errs)
	}
	if said := errs.String(); strings.Contains(said, "navvy resume") || !strings.Contains(said, "has to be run anew") {
		t.Errorf("how to go on is told as %s", said)
	}
	w.nothing()
	if sleeps() {
		t.Error("the task runs still")
	}
}

// Whoever interrupts a run that still waits for its inputs finds nothing left of it, either; a
// terminal that is closed is such a one.
func TestMapOnHostsWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	home := w.home()
	cmd := w.command(home, "map", "--hosts", w.hostsFile(home), "--csv", "-", "-S", "echo {}")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close() //nolint:errcheck // nothing was said
	errs, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(errs)
	for lines.Scan() && !strings.Contains(lines.Text(), "have a worker each") && !strings.Contains(lines.Text(), "has a worker each") {
		t.Log(lines.Text())
	}
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Error(err)
	}
	said, _ := io.ReadAll(errs)
	exit, is := errors.AsType[*exec.ExitError](cmd.Wait())
	if !is || exit.ExitCode() != 128+int(syscall.SIGHUP) {
		t.Errorf("it ends with %v: %s", exit, said)
	}
	w.nothing()
}

// What does not go with hosts of a run's own is said before anything is made.
func TestMapOnHostsRefused(t *testing.T) {
	t.Parallel()
	w := &world{t: t, state: t.TempDir(), net: &sshdtest.Net{}}
	home := t.TempDir()
	write := func(text string) string {
		path := filepath.Join(home, "hosts")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, test := range []struct {
		want string
		args []string
	}{
		{"there is none in it", []string{"--hosts", write("# nobody\n"), "--", "true"}},
		{"there is no command", []string{"--hosts", "hosts"}},
		{"no such file", []string{"--hosts", "missing", "--", "true"}},
		{"--detach", []string{"-d", "--hosts", "hosts", "--", "true"}},
		{"--fn", []string{"--fn", "f", "--hosts", "hosts"}},
		{"standard input", []string{"--hosts", "-", "--", "true"}},
	} {
		out, err := w.command(home, append([]string{"map"}, test.args...)...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), test.want) {
			t.Errorf("%q: %v: %s", test.args, err, out)
		}
	}
	write("a b c\n")
	if out, err := w.command(home, "map", "--hosts", "hosts", "--", "true").CombinedOutput(); err == nil || !strings.Contains(string(out), "want [USER@]HOST[:PORT]") {
		t.Errorf("%v: %s", err, out)
	}
	w.nothing()
}
