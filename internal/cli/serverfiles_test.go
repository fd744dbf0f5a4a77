package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
	memorystore "github.com/navvy-run/navvy/engine/memory"
	"github.com/navvy-run/navvy/internal/holder"
	"github.com/navvy-run/navvy/server"
)

// With a store elsewhere the files of owners are there, unless they are here already; where
// both places have some nothing starts, and nothing is hidden.
func TestFilesWithStore(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	if err := os.Chmod(path, 0o700); err != nil {
		t.Fatal(err)
	}
	dir, err := holder.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	store := memorystore.New()
	defer store.Close()
	eng, err := engine.Open(t.Context(), store, nil)
	if err != nil {
		t.Fatal(err)
	}
	here := holder.ShareDir(path)
	for _, step := range []struct {
		before func() error
		want   string
	}{
		{func() error { return nil }, "engine"},
		{func() error { return os.MkdirAll(filepath.Join(here, ".navvy", "tmp"), 0o700) }, "engine"},
		{func() error { // which every server writes, and which is no owner's
			_, err := holder.EngineShare(eng).Put(t.Context(), server.ShareIDFile, strings.NewReader("x"), nil)
			return errors.Join(err, os.WriteFile(filepath.Join(here, server.ShareIDFile), nil, 0o600))
		}, "engine"},
		{func() error { return os.MkdirAll(filepath.Join(here, "files", "ann"), 0o700) }, here},
		{func() error {
			s := holder.EngineShare(eng)
			_, err := s.Put(t.Context(), "files/ann/a", strings.NewReader("x"), nil)
			return err
		}, ""},
		{func() error { return os.Rename(here, here+".old") }, "engine"},
	} {
		if err := step.before(); err != nil {
			t.Fatal(err)
		}
		s, err := withStore(dir)(t.Context(), eng)
		if step.want == "" {
			hint, _ := errors.AsType[*hintError](err)
			if !errors.Is(err, navvy.ErrConflict) || !strings.Contains(err.Error(), here) || hint == nil || !strings.Contains(hint.hint, "--share engine: ") || !strings.Contains(hint.hint, "--share file://"+here+";") {
				t.Errorf("with files in both: %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if s.String() != step.want {
			t.Errorf("they are in %s, want %s", s, step.want)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A server on another machine does not take the files of a directory that it lacks for none.
func TestFilesOfAnotherDirectory(t *testing.T) {
	t.Parallel()
	store := memorystore.New()
	defer store.Close()
	eng, err := engine.Open(t.Context(), store, nil)
	if err != nil {
		t.Fatal(err)
	}
	var dirs [2]*holder.Dir
	for i := range dirs {
		if dirs[i], err = holder.OpenDir(filepath.Join(t.TempDir(), "data")); err != nil {
			t.Fatal(err)
		}
	}
	starts := func(i int, want string) {
		t.Helper()
		s, err := withStore(dirs[i])(t.Context(), eng)
		if err != nil {
			t.Fatal(err)
		}
		if s.String() != want {
			t.Errorf("they are in %s, want %s", s, want)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	here := holder.ShareDir(dirs[0].Path())
	starts(0, "engine")
	starts(1, "engine")
	if err := os.MkdirAll(filepath.Join(here, "files", "ann"), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		starts(0, here)
		_, err = withStore(dirs[1])(t.Context(), eng)
		hint, _ := errors.AsType[*hintError](err)
		if !errors.Is(err, navvy.ErrConflict) || !strings.Contains(err.Error(), here+" on ") || hint == nil || !strings.Contains(hint.hint, "--share engine: ") {
			t.Fatalf("without that directory: %v", err)
		}
	}
	if err := os.RemoveAll(filepath.Join(here, "files")); err != nil { // all were removed
		t.Fatal(err)
	}
	starts(0, "engine")
	starts(1, "engine")
}
