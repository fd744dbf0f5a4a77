package broker_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/navvy-run/navvy/internal/pause"
)

// bodies are the files below a directory, but for what a share keeps for itself.
func bodies(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "[A-Z0-9]*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// largeLines are inputs, of which every other one is large.
func largeLines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintln(&b, i, strings.Repeat("x", i%2*100_000))
	}
	return b.String()
}

// Large requests and answers go by way of a share, whoever is killed: each input has its
// answer, in order, and no message is without its body.
func TestClaims(t *testing.T) {
	t.Parallel()
	b, dir := startRedis(t), t.TempDir()
	place := []string{"--claims", "file://" + dir + "#bodies", "--claims-over", "10K"}
	in, out := b.url("in")+"?envelope=json", b.url("out")+"?envelope=json"
	workers := make(chan *exec.Cmd, 1) // that runs
	start := func() {
		cmd := exec.Command(navvy, append([]string{
			"worker", "start", "--requests", in, "--responses", out, "--service", "cgi-raw:cat",
			"--lease", "2s", "-j", "3", "--attempts", "1000", "--drain-timeout", "30s",
		}, place...)...)
		cmd.Stderr = t.Output()
		if err := cmd.Start(); err != nil {
			t.Error(err)
		}
		workers <- cmd
	}
	start()
	killing, stop := context.WithCancel(t.Context())
	killed := make(chan int)
	go func() {
		n := 0
		for ; n < 5 && pause.For(killing, time.Duration(200+rand.IntN(500))*time.Millisecond) == nil; n++ {
			worker := <-workers
			_ = worker.Process.Kill()
			_ = worker.Wait() // which tells of the signal
			start()
		}
		killed <- n
	}()
	inputs := largeLines(400)
	answers, said, code := run(t, inputs, append([]string{"map", "--queue", in, "--responses", out}, place...)...)
	stop()
	t.Logf("the worker was killed %d times", <-killed)
	if code != 0 || answers != inputs {
		t.Errorf("exit code %d, %d bytes came as %d: %s", code, len(inputs), len(answers), said)
	}
	worker := <-workers
	if err := worker.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := worker.Wait(); err != nil {
		t.Error(err)
	}
	// What comes twice since a worker was killed has its body, too.
	for _, q := range []string{in, out} {
		if _, said, code := run(t, "", append([]string{"queue", "recv", q, "-n", "0"}, place...)...); code != 0 {
			t.Errorf("recv: exit code %d: %s", code, said)
		}
	}
}

// Large messages by hand: one that cannot be read stays in its queue, and says why.
func TestClaimsByHand(t *testing.T) {
	t.Parallel()
	b, dir := startRedis(t), t.TempDir()
	at, large := b.url("hand")+"?envelope=json", strings.Repeat("x", 50_000)
	there := []string{"--claims", "file://" + dir, "--claims-over", "10K"}
	send := func() {
		t.Helper()
		if _, said, code := run(t, large+"\nsmall\n", append([]string{"queue", "send", at}, there...)...); code != 0 || len(bodies(t, dir)) != 1 {
			t.Fatalf("send: exit code %d, %s", code, said)
		}
	}
	send()
	for _, c := range []struct {
		args []string
		says string
	}{
		{nil, "no place for large bodies is given here: give that one (--claims PLACE)"},
		{[]string{"--claims", "file://" + t.TempDir()}, "give the same place to all who send and receive"},
	} {
		if out, said, code := run(t, "", append([]string{"queue", "recv", at}, c.args...)...); code != 1 || out != "" || !strings.Contains(said, c.says) {
			t.Errorf("%v: exit code %d, %q, %s", c.args, code, out, said)
		}
	}
	got := map[string]bool{} // what was given back may come behind the other one
	for range 2 {
		out, said, code := run(t, "", append([]string{"queue", "recv", at}, there...)...)
		if code != 0 {
			t.Errorf("recv: exit code %d, %s", code, said)
		}
		got[strings.TrimSpace(out)] = true
	}
	if !got[large] || !got["small"] || len(bodies(t, dir)) != 0 {
		t.Errorf("received %d messages, %d bodies are left", len(got), len(bodies(t, dir)))
	}
	send() // and somebody removes the body
	if err := os.Remove(bodies(t, dir)[0]); err != nil {
		t.Fatal(err)
	}
	if out, said, code := run(t, "", append([]string{"queue", "recv", at, "--lease", "1s"}, there...)...); code != 65 || out != "" || !strings.Contains(said, "any more") {
		t.Errorf("exit code %d, %q, %s", code, out, said)
	}
	all := "" // which takes it off the queue, when its lease is over
	for strings.Count(all, "\n") < 2 {
		out, said, code := run(t, "", append([]string{"queue", "recv", at, "-n", "0", "-o", "jsonl", "--wait", "70s"}, there...)...)
		if code != 0 {
			t.Fatalf("exit code %d, %s", code, said)
		}
		all += out
	}
	if strings.Count(all, `"missing":"queue `) != 1 || strings.Count(all, `"body":"small"`) != 1 {
		t.Error(all)
	}
}

// The variable names a place, with a password if need be, and what is said keeps it.
func TestClaimsVariable(t *testing.T) {
	t.Parallel()
	b := startRedis(t)
	cmd := exec.Command(navvy, "queue", "send", b.url("q")+"?envelope=json", "x")
	cmd.Env = append(os.Environ(), "NAVVY_CLAIMS=s3://key:"+url.PathEscape("hidden/word")+"@bucket/folder?endpoint=http://127.0.0.1:1&region=x&use_path_style=true")
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() != 69 || strings.Contains(said.String(), "hidden") {
		t.Errorf("%v: %s", err, said.String())
	}
}
