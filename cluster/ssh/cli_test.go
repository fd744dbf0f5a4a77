package ssh_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The way of somebody who has the binary, two machines and keys for them.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	home := t.TempDir()
	keys := filepath.Join(home, ".ssh")
	if err := os.Mkdir(keys, 0o700); err != nil {
		t.Fatal(err)
	}
	for to, from := range map[string]string{"known_hosts": w.net.KnownHosts, "id_ed25519": w.net.Identity} {
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(filepath.Join(keys, to), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	run := func(ok bool, want string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(w.ctx(), navvyBinary, args...)
		cmd.Dir, cmd.Env = home, []string{"HOME=" + home, "PATH=/usr/bin:/bin", "XDG_STATE_HOME=" + w.state}
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
