package holder

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
)

func TestOpenDir(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a", "b")
	d, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	if d.Path() != path || StoreDir(d.Path()) != path+"/store" {
		t.Errorf("the path is %s", d.Path())
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory's mode is %v, %v", info.Mode(), err)
	}
	if _, err := OpenDir(path); err != nil {
		t.Errorf("again: %v", err)
	}
}

func TestOpenDirRelative(t *testing.T) {
	t.Chdir(t.TempDir())
	d, err := OpenDir("data")
	if err != nil {
		t.Fatal(err)
	}
	if !filepath.IsAbs(d.Path()) {
		t.Errorf("the path is %s", d.Path())
	}
}

func TestOpenDirRefuses(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	file, open := filepath.Join(base, "file"), filepath.Join(base, "open")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o750); err != nil {
		t.Fatal(err)
	}
	local := func(string) (int64, error) { return unix.EXT4_SUPER_MAGIC, nil }
	for name, c := range map[string]struct {
		path   string
		fsType func(string) (int64, error)
		want   error
		says   string
	}{
		"a file":                 {file, local, navvy.ErrInvalid, "is a file"},
		"a file on the path":     {file + "/data", local, navvy.ErrInvalid, "a part of the path is a file"},
		"open to others":         {open, local, navvy.ErrDenied, "is open to other users (mode 0750); close it with chmod 700"},
		"a device":               {"/dev/null", local, navvy.ErrInvalid, "file"},
		"somebody else's, or ro": {"/sys/navvy", local, navvy.ErrDenied, "cannot be written"},
		"file system unknown":    {filepath.Join(base, "x"), func(string) (int64, error) { return 0, syscall.EIO }, syscall.EIO, "data directory"},
	} {
		d, err := openDir(c.path, c.fsType)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), c.path) {
			t.Errorf("%s: %v, %v; want %q, wrapping %v", name, d, err, c.says, c.want)
		}
	}
}

// Each network file system is refused by its name; what it is is injected.
func TestNetworkFileSystems(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/data"
	for magic, name := range networked {
		_, err := openDir(path, func(string) (int64, error) { return magic, nil })
		if !errors.Is(err, navvy.ErrUnsupported) || !strings.Contains(err.Error(), "network file system ("+name+")") || !strings.Contains(err.Error(), "--data") {
			t.Errorf("%x: %v", magic, err)
		}
	}
	for _, magic := range []int64{unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC, unix.OVERLAYFS_SUPER_MAGIC, 0} {
		if _, err := openDir(path, func(string) (int64, error) { return magic, nil }); err != nil {
			t.Errorf("%x: %v", magic, err)
		}
	}
}

// What a read-only file system says is told with a way out, wherever it says so.
func TestDirErrors(t *testing.T) {
	t.Parallel()
	for cause, want := range map[error]error{
		syscall.EROFS: navvy.ErrDenied, syscall.EACCES: navvy.ErrDenied, fs.ErrPermission: navvy.ErrDenied,
		syscall.ENOTDIR: navvy.ErrInvalid, syscall.EIO: syscall.EIO,
	} {
		err := dirError("/x/data", &fs.PathError{Op: "open", Path: "/x/data/lock", Err: cause})
		if !errors.Is(err, want) || !strings.Contains(err.Error(), "data directory /x/data") {
			t.Errorf("%v: %v", cause, err)
		}
		if want == navvy.ErrDenied && !strings.Contains(err.Error(), "give another one with --data") { //nolint:errorlint // the very value of the table
			t.Errorf("%v: %v", cause, err)
		}
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	d, err := OpenDir(t.TempDir() + "/data")
	if err != nil {
		t.Fatal(err)
	}
	lock, pid, err := d.TryLock()
	if lock == nil || pid != os.Getpid() || err != nil {
		t.Fatalf("%v, %d, %v", lock, pid, err)
	}
	second, pid, err := d.TryLock()
	if second != nil || pid != os.Getpid() || err != nil {
		t.Errorf("the lock was taken twice: %v, %d, %v", second, pid, err)
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	third, _, err := d.TryLock()
	if third == nil || err != nil {
		t.Fatalf("the lock is not free: %v", err)
	}
	if err := third.Unlock(); err != nil {
		t.Fatal(err)
	}
}

// Where the lock cannot be made, the error says why.
func TestNoLock(t *testing.T) {
	t.Parallel()
	d, err := OpenDir(t.TempDir() + "/data")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(d.join(lockName), 0o700); err != nil {
		t.Fatal(err)
	}
	if lock, _, err := d.TryLock(); lock != nil || err == nil || !strings.Contains(err.Error(), d.Path()) {
		t.Errorf("a directory as the lock: %v, %v", lock, err)
	}
}
