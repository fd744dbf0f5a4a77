package ssh

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// sh runs a script as hosts do, with a home, and tells how it ends.
func sh(t *testing.T, home, script string, args ...string) (out string, status int) {
	t.Helper()
	cmd := exec.Command("sh", append([]string{"-c", script, "navvy"}, args...)...)
	cmd.Env = []string{"HOME=" + home, "PATH=/usr/bin:/bin"}
	text, err := cmd.CombinedOutput()
	if exit, is := errors.AsType[*exec.ExitError](err); is {
		return string(text), exit.ExitCode()
	} else if err != nil {
		t.Error(err)
	}
	return string(text), 0
}

// Of several that claim one name on one host at once exactly one has it; the others are told
// whose it is, and whoever has it may claim it again.
func TestClaimedAtOnce(t *testing.T) {
	t.Parallel()
	const rounds, claimers = 100, 4
	home := t.TempDir()
	for round := range rounds {
		name := fmt.Sprintf("c%d", round)
		mark := func(i int) string { return fmt.Sprintf("navvy cluster %s %d", name, i) }
		var all sync.WaitGroup
		var said [claimers]string
		var ended [claimers]int
		for i := range claimers {
			all.Go(func() { said[i], ended[i] = sh(t, home, claimScript, name, "host", mark(i)) })
		}
		all.Wait()
		text, err := os.ReadFile(filepath.Join(home, hostedDir, name, "host", "cluster"))
		if err != nil {
			t.Fatal(err)
		}
		for i := range claimers {
			switch has := string(text) == mark(i)+"\n"; {
			case has && ended[i] != 0, !has && (ended[i] != 9 || said[i] != string(text)):
				t.Fatalf("round %d: it has %q, and claimer %d ends with %d: %s", round, text, i, ended[i], said[i])
			case has:
				if out, status := sh(t, home, claimScript, name, "host", mark(i)); status != 0 {
					t.Errorf("it is not claimed again: %s", out)
				}
			}
		}
		if left, _ := filepath.Glob(filepath.Join(home, hostedDir, name, "host", ".new-*")); len(left) > 0 {
			t.Errorf("there is left %q", left)
		}
	}
}

// A directory with something in it is nobody's to claim; what was begun and not finished is.
func TestClaimed(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	dir := filepath.Join(home, hostedDir, "demo", "host")
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "diary"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if out, status := sh(t, home, claimScript, "demo", "host", "mark"); status != 9 || !strings.Contains(out, "diary") {
		t.Errorf("it ends with %d: %s", status, out)
	}
	if err := os.Rename(filepath.Join(dir, "diary"), filepath.Join(dir, ".new-mark-1")); err != nil {
		t.Fatal(err)
	}
	if out, status := sh(t, home, claimScript, "demo", "host", "mark"); status != 0 {
		t.Errorf("it ends with %d: %s", status, out)
	}
}

// What is removed is removed whole, whatever it is called and wherever it leads; what it leads
// to stays as it is.
func TestCleared(t *testing.T) {
	t.Parallel()
	home, outside := t.TempDir(), t.TempDir()
	kept := filepath.Join(outside, "kept")
	if err := os.WriteFile(kept, []byte("x"), 0o400); err != nil {
		t.Fatal(err)
	}
	claim := func() string {
		if out, status := sh(t, home, claimScript, "demo", "host", "mark"); status != 0 {
			t.Fatalf("it ends with %d: %s", status, out)
		}
		return filepath.Join(home, hostedDir, "demo", "host")
	}
	dir := claim()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		os.Symlink("nowhere", at("dangling")), os.Symlink("nowhere", at(".dangling")), os.Symlink(outside, at("outside")),
		os.Symlink(outside, at("workers/outside")), os.Symlink(outside, at("files/tree")),
		os.WriteFile(at("..x"), nil, 0o600), os.WriteFile(at(".X"), nil, 0o600), os.WriteFile(at("-i"), nil, 0o600), os.WriteFile(at("a b\n*"), nil, 0o600),
		os.Mkdir(at("..d"), 0o700), os.WriteFile(at("..d/x"), nil, 0o400), os.Chmod(at("..d"), 0o500),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range [][]string{{forgetScript, dir, "outside"}, {dropTreesScript, dir}, {clearScript, "demo", "host", "another's"}, {clearScript, "demo", "host", "mark"}} {
		if out, status := sh(t, home, step[0], step[1:]...); status != 0 || out != "" {
			t.Errorf("%q ends with %d: %s", step[1:], status, out)
		}
		if _, err := os.Lstat(at("cluster")); step[0] == clearScript && (err == nil) != (step[3] != "mark") {
			t.Errorf("%q: %v", step[1:], err)
		}
	}
	if _, err := os.Lstat(filepath.Join(home, hostedDir)); err == nil {
		left, _ := filepath.Glob(dir + "/*")
		t.Errorf("there is left %s %q", dir, left)
	}
	if info, err := os.Stat(kept); err != nil || info.Mode() != 0o400 {
		t.Errorf("what is elsewhere is %v, %v", info, err)
	}
	if claim() != dir {
		t.Error("it is not to be had again")
	}
}
