package share

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
)

// childVariable makes the test's program one that puts its standard input into a share,
// and tells of each piece that it has written.
const childVariable = "NAVVY_SHARE_TEST_PUT"

func child() {
	s, err := OpenDir(os.Getenv(childVariable))
	if err == nil {
		_, err = s.Put(context.Background(), "f", io.MultiReader(os.Stdin), &PutOptions{Progress: func(n int64) { _, _ = fmt.Fprintln(os.Stdout, n) }})
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// A process that is killed while it writes leaves what was there, and its remains go later.
func TestKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, before := range []string{"", "before"} {
		if before != "" {
			s, err := OpenDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			put(t, s, "f", before)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		killWriter(t, dir)
		s, err := OpenDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if before == "" {
			if got := keys(t, s, ""); len(got) != 0 {
				t.Errorf("%q", got)
			}
		} else if got := string(get(t, s, "f")); got != before {
			t.Errorf("%q", got)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	testSweep(t, dir)
}

// What killed writers have left goes when it is old, unless it is written still.
func testSweep(t *testing.T, dir string) {
	t.Helper()
	left := temporaries(t, dir)
	if len(left) != 2 {
		t.Fatalf("%q", left)
	}
	long := time.Now().Add(-2 * time.Hour)
	for _, path := range left {
		if err := os.Chtimes(path, long, long); err != nil {
			t.Fatal(err)
		}
	}
	// One of them is still being written by somebody who takes his time.
	slow, err := os.Open(left[0])
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	if err := syscall.Flock(int(slow.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	s, err := OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := temporaries(t, dir); !slices.Equal(got, left[:1]) {
		t.Errorf("%q", got)
	}
}

func temporaries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, ".navvy", "tmp", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func killWriter(t *testing.T, dir string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childVariable+"="+dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(random(1 << 20)); err != nil {
		t.Error(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Errorf("%q, %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // killed
}

// Nothing is read or written outside of the directory, and nothing waits for a pipe.
func TestDirectoryLinks(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), t.TempDir()
	lay(t, outside, map[string]string{"secret": "s"})
	lay(t, dir, map[string]string{"in/side": "x"})
	if err := errors.Join(
		os.Symlink(filepath.Join(outside, "secret"), filepath.Join(dir, "file")),
		os.Symlink(outside, filepath.Join(dir, "dir")),
		os.Symlink("in/side", filepath.Join(dir, "near")),
		syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	s, err := OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := keys(t, s, ""); !slices.Equal(got, []string{"in/side"}) {
		t.Errorf("%q", got)
	}
	for _, key := range []string{"file", "near", "pipe"} {
		if _, err := s.Open(t.Context(), key); !errors.Is(err, navvy.ErrUnsupported) {
			t.Errorf("%s: %v", key, err)
		}
	}
	for key, call := range map[string]func() error{
		"dir/secret": func() error { _, err := s.Open(t.Context(), "dir/secret"); return err },
		"dir/new":    func() error { _, err := s.Put(t.Context(), "dir/new", strings.NewReader("x"), nil); return err },
		"dir/Secret": func() error { return s.Remove(t.Context(), "dir/secret") },
	} {
		if err := call(); err == nil {
			t.Errorf("%s: no error", key)
		}
	}
	put(t, s, "file", "mine") // takes the place of the link
	if got := lies(t, outside); len(got) != 1 || got["secret"] != "s" {
		t.Errorf("%q", got)
	}
	for _, prefix := range []string{"dir/", "../", "/"} {
		for f, err := range s.List(t.Context(), prefix) {
			if err == nil {
				t.Errorf("%s: %+v", prefix, f)
			}
		}
	}
}

// A full disk is told as that, and leaves nothing behind.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if out, err := exec.Command("unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("there can be no small disk here: %v: %s", err, out)
	}
	cmd := exec.Command("unshare", "-m", "sh", "-c", `mount -t tmpfs -o size=2m tmpfs "$1" && { "$2"; find "$1" -type f; }`, "sh", dir, exe)
	cmd.Env = append(os.Environ(), childVariable+"="+dir)
	cmd.Stdin = strings.NewReader(strings.Repeat("x", 4<<20))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || strings.Contains(string(out), dir) || !strings.Contains(stderr.String(), "no space left on device: exhausted") {
		t.Errorf("%v, %s, %q", err, stderr.String(), out)
	}
}
