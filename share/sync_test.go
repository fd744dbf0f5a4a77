package share

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/navvy-run/navvy"
)

// lay writes files below a directory.
func lay(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// lies is what lies below a directory.
func lies(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		files[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func folder(t *testing.T, s *Share, name string) Tree {
	t.Helper()
	tree, err := s.Folder(name)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func keysOf(list []File) []string {
	var keys []string
	for i := range list {
		keys = append(keys, list[i].Key)
	}
	return keys
}

// A directory goes up, comes down elsewhere, and only what has changed goes again.
func testSync(t *testing.T, s *Share, _ store) {
	up, down := t.TempDir(), filepath.Join(t.TempDir(), "made")
	files := map[string]string{"a": "1", "a.txt": "2", "dir/b": "3", "dir/deep/er/c": "4", "dir-x": "5", "empty": ""}
	lay(t, up, files)
	put(t, s, "beside", "x")
	put(t, s, "run-7", "x")
	var bytes, done atomic.Int64
	o := &SyncOptions{Progress: func(b, f int64) { bytes.Add(b); done.Add(f) }}
	plan, err := Sync(t.Context(), Dir(up), folder(t, s, "run"), o)
	if err != nil || len(plan.Copy) != 6 || plan.Bytes != 5 || bytes.Load() != 5 || done.Load() != 6 {
		t.Fatalf("%+v, %v", plan, err)
	}
	if plan, err = Sync(t.Context(), folder(t, s, "run/"), Dir(down), nil); err != nil || len(plan.Copy) != 6 {
		t.Fatalf("%+v, %v", plan, err)
	}
	if diff := cmp.Diff(files, lies(t, down)); diff != "" {
		t.Error(diff)
	}
	for _, trees := range [][2]Tree{{Dir(up), folder(t, s, "run")}, {folder(t, s, "run"), Dir(down)}} {
		if plan, err = Sync(t.Context(), trees[0], trees[1], nil); err != nil || len(plan.Copy) != 0 || plan.Same != 6 {
			t.Fatalf("%+v, %v", plan, err)
		}
	}
	testSyncAgain(t, s, up)
}

// The same size, and other bytes; another size; a new one. What has gone stays.
func testSyncAgain(t *testing.T, s *Share, up string) {
	t.Helper()
	lay(t, up, map[string]string{"a": "!", "dir/b": "longer", "new": "n"})
	if err := os.Remove(filepath.Join(up, "a.txt")); err != nil {
		t.Fatal(err)
	}
	plan, err := Sync(t.Context(), Dir(up), folder(t, s, "run"), &SyncOptions{DryRun: true})
	if err != nil || !slices.Equal(keysOf(plan.Copy), []string{"a", "dir/b", "new"}) || len(plan.Remove) != 0 || string(get(t, s, "run/a")) != "1" {
		t.Fatalf("%+v, %v", plan, err)
	}
	if _, err = Sync(t.Context(), Dir(up), folder(t, s, "run"), nil); err != nil {
		t.Fatal(err)
	}
	want := []string{"beside", "run-7", "run/a", "run/a.txt", "run/dir-x", "run/dir/b", "run/dir/deep/er/c", "run/empty", "run/new"}
	if got := keys(t, s, ""); !slices.Equal(got, want) || string(get(t, s, "run/a")) != "!" {
		t.Errorf("%q", got)
	}
}

// From share to share, and with removal.
func testSyncDelete(t *testing.T, s *Share, _ store) {
	other := OpenMemory()
	defer other.Close()
	for key, text := range map[string]string{"a": "1", "b/c": strings.Repeat("2", 1<<20), "d": "3"} {
		put(t, s, "from/"+key, text)
	}
	put(t, other, "to/old", "x")
	put(t, other, "to/a/b", "x")
	put(t, other, "else", "x")
	for range 2 {
		if _, err := Sync(t.Context(), folder(t, s, "from"), folder(t, other, "to"), &SyncOptions{Delete: true, Parallel: 2}); err != nil {
			t.Fatal(err)
		}
		if got := keys(t, other, ""); !slices.Equal(got, []string{"else", "to/a", "to/b/c", "to/d"}) {
			t.Errorf("%q", got)
		}
	}
	// And back: what the directory has beside goes, with its folders.
	dir := t.TempDir()
	lay(t, dir, map[string]string{"x/y/z": "x", "a": "other"})
	plan, err := Sync(t.Context(), folder(t, s, "from"), Dir(dir), &SyncOptions{Delete: true})
	if err != nil || len(plan.Remove) != 1 {
		t.Fatalf("%+v, %v", plan, err)
	}
	if got := slices.Sorted(maps.Keys(lies(t, dir))); !slices.Equal(got, []string{"a", "b/c", "d"}) {
		t.Errorf("%q", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	// A source that is empty, or misspelt, does not empty the destination.
	for _, from := range []Tree{folder(t, s, "form"), Dir(filepath.Join(dir, "none"))} {
		if _, err := Sync(t.Context(), from, folder(t, s, "from"), &SyncOptions{Delete: true}); !errors.Is(err, navvy.ErrInvalid) && len(keys(t, s, "from/")) != 3 {
			t.Errorf("%v", err)
		}
	}
	if got := keys(t, s, "from/"); len(got) != 3 {
		t.Errorf("%q", got)
	}
}

// Symbolic links are not followed: neither to read what they name, nor to write there.
func TestSyncLinks(t *testing.T) {
	t.Parallel()
	s := OpenMemory()
	defer s.Close()
	dir, secret := t.TempDir(), t.TempDir()
	lay(t, dir, map[string]string{"a": "1", "d/b": "2"})
	lay(t, secret, map[string]string{"key": "secret"})
	if err := errors.Join(os.Symlink(filepath.Join(secret, "key"), filepath.Join(dir, "link")), os.Symlink(secret, filepath.Join(dir, "z"))); err != nil {
		t.Fatal(err)
	}
	_, err := Sync(t.Context(), Dir(dir), folder(t, s, ""), nil)
	if special, ok := errors.AsType[*NotRegular](err); !ok || special.Path != filepath.Join(dir, "link") || len(keys(t, s, "")) != 0 {
		t.Errorf("%v, %q", err, keys(t, s, ""))
	}
	var skipped []string
	o := &SyncOptions{SkipSpecial: true, Skipped: func(e *NotRegular) { skipped = append(skipped, filepath.Base(e.Path)) }}
	if _, err = Sync(t.Context(), Dir(dir), folder(t, s, ""), o); err != nil || !slices.Equal(skipped, []string{"link", "z"}) {
		t.Errorf("%v, %q", err, skipped)
	}
	if got := keys(t, s, ""); !slices.Equal(got, []string{"a", "d/b"}) {
		t.Errorf("%q", got)
	}
	// Down again, where links lie in the way.
	put(t, s, "z/key", "from the share")
	if _, err := Sync(t.Context(), folder(t, s, ""), Dir(dir), nil); !errors.Is(err, navvy.ErrUnsupported) {
		t.Errorf("%v", err)
	}
	put(t, s, "link", "from the share")
	if err := s.Remove(t.Context(), "z/key"); err != nil {
		t.Fatal(err)
	}
	if _, err := Sync(t.Context(), folder(t, s, ""), Dir(dir), nil); err != nil {
		t.Error(err)
	}
	if got := lies(t, secret); got["key"] != "secret" || len(got) != 1 {
		t.Errorf("%q", got)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "link")); string(got) != "from the share" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// A file of the source that cannot have a key, and a file where a folder is to be.
func TestSyncClash(t *testing.T) {
	t.Parallel()
	s := OpenMemory()
	defer s.Close()
	dir := t.TempDir()
	lay(t, dir, map[string]string{"bad\nname": "x"})
	if _, err := Sync(t.Context(), Dir(dir), folder(t, s, ""), nil); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("%v", err)
	}
	put(t, s, "a/b", "x")
	for _, name := range []string{"a", "a/b/c"} {
		to := t.TempDir()
		lay(t, to, map[string]string{name: "x"})
		if _, err := Sync(t.Context(), folder(t, s, ""), Dir(to), nil); !errors.Is(err, navvy.ErrConflict) {
			t.Errorf("%s: %v", name, err)
		}
		disk, err := OpenDir(to)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := disk.Put(t.Context(), "a/b", strings.NewReader("x"), nil); !errors.Is(err, navvy.ErrConflict) {
			t.Errorf("%s: %v", name, err)
		}
		if got := lies(t, to); len(got) != 1 || got[name] != "x" {
			t.Errorf("%s: %q", name, got)
		}
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
	}
}
