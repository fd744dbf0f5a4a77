package cli

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
)

// A folder is found below its owner's, and nothing beside it, whatever leads there.
func TestSharedDir(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	for _, dir := range []string{"files/ann/ref/deep", "files/bob/secret", "files/a%2Fb/x"} {
		if err := os.MkdirAll(filepath.Join(top, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	err := errors.Join(
		os.Symlink("../bob", filepath.Join(top, "files/ann/link")),
		os.Symlink("ref", filepath.Join(top, "files/ann/within")),
		os.Symlink("/etc", filepath.Join(top, "files/ann/ref/etc")),
		os.WriteFile(filepath.Join(top, "files/ann/file"), nil, 0o600),
		os.WriteFile(filepath.Join(top, "share-id"), []byte("the id\n"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	d, err := openSharedDir(top, "ann")
	if err != nil {
		t.Fatal(err)
	}
	for folder, want := range map[string]string{"ref": "files/ann/ref", "ref/deep": "files/ann/ref/deep", "": "files/ann"} {
		if got, err := d.folder("the id", "ann", folder); err != nil || got != filepath.Join(string(d), want) {
			t.Errorf("%q of ann: %q, %v", folder, got, err)
		}
	}
	if got, err := d.folder("the id", "a/b", "x"); err != nil || got != filepath.Join(string(d), "files/a%2Fb/x") {
		t.Errorf("of a/b: %q, %v", got, err)
	}
	for _, folder := range []string{"link", "link/secret", "within", "ref/etc", "file", "none", "../bob", "../../..", "ref/../../bob", "ref/..", "/etc"} {
		if got, err := d.folder("the id", "ann", folder); err == nil {
			t.Errorf("%q of ann is %q", folder, got)
		}
	}
	if _, err := d.folder("the id", "..", "bob/secret"); err == nil {
		t.Error("an owner's name leads out")
	}
	if find := sharedDir("").finder(); find != nil {
		t.Error("there is a share where none was named")
	}
}

// A directory is the share of a server only if it has the file that this server has written:
// an earlier share, a copy, and one that is not mounted have folders of the same names.
func TestSharedDirOfAnother(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		write func(at string) error
		id    string
		fine  bool
	}{
		"the share":           {func(at string) error { return os.WriteFile(at, []byte("id\n"), 0o600) }, "id", true},
		"another":             {func(at string) error { return os.WriteFile(at, []byte("ie\n"), 0o600) }, "id", false},
		"longer":              {func(at string) error { return os.WriteFile(at, []byte("id 2"), 0o600) }, "id", false},
		"nothing in the file": {func(at string) error { return os.WriteFile(at, nil, 0o600) }, "id", false},
		"none":                {func(string) error { return nil }, "id", false},
		"a folder":            {func(at string) error { return os.Mkdir(at, 0o700) }, "id", false},
		"a pipe":              {func(at string) error { return unix.Mkfifo(at, 0o600) }, "id", false},
		"a link": {func(at string) error {
			return errors.Join(os.WriteFile(at+"2", []byte("id"), 0o600), os.Symlink("share-id2", at))
		}, "id", false},
		"of a server without":   {func(string) error { return nil }, "", false},
		"of another, without":   {func(at string) error { return os.WriteFile(at, []byte("id"), 0o600) }, "", false},
		"of another, and empty": {func(at string) error { return os.WriteFile(at, nil, 0o600) }, "", false},
	} {
		top := t.TempDir()
		if err := errors.Join(os.MkdirAll(filepath.Join(top, "files/ann/ref"), 0o700), c.write(filepath.Join(top, "share-id"))); err != nil {
			t.Fatal(err)
		}
		d, err := openSharedDir(top, "ann")
		if err != nil {
			t.Fatal(err)
		}
		dir, err := d.folder(c.id, "ann", "ref")
		if c.fine && (err != nil || dir == "") || !c.fine && (dir != "" || !errors.Is(err, navvy.ErrConflict)) {
			t.Errorf("%s: %q, %v", name, dir, err)
		}
	}
}

// Where tasks of several owners run, the share is closed to their users, or refused.
func TestSharedDirClosed(t *testing.T) {
	t.Parallel()
	if _, err := openSharedDir("/nonexistent", ""); err == nil {
		t.Error("what is not there is taken")
	}
	if _, err := openSharedDir("/etc/passwd", "ann"); err == nil {
		t.Error("a file is taken")
	}
	if _, err := openSharedDir("/usr", ""); err == nil {
		t.Error("what everybody can read is taken")
	}
	closed := filepath.Join(t.TempDir(), "closed")
	if err := os.MkdirAll(filepath.Join(closed, "share"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := openSharedDir(filepath.Join(closed, "share"), ""); (err == nil) != (os.Geteuid() == 0) {
		t.Errorf("below a directory of ours: %v", err)
	}
}
