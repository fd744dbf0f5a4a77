package broker_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// run runs navvy to its end, and gives what it printed, what it said, and its exit code.
func run(t *testing.T, stdin string, args ...string) (out, said string, code int) {
	t.Helper()
	return runWith(t, nil, stdin, args...)
}

// runWith is run with more variables.
func runWith(t *testing.T, env []string, stdin string, args ...string) (out, said string, code int) {
	t.Helper()
	cmd := exec.Command(navvy, args...)
	var stdout, stderr strings.Builder
	cmd.Env = append(os.Environ(), env...)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = t.TempDir(), strings.NewReader(stdin), &stdout, &stderr
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// Messages of a broker's queue are sent and received by hand.
func TestByHand(t *testing.T) {
	t.Parallel()
	b := startRedis(t)
	in := b.url("in")
	if out, said, code := run(t, "three\nfour\n", "queue", "send", in, "--correlation", "c-1"); code != 0 || strings.Count(out, "\n") != 2 {
		t.Fatalf("send: exit code %d, %q, %s", code, out, said)
	}
	out, said, code := run(t, "", "queue", "recv", in, "--ack=false", "--lease", "1s", "-o", "jsonl")
	var m struct{ Correlation, Body string }
	if err := json.Unmarshal([]byte(out), &m); err != nil || code != 0 || m.Correlation != "c-1" || m.Body != "three" {
		t.Errorf("recv: exit code %d, %q, %v: %s", code, out, err, said)
	}
	// What was not acknowledged is there once more when its lease is over, or given up.
	got := map[string]bool{}
	for len(got) < 2 {
		out, said, code := run(t, "", "queue", "recv", in, "-n", "0", "--wait", "70s", "--lease", "1s")
		if code != 0 {
			t.Fatalf("recv: exit code %d: %s", code, said)
		}
		for line := range strings.Lines(out) {
			got[strings.TrimSpace(line)] = true
		}
	}
	if !got["three"] || !got["four"] {
		t.Errorf("received %v", got)
	}
	if out, said, code := run(t, "", "queue", "recv", in); code != 0 || out != "" {
		t.Errorf("of an empty queue: exit code %d, %q, %s", code, out, said)
	}
}

// Wrong places are told, and passwords in arguments refused.
func TestByHandBad(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(file, []byte("redis://:secret@127.0.0.1:1/q\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"send", "redis://ann:secret@127.0.0.1/q", "x"}, 2, "give --url-file"},
		{[]string{"recv", "carrots://127.0.0.1/q"}, 2, "there is no such kind of queue"},
		{[]string{"recv", "redis://127.0.0.1/q?colour=red"}, 2, "colour"},
		{[]string{"send", "redis://127.0.0.1:1/q", "x"}, 69, "refused"},
		{[]string{"send", "--url-file", file, "x"}, 69, "refused"},
		{[]string{"send", "redis://127.0.0.1:1/q", "x", "--priority", "1"}, 69, "refused"},
		{[]string{"peek", "redis://127.0.0.1:1/q"}, 69, "refused"},
		{[]string{"purge", "redis://127.0.0.1:1/q"}, 2, "give --yes"},
		{[]string{"recv"}, 2, "arg"},
	} {
		out, said, code := run(t, "", append([]string{"queue"}, c.args...)...)
		if code != c.code || !strings.Contains(said, c.says) || strings.Contains(said+out, "secret@") {
			t.Errorf("%v: exit code %d, want %d: %s", c.args, code, c.code, said)
		}
	}
}
