package broker_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/navvy-run/navvy/queue/redisqueue/redistest"
)

// Whoever attaches a server's queue to a broker's is told at once if the broker does not let
// the server in; the setting stays, shows what is wrong, and can be mended.
func TestAttachIsTold(t *testing.T) { //nolint:gocyclo // one life, step by step
	t.Parallel()
	s := redistest.Start(t, "--requirepass", "hunter2")
	dir := t.TempDir()
	data, files := filepath.Join(dir, "data"), map[string]string{}
	for name, url := range map[string]string{"wrong": "redis://:hunter3@" + s.Addr + "/in", "in": "redis://:hunter2@" + s.Addr + "/in", "out": "redis://:hunter2@" + s.Addr + "/out"} {
		files[name] = filepath.Join(dir, name)
		if err := os.WriteFile(files[name], []byte(url), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w := &workers{t: t, args: []string{"server", "--data", data, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"}}
	cmd := w.start()
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}()
	attached := func(verb, in string) (said string) {
		t.Helper()
		for {
			_, said, code := run(t, "", "queue", verb, "q", "--data", data, "--service", "echo", "--requests-file", files[in], "--responses-file", files["out"])
			if strings.Contains(said, "--server names a server") && !over(cmd) { // it is not up yet
				continue
			}
			if code != 0 {
				t.Fatalf("queue %s: exit code %d: %s", verb, code, said)
			}
			return said
		}
	}
	for tick := time.Tick(10 * time.Millisecond); !exists(filepath.Join(data, "clients", "admin.crt")) && !over(cmd); <-tick {
	}
	if said := attached("create", "wrong"); !strings.Contains(said, "nothing comes from there") || !strings.Contains(said, `as user "default"`) || strings.Contains(said, "hunter") {
		t.Errorf("create says %s", said)
	}
	out, _, _ := run(t, "", "queue", "show", "q", "--data", data)
	if !strings.Contains(out, "no broker") || !strings.Contains(out, "state      nothing comes from there: ") || strings.Contains(out, "hunter") {
		t.Errorf("show prints %s", out)
	}
	if said := attached("set", "in"); !strings.Contains(said, "queue q answers the requests of redis://:xxxxx@") {
		t.Errorf("set says %s", said)
	}
	if out, _, _ := run(t, "", "queue", "show", "q", "--data", data); !strings.Contains(out, "state      its requests are answered") {
		t.Errorf("show prints %s", out)
	}
}

// exists tells whether a file does.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// over tells whether a process has ended.
func over(cmd *exec.Cmd) bool { return !running(cmd) }
