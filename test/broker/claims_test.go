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

// hand sends and receives messages by hand, of which one goes to a place for large bodies.
type hand struct {
	*testing.T
	at, dir string
	there   []string // the flags that name the place
}

var byHand = strings.Repeat("x", 50_000)

func newHand(t *testing.T) *hand {
	dir := t.TempDir()
	h := &hand{T: t, at: startRedis(t).url("hand") + "?envelope=json", dir: dir, there: []string{"--claims", "file://" + dir, "--claims-over", "10K"}}
	if _, said, code := run(t, byHand+"\nsmall\n", append([]string{"queue", "send", h.at}, h.there...)...); code != 0 || len(bodies(t, dir)) != 1 {
		t.Fatalf("send: exit code %d, %s", code, said)
	}
	return h
}

// fails has a message received in vain.
func (h *hand) fails(code int, says string, flags ...string) {
	h.Helper()
	if out, said, got := run(h.T, "", append([]string{"queue", "recv", h.at}, flags...)...); got != code || out != "" || !strings.Contains(said, says) {
		h.Errorf("%v: exit code %d, %q, %s", flags, got, out, said)
	}
}

// recv receives messages.
func (h *hand) recv(flags ...string) string {
	h.Helper()
	out, said, code := run(h.T, "", append(append([]string{"queue", "recv", h.at}, h.there...), flags...)...)
	if code != 0 {
		h.Fatalf("recv: exit code %d, %s", code, said)
	}
	return out
}

// Large messages by hand: one that cannot be read stays in its queue, and says why.
func TestClaimsByHand(t *testing.T) {
	t.Parallel()
	h := newHand(t)
	h.fails(1, "no place for large bodies is given here: give that one (--claims PLACE)")
	h.fails(1, "give the same place to all who send and receive", "--claims", "file://"+t.TempDir())
	got := map[string]bool{} // what was given back may come behind the other one
	for range 2 {
		got[strings.TrimSpace(h.recv())] = true
	}
	if left := bodies(t, h.dir); !got[byHand] || !got["small"] || len(left) != 0 {
		t.Errorf("received %d messages, %q are left", len(got), left)
	}
}

// A message whose body somebody has removed is shown without it, and leaves its queue then.
func TestClaimGone(t *testing.T) {
	t.Parallel()
	h := newHand(t)
	if err := os.Remove(bodies(t, h.dir)[0]); err != nil {
		t.Fatal(err)
	}
	h.fails(65, "any more", append(h.there, "--lease", "1s")...)
	all := ""
	for strings.Count(all, "\n") < 2 { // when its lease is over
		all += h.recv("-n", "0", "-o", "jsonl", "--wait", "70s")
	}
	if strings.Count(all, `"missing":"queue `) != 1 || strings.Count(all, `"body":"small"`) != 1 {
		t.Error(all)
	}
}

// What is purged leaves its bodies behind, unless their place is named.
func TestClaimsPurged(t *testing.T) {
	t.Parallel()
	for left, place := range []bool{true, false} {
		h := newHand(t)
		args := []string{"queue", "purge", h.at, "--yes"}
		if place {
			args = append(args, h.there[:2]...)
		}
		if _, said, code := run(t, "", args...); code != 0 || !strings.Contains(said, "2 messages are removed") {
			t.Errorf("%v: exit code %d, %s", args, code, said)
		}
		if names := bodies(t, h.dir); len(names) != left {
			t.Errorf("%v: bodies %q, want %d", args, names, left)
		}
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
