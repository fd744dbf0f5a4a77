package broker_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/navvy-run/navvy/queue/natsqueue/natstest"
	"github.com/navvy-run/navvy/queue/redisqueue/redistest"
)

// Mistakes are told at once, by a message that says what to do, and with no password in it.
func TestBadInput(t *testing.T) {
	t.Parallel()
	s, n := redistest.Start(t, "--requirepass", "hunter2"), natstest.Start(t, nil)
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, wrong := file("good", "redis://:hunter2@"+s.Addr+"/in"), file("wrong", "redis://ann:hunter3@"+s.Addr+"/in")
	for _, c := range []struct {
		stdin, says string
		args        []string
	}{
		{"", `as user "ann": there is no such user, or the password is wrong`, []string{"queue", "send", "--url-file", wrong, "x"}},
		{"", `as user "default"`, []string{"queue", "send", "redis://" + s.Addr + "/in", "x"}},
		{"", `as user "ann"`, []string{"worker", "start", "--requests-file", wrong, "--responses", "mem://out", "--service", "echo"}},
		{"", "there is no queue in", []string{"worker", "start", "--must-exist", "--requests-file", good, "--responses", "mem://out", "--service", "echo"}},
		{"", "write redis:// in place of rediss://", []string{"queue", "send", "rediss://" + s.Addr + "/in", "x"}},
		{"", "write nats:// in place of tls://", []string{"queue", "send", "tls://" + n.Addr + "/in", "x"}},
		{strings.Repeat("x", 2<<20) + "\n", "a body of 2097152 bytes, and this broker takes", []string{"queue", "send", "nats://" + n.Addr + "/in"}},
		{"", "option \"colour\" is unknown", []string{"queue", "peek", "redis://" + s.Addr + "/in?colour=red"}},
	} {
		if _, said, code := run(t, c.stdin, c.args...); code == 0 || !strings.Contains(said, c.says) || strings.Contains(said, "hunter") {
			t.Errorf("%s: exit code %d, %q is not in %s", strings.Join(c.args, " "), code, c.says, said)
		}
	}
}
