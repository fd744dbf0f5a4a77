package cli

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
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
		os.WriteFile(filepath.Join(top, "files/ann/file"), nil, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	d, err := openSharedDir(top, "ann")
	if err != nil {
		t.Fatal(err)
	}
	for folder, want := range map[string]string{"ref": "files/ann/ref", "ref/deep": "files/ann/ref/deep", "": "files/ann"} {
		if got, err := d.folder("ann", folder); err != nil || got != filepath.Join(string(d), want) {
			t.Errorf("%q of ann: %q, %v", folder, got, err)
		}
	}
	if got, err := d.folder("a/b", "x"); err != nil || got != filepath.Join(string(d), "files/a%2Fb/x") {
		t.Errorf("of a/b: %q, %v", got, err)
	}
	for _, folder := range []string{"link", "link/secret", "within", "ref/etc", "file", "none", "../bob", "../../..", "ref/../../bob", "ref/..", "/etc"} {
		if got, err := d.folder("ann", folder); err == nil {
			t.Errorf("%q of ann is %q", folder, got)
		}
	}
	if _, err := d.folder("..", "bob/secret"); err == nil {
		t.Error("an owner's name leads out")
	}
	if find := sharedDir("").finder(); find != nil {
		t.Error("there is a share where none was named")
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
