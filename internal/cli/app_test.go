package cli

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy/internal/holder"
)

// result is what one command line left.
type result struct {
	code           int
	stdout, stderr string
}

// run runs a command line in this process, on a data directory.
func run(t *testing.T, data string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	a := &app{
		version: "test", in: strings.NewReader(""), err: &stderr, patience: 50 * time.Millisecond,
		env: func(name string) string { return map[string]string{"NAVVY_DATA": data}[name] },
		environ: func() []string {
			return []string{"PATH=" + os.Getenv("PATH")}
		},
	}
	a.out = &counter{w: &stdout, n: &a.wrote}
	code := a.main(t.Context(), args)
	return result{code, stdout.String(), stderr.String()}
}

// expect fails if a command line does not end so.
func (r result) expect(t *testing.T, code int, stderr ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d: %s", r.code, code, r.stderr)
	}
	for _, s := range stderr {
		if !strings.Contains(r.stderr, s) {
			t.Errorf("standard error does not say %q: %s", s, r.stderr)
		}
	}
}

// 33 ids cannot begin with 32 characters.
func TestAmbiguous(t *testing.T) {
	t.Parallel()
	data := t.TempDir() + "/data"
	first := map[byte]bool{}
	for range 33 {
		r := run(t, data, "map", "-o", "jsonl", "--noop", ":::", "x")
		r.expect(t, 0)
		id := strings.TrimPrefix(run(t, data, "ls", "-n", "1", "-o", "jsonl").stdout, `{"id":"`)
		if !first[id[0]] {
			first[id[0]] = true
			continue
		}
		for _, verb := range []string{"status", "results", "logs", "resume", "retry", "stop", "rm", "why", "wait"} {
			run(t, data, verb, id[:1]).expect(t, 2, "job "+id[:1]+" fits several jobs, give more of the id: ["+id[:1])
		}
		return
	}
	t.Error("no two ids begin alike")
}

// lockedDir is a new data directory that this process has locked.
func lockedDir(t *testing.T) (*holder.Dir, *holder.Lock) {
	t.Helper()
	dir, err := holder.OpenDir(t.TempDir() + "/data")
	if err != nil {
		t.Fatal(err)
	}
	lock, _, err := dir.TryLock()
	if err != nil {
		t.Fatal(err)
	}
	return dir, lock
}

// Who holds the data and does not answer is named, and not waited for for ever.
func TestHolderDoesNotAnswer(t *testing.T) {
	t.Parallel()
	for name, listen := range map[string]bool{"no socket": false, "a silent socket": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, lock := lockedDir(t)
			defer func() {
				if err := lock.Unlock(); err != nil {
					t.Error(err)
				}
			}()
			if listen {
				silent, err := net.Listen("unix", filepath.Join(dir.Path(), "navvy.sock"))
				if err != nil {
					t.Fatal(err)
				}
				defer silent.Close()
			}
			us := strconv.Itoa(os.Getpid())
			for _, args := range [][]string{{"ls"}, {"map", "--", "true", ":::", "x"}, {"map", "-d", "--", "true", ":::", "x"}} {
				run(t, dir.Path(), args...).expect(t, 69,
					"data directory "+dir.Path()+" is held by process "+us+", which does not answer", "hint: see what it is doing with ps "+us)
			}
			if err := os.Mkdir(holder.StoreDir(dir.Path()), 0o700); err != nil {
				t.Fatal(err)
			}
			run(t, dir.Path(), "verify").expect(t, 69, "process "+us+" holds "+dir.Path())
			// Somebody who has not written its id.
			if err := os.Truncate(dir.LockPath(), 0); err != nil {
				t.Fatal(err)
			}
			run(t, dir.Path(), "ls").expect(t, 69, "is held by another process, which", "hint: see which one with fuser -v "+dir.LockPath())
			run(t, dir.Path(), "verify").expect(t, 69, "another process holds "+dir.Path())
		})
	}
}

// Who is about to leave, or to begin serving, is waited for.
func TestWaitsForHolder(t *testing.T) {
	t.Parallel()
	dir, lock := lockedDir(t)
	time.AfterFunc(5*time.Millisecond, func() {
		if err := lock.Unlock(); err != nil {
			t.Error(err)
		}
	})
	run(t, dir.Path(), "ls").expect(t, 0, "there are no jobs yet")
}

// Why a background process cannot start is told by whoever started it.
func TestHeard(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]result{
		serving:               {},
		"":                    {},
		"65 a block is wrong": {code: 65, stderr: "navvy: the background process cannot start: a block is wrong\n"},
		"nonsense":            {code: 70, stderr: "navvy: the background process says \"nonsense\"\n"},
	} {
		var stderr bytes.Buffer
		a := &app{err: &stderr}
		if got := (result{code: a.report(heard(word)), stderr: stderr.String()}); got != want {
			t.Errorf("%q: %+v, want %+v", word, got, want)
		}
	}
}

// And it does tell.
func TestHoldFails(t *testing.T) {
	t.Parallel()
	data := t.TempDir() + "/data"
	dir, err := holder.OpenDir(data)
	if err != nil {
		t.Fatal(err)
	}
	hold := func() (string, error) {
		var stderr bytes.Buffer
		a := &app{err: &stderr, data: data, env: func(string) string { return "" }, patience: time.Second}
		said, tell, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer said.Close()
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // whatever is started ends at once
		holdErr := a.hold(ctx, tell)
		var word bytes.Buffer
		if _, err := word.ReadFrom(said); err != nil {
			t.Fatal(err)
		}
		return word.String(), holdErr
	}
	lock, _, err := dir.TryLock()
	if err != nil {
		t.Fatal(err)
	}
	if word, err := hold(); word != "" || err == nil {
		t.Errorf("somebody else holds the data: %q, %v", word, err)
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(holder.StoreDir(data), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	word, err := hold()
	if err == nil || heard(word) == nil || !strings.Contains(heard(word).Error(), data) {
		t.Errorf("there is a file where the store should be: %q, %v", word, err)
	}
	run(t, data, "ls").expect(t, exitCode(err), data)
}

func TestParallelism(t *testing.T) {
	t.Parallel()
	for text, fine := range map[string]bool{
		"1": true, "1048576": true, "50%": true, "0.1%": true, "1000%": true, "": true,
		"0": false, "-1": false, "1.5": false, "0%": false, "-5%": false, "%": false, "NaN%": false, "Inf%": false, "1e9%": false, "1048577": false, "x": false, " 1": false, "+1": false, "+50%": false,
	} {
		n, err := parallelism(text)
		if fine != (err == nil) || fine && (n < 1 || n > 1<<20) {
			t.Errorf("-j %s: %d, %v", text, n, err)
		}
	}
}

func TestDurations(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"": 0, "0": 0, "2": 2 * time.Second, "0.5": 500 * time.Millisecond, "90s": 90 * time.Second, "1h30m": 90 * time.Minute, "2d": 48 * time.Hour, "1.5d": 36 * time.Hour,
	} {
		if got, err := durationFlag("timeout", text); got != want || err != nil {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"x", "-1", "-1s", "-2d", "d", "inf", "nan", "1e300", "infd", "1e30d", "5x", "1 s", "200000d", "99999999999"} {
		if got, err := durationFlag("timeout", text); err == nil || exitCode(err) != 2 {
			t.Errorf("%q is %s, %v", text, got, err)
		}
	}
}

func TestMaxFails(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"": "<nil>", "0": "&{0 0}", "7": "&{7 0}", "0%": "&{0 0}", "12.5%": "&{0 12.5}", "100%": "&{0 100}"} {
		if got, err := maxFails(text); fmt.Sprint(got) != want || err != nil {
			t.Errorf("%q: %v, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"-1", "x", "101%", "-1%", "NaN%", "%", "1.5"} {
		if got, err := maxFails(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

func TestTaskArg(t *testing.T) {
	t.Parallel()
	for arg, want := range map[string]string{"7k2": "7k2 -1", "7k2/0": "7k2 0", "7k2/17": "7k2 17"} {
		prefix, index, err := taskArg(arg)
		if got := fmt.Sprint(prefix, " ", index); got != want || err != nil {
			t.Errorf("%s: %s, %v", arg, got, err)
		}
	}
	for _, arg := range []string{"7k2/", "7k2/x", "7k2/-1", "7k2/1/2", "7k2/99999999999999999999"} {
		if _, index, err := taskArg(arg); exitCode(err) != 2 {
			t.Errorf("%s: %d, %v", arg, index, err)
		}
	}
}
