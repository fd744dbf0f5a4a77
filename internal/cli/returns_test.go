package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// killed is a directory in which navvy is killed again and again.
type killed struct {
	t    *testing.T
	dir  string
	env  []string
	want map[string][]byte // what is to come, by path
}

// command is navvy, in that directory.
func (k *killed) command(ctx context.Context, args ...string) (*exec.Cmd, *bytes.Buffer) {
	cmd := exec.CommandContext(ctx, "navvy", args...)
	cmd.Dir, cmd.Env = k.dir, append(os.Environ(), k.env...)
	said := &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = said, said
	return cmd, said
}

func (k *killed) run(args ...string) string {
	k.t.Helper()
	cmd, said := k.command(k.t.Context(), args...)
	if err := cmd.Run(); err != nil {
		k.t.Fatalf("navvy %q: %v: %s", args, err, said)
	}
	return said.String()
}

// look counts the files that are here, each of which must be whole.
func (k *killed) look() int {
	k.t.Helper()
	here := 0
	for name, want := range k.want {
		got, err := os.ReadFile(filepath.Join(k.dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if here++; err != nil || !bytes.Equal(got, want) {
			k.t.Fatalf("%s has %d bytes of %d, %v", name, len(got), len(want), err)
		}
	}
	return here
}

// until kills navvy when so many files are here, and a moment after that.
func (k *killed) until(files int, after time.Duration, args ...string) (over bool, said string) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), 4*scriptPatience)
	defer cancel()
	cmd, out := k.command(ctx, args...)
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			if err != nil {
				k.t.Fatalf("navvy %q: %v: %s", args, err, out)
			}
			return true, out.String()
		case <-tick.C:
		}
		if k.look() < files {
			continue
		}
		select {
		case err := <-ended:
			return err == nil, out.String()
		case <-time.After(after): // any moment is right
		}
		_ = cmd.Process.Kill() // it may have ended
		<-ended                //nolint:errcheck // which it says
		return false, out.String()
	}
}

// navvy is killed at any moment of a job whose files come here, and resumed: no file is
// half, none is lost, and in the end nothing is left on the way.
func TestReturnKilled(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			testReturnKilled(t, rand.New(rand.NewPCG(seed, 1)))
		})
	}
}

func testReturnKilled(t *testing.T, random *rand.Rand) {
	const files, size = 12, 700_000 // more than what is sent at once
	k := &killed{t: t, dir: t.TempDir(), want: map[string][]byte{}}
	k.env = []string{"NAVVY_DATA=" + filepath.Join(t.TempDir(), "data"), "XDG_CONFIG_HOME=" + t.TempDir(), "GORACE=atexit_sleep_ms=0"}
	args := []string{"map", "-j", "3", "--name", "killed", "--trc", "{.}.out", "-S", "cat {} {} > {.}.out", ":::"}
	for i := range files {
		name := fmt.Sprintf("in/%d", i)
		text := bytes.Repeat(fmt.Appendf(nil, "%d:%d\n", i, random.Uint64()), size/20)
		if err := errors.Join(os.MkdirAll(filepath.Join(k.dir, "in"), 0o700), os.WriteFile(filepath.Join(k.dir, name), text, 0o600)); err != nil {
			t.Fatal(err)
		}
		k.want[name+".out"] = append(bytes.Clone(text), text...)
		args = append(args, name)
	}
	over := false
	for kills, id := 0, ""; !over; kills++ {
		at := min(random.IntN(files)+k.look(), files)
		if kills < 2 {
			at = 0 // while files are sent, and the job is accepted
		}
		now := args
		if id != "" {
			now = []string{"resume", id}
		}
		over, _ = k.until(at, time.Duration(random.IntN(300))*time.Millisecond, now...)
		if found := regexp.MustCompile(`"id":"([0-9a-z]+)"`).FindStringSubmatch(k.run("ls", "-o", "jsonl")); found != nil {
			id = found[1]
		}
		if kills > 100 {
			t.Fatal("it comes to no end")
		}
		t.Logf("killed with %d files here, job %q, over: %t", k.look(), id, over)
	}
	if here := k.look(); here != files {
		t.Errorf("%d of %d files are here", here, files)
	}
	list, err := os.ReadDir(filepath.Join(k.dir, "in"))
	if err != nil || len(list) != 2*files {
		t.Errorf("%d files, %v: something is left on the way", len(list), err)
	}
	// Who was killed before there was a job has left what it had sent; the job's own is gone.
	if left := k.run("share", "ls", "share://default", "-o", "jsonl"); strings.Contains(left, "return/") {
		t.Errorf("there is %s", left)
	}
}
