package isolate_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/process/isolate"
)

// nasty fills a directory with what is hard to remove, and returns a directory
// outside that must stay as it is.
func nasty(t *testing.T, dir string) (outside string) {
	t.Helper()
	outside = t.TempDir()
	closed := filepath.Join(dir, "closed")
	if err := errors.Join(
		os.WriteFile(filepath.Join(outside, "precious"), nil, 0o600),
		os.Symlink(outside, filepath.Join(dir, "link")),
		os.Symlink("/no/such", filepath.Join(dir, "dangling")),
		os.MkdirAll(filepath.Join(closed, "a", "b"), 0o700),
		os.Symlink(outside, filepath.Join(closed, "a", "link")),
		os.WriteFile(filepath.Join(closed, "a", "b", "\xff\n*\\"), nil, 0),
		os.WriteFile(filepath.Join(dir, "-rf"), nil, 0o400),
		unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600),
		os.Mkdir(filepath.Join(dir, "navvy-removes-1"), 0o700),
		os.WriteFile(filepath.Join(dir, "navvy-removes-2"), nil, 0o700),
		os.Chmod(filepath.Join(closed, "a", "b"), 0),
		os.Chmod(filepath.Join(closed, "a"), 0o500),
		os.Chmod(closed, 0),
	); err != nil {
		t.Fatal(err)
	}
	for i := range 1100 {
		if err := os.WriteFile(filepath.Join(dir, strings.Repeat("x", 1+i%200)+string(rune('a'+i/200))), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	deepen(t, dir, 1500)
	return outside
}

// deepen makes directories in each other, deeper than a path can be long.
func deepen(t *testing.T, dir string, levels int) {
	t.Helper()
	at, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for range levels {
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Mkdirat(at, "deeper", 0o700); err != nil {
			t.Fatal(err)
		}
		next, openErr := unix.Openat(at, "deeper", unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		_ = unix.Close(at)
		at, err = next, openErr
	}
	_ = unix.Close(at)
}

func TestWorkingDirectoryIsRemovedWholly(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	dirs, err := isolate.OpenWorkDirs(filepath.Join(parent, "work"))
	if err != nil {
		t.Fatal(err)
	}
	path, err := dirs.Make("job:1-2.3", 0)
	if err != nil {
		t.Fatal(err)
	}
	outside := nasty(t, path)
	if os.Getuid() == 0 {
		mountpoint := filepath.Join(path, "closed", "a", "mounted")
		if err := errors.Join(os.Mkdir(mountpoint, 0o700), unix.Mount("tmpfs", mountpoint, "tmpfs", 0, "")); err != nil {
			t.Log("without a mount:", err)
		}
	}
	other, err := dirs.Make("other", 0)
	if err != nil {
		t.Fatal(err)
	}
	// Another life of navvy finds it.
	dirs, err = isolate.OpenWorkDirs(filepath.Join(parent, "work"))
	if err != nil {
		t.Fatal(err)
	}
	if tokens, err := dirs.List(); err != nil || !slices.Equal(tokens, []string{"job:1-2.3", "other"}) {
		t.Errorf("there are %q, %v", tokens, err)
	}
	if err := dirs.Remove("job:1-2.3"); err != nil {
		t.Fatal(err)
	}
	if err := dirs.Remove("job:1-2.3"); err != nil {
		t.Error("again:", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error("it is still there:", err)
	}
	for _, stays := range []string{other, filepath.Join(outside, "precious")} {
		if _, err := os.Lstat(stays); err != nil {
			t.Error(err)
		}
	}
}

// What an earlier life of the same attempt left is gone in the next one.
func TestWorkingDirectoryIsEmptyAtFirst(t *testing.T) {
	t.Parallel()
	dirs, err := isolate.OpenWorkDirs(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		path, err := dirs.Make("token", 0)
		if err != nil {
			t.Fatal(err)
		}
		if entries, err := os.ReadDir(path); err != nil || len(entries) > 0 {
			t.Errorf("it has %v, %v", entries, err)
		}
		if err := os.WriteFile(filepath.Join(path, "left"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := dirs.Remove("token"); err != nil {
		t.Error(err)
	}
}

func FuzzToken(f *testing.F) {
	for _, token := range []string{"a", "", ".", "..", "a/b", "../a", "a\x00", "job:1.2-3", "\n"} {
		f.Add(token)
	}
	dirs, err := isolate.OpenWorkDirs(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, token string) {
		path, err := dirs.Make(token, 0)
		if err != nil {
			if !errors.Is(err, navvy.ErrInvalid) {
				t.Errorf("%q: %v", token, err)
			}
			return
		}
		if filepath.Base(path) != token {
			t.Errorf("%q is at %s", token, path)
		}
		if err := dirs.Remove(token); err != nil {
			t.Error(err)
		}
	})
}
