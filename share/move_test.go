package share_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/engine/memory"
	"github.com/navvy-run/navvy/share"
	"github.com/navvy-run/navvy/share/enginebucket"
)

// A file that is moved takes the place of another, with its checksum, and is gone from its own.
func TestMove(t *testing.T) {
	t.Parallel()
	dir, err := share.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	store := memory.New()
	eng, err := engine.Open(t.Context(), store, nil)
	if err != nil {
		t.Fatal(err)
	}
	inEngine := share.OpenSums("engine", enginebucket.Open(eng.Files()), eng.Files().Move)
	for name, s := range map[string]*share.Share{"directory": dir, "memory": share.OpenMemory(), "engine": inEngine} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			defer s.Close()
			ctx := t.Context()
			put := func(key, text string) string {
				f, err := s.Put(ctx, key, strings.NewReader(text), nil)
				if err != nil {
					t.Fatal(err)
				}
				return f.SHA256
			}
			put("b/c/old", "what was there")
			sum := put("a/new", "what comes")
			for range 2 { // again, as after a crash between both steps
				if err := s.Move(ctx, "a/new", "b/c/old"); err != nil {
					t.Fatal(err)
				}
				var text strings.Builder
				f, err := s.Copy(ctx, "b/c/old", &text, nil)
				if err != nil || text.String() != "what comes" {
					t.Fatalf("%q, %v", text.String(), err)
				}
				if f, err = s.Stat(ctx, "b/c/old"); err != nil || f.SHA256 != sum {
					t.Fatalf("%+v, %v: want the checksum %s", f, err, sum)
				}
				if _, err := s.Stat(ctx, "a/new"); !errors.Is(err, navvy.ErrNotFound) {
					t.Fatalf("the old name: %v", err)
				}
				put("a/new", "what comes")
			}
			n := 0
			for _, err := range s.List(ctx, "") {
				if err != nil {
					t.Fatal(err)
				}
				n++
			}
			if n != 2 {
				t.Errorf("%d files are left, want 2", n)
			}
		})
	}
}

// A file is not moved to where it would be both a file and a folder; it stays where it was.
func TestMoveClash(t *testing.T) {
	t.Parallel()
	s, err := share.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, key := range []string{"new", "a", "b/c"} {
		if _, err := s.Put(t.Context(), key, strings.NewReader(key), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Move(t.Context(), "nothing", "c"); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("what is not there is moved: %v", err)
	}
	if err := s.Move(t.Context(), "new", "../b"); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("out of the share: %v", err)
	}
	for _, to := range []string{"a/b", "b"} {
		if err := s.Move(t.Context(), "new", to); !errors.Is(err, navvy.ErrConflict) {
			t.Errorf("to %s: %v", to, err)
		}
	}
	if f, err := s.Stat(t.Context(), "new"); err != nil || f.SHA256 == "" {
		t.Errorf("%+v, %v", f, err)
	}
}
