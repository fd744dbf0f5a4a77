package pebble

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// refused opens a directory that must be refused, with this error and these words.
func refused(t *testing.T, dir string, opts *Options, want error, words ...string) {
	t.Helper()
	s, err := Open(dir, opts)
	if err == nil {
		_ = s.Close()
	}
	if !errors.Is(err, want) {
		t.Errorf("open: %v, want %v", err, want)
		return
	}
	for _, word := range append(words, dir) {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error does not say %q: %v", word, err)
		}
	}
}

func TestOpenTwice(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, nil)
	refused(t, dir, nil, navvy.ErrUnavailable, "in use by another navvy")
	// The one that was refused has not taken the lock from the first.
	refused(t, dir, nil, navvy.ErrUnavailable, "in use by another navvy")
	b := new(driver.Batch)
	b.Put([]byte("a"), []byte("1"))
	if err := s.Apply(t.Context(), b); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	s = open(t, dir, nil)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestOpenMissing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "no", "such")
	refused(t, dir, nil, navvy.ErrNotFound, "create it first")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, file, nil, navvy.ErrUnavailable)
}

func TestOpenForbidden(t *testing.T) {
	t.Parallel()
	for _, forbidden := range []error{syscall.EACCES, syscall.EROFS, syscall.EPERM} {
		fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
				return &os.PathError{Op: "open", Path: op.Path, Err: forbidden}
			}
			return nil
		}))
		refused(t, "/store", &Options{FS: fs}, navvy.ErrDenied, "may not be written", "choose another directory")
	}
}

func TestOpenNewer(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(dir string) error{
		"version": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "VERSION"), []byte("2\n"), 0o600)
		},
		"storage format": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "marker.format-version.000099.999"), nil, 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := open(t, dir, nil).Close(); err != nil {
				t.Fatal(err)
			}
			before := listing(t, dir)
			if err := change(dir); err != nil {
				t.Fatal(err)
			}
			refused(t, dir, nil, navvy.ErrCorrupt, name, "newer")
			for _, file := range before {
				if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
					t.Errorf("refusing it has changed the directory: %v", err)
				}
			}
		})
	}
}

func listing(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestOpenForeign(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "MANIFEST-000001"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, nil, navvy.ErrInvalid, "another program's data")
}

func TestOpenBadVersion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "VERSION"), []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, nil, navvy.ErrCorrupt, "VERSION")
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for _, bad := range []*Options{{Cache: -1}, {Memtable: -1}, {Memtable: 1}, {Memtable: 2 << 30}} {
		if _, err := Open(t.TempDir(), bad); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// TestOpenSyncs keeps opening cheap: syncs are most of what it costs.
func TestOpenSyncs(t *testing.T) {
	t.Parallel()
	var syncs atomic.Int64
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData {
			syncs.Add(1)
		}
		return nil
	}))
	for _, test := range []struct {
		name       string
		open, rest int64
	}{{"new", 10, 1}, {"existing", 6, 1}} {
		syncs.Store(0)
		s := open(t, "/store", &Options{FS: fs})
		opened := syncs.Swap(0)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		t.Logf("%s: %d to open, %d to close", test.name, opened, syncs.Load())
		if closed := syncs.Load(); opened > test.open || closed > test.rest {
			t.Errorf("%s: open syncs %d times, close %d times; want at most %d and %d", test.name, opened, closed, test.open, test.rest)
		}
	}
}

// TestSweep has what was being removed when a process ended removed by the next.
func TestSweep(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := open(t, dir, nil).Close(); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(dir, "trash", "7", "job", "0")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(left, "1_log"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, nil)
	s.logs.sweep.Wait()
	if names := listing(t, filepath.Join(dir, "trash")); len(names) > 0 {
		t.Errorf("the trash still holds %q", names)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestDropPrunes has DropLogs leave no empty directories.
func TestDropPrunes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, nil)
	for _, name := range []string{"output/a/0/1", "output/a/1/1", "output/b/0/1"} {
		w, err := s.CreateLog(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.Sync(), w.Close()); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		drop string
		want string
	}{
		{"output/a/0/1", "output/a/1 output/b/0"},
		{"output/a", "output/b/0"},
		{"output/b/0/1", ""},
	} {
		if err := s.DropLogs(t.Context(), step.drop); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(leaves(t, filepath.Join(dir, "logs")), " "); got != step.want {
			t.Errorf("after %s the directories are %q, want %q", step.drop, got, step.want)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// leaves lists the directories without directories in them.
func leaves(t *testing.T, root string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() || path == root {
			return err
		}
		entries, err := os.ReadDir(path)
		for _, e := range entries {
			if e.IsDir() {
				return err
			}
		}
		name, _ := filepath.Rel(root, path)
		found = append(found, name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
