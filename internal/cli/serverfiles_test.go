package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/navvy-run/navvy/engine"
	memorystore "github.com/navvy-run/navvy/engine/memory"
	"github.com/navvy-run/navvy/internal/holder"
	"github.com/navvy-run/navvy/server"
)

// With a store elsewhere the files of owners are there, unless they are here already, and
// what comes here later does not hide those that are there.
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
		}, "engine"},
	} {
		if err := step.before(); err != nil {
			t.Fatal(err)
		}
		s, err := withStore(dir)(t.Context(), eng)
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
