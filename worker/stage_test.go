package worker

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/runner/driver"
)

// What an input makes of a path is one inside of the directory, or the task's fault; in a
// pattern it stands for itself.
func TestStagedPaths(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text, input, path, pattern string
		literal                    bool
	}{
		{text: "data/{}", input: "a b.txt", path: "data/a b.txt", pattern: "data/a b.txt"},
		{text: "./{.}.out", input: "x/y.c", path: "x/y.out", pattern: "x/y.out"},
		{text: "{}*", input: "a[1]?*\\", path: "a[1]?*\\*", pattern: "a\\[1]\\?\\*\\\\*"},
		{text: "{#}/{/}", input: "x/y", path: "7/y", pattern: "7/y"},
		{text: "{}", input: "y", path: "{}", pattern: "{}", literal: true},
		{text: "data/{}", input: "../../etc/passwd"},
		{text: "{}", input: "/etc/passwd"},
		{text: "{}", input: ".."},
		{text: "a{}", input: "\x00"},
	} {
		spec := &navvy.Spec{Command: &navvy.Command{Args: []string{"x"}, Literal: c.literal}}
		s := &stager{attempt: &attempt{spec: spec}, job: &client.WorkJob{}, input: []byte(c.input), number: 7}
		for pattern, want := range map[bool]string{false: c.path, true: c.pattern} {
			got, err := s.render(c.text, pattern)
			if refusal, ok := errors.AsType[*driver.Refusal](err); want == "" && ok && refusal.Reason == navvy.ReasonInput {
				continue
			}
			if err != nil || got != want || want == "" {
				t.Errorf("%s of %q: %q, %v, want %q", c.text, c.input, got, err, want)
			}
		}
	}
}

// A pattern means files and what is in folders; no link leads out of the directory.
func TestStagedMatch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"a.csv", "b.csv", "c.txt", "out/1", "out/deep/2"} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700), os.WriteFile(filepath.Join(dir, name), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"out/link": "/etc/passwd", "folder": outside, "loop": ".", "d.csv": filepath.Join(outside, "secret")} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for pattern, want := range map[string][]string{
		"[ab].csv": {"a.csv", "b.csv"}, "out": {"out/1", "out/deep/2"}, "o*/d*": {"out/deep/2"}, "none*": nil,
		"folder/*": nil, "loop/c.txt": {"loop/c.txt"},
	} {
		if got, err := match(root, pattern, nil); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v, want %q", pattern, got, err, want)
		}
	}
	s := &stager{attempt: &attempt{spec: &navvy.Spec{}}}
	if refusal, ok := errors.AsType[*driver.Refusal](s.keep(t.Context(), root, "d.csv", "k")); !ok || refusal.Reason != navvy.ReasonFiles {
		t.Error("a link that leads out is read")
	}
	if _, err := create(root, "folder/new"); err == nil {
		t.Error("a file is made through a link that leads out")
	}
}

// What the task was to find is nothing that it leaves, be it a copy or a link.
func TestStagedMatchWithoutMounts(t *testing.T) {
	t.Parallel()
	shared := t.TempDir()
	folders := []*folder{{to: "data"}, {to: "out/ref"}}
	for _, linked := range []bool{false, true} {
		dir := t.TempDir()
		err := errors.Join(os.Mkdir(filepath.Join(dir, "out"), 0o700), os.WriteFile(filepath.Join(shared, "x"), nil, 0o600))
		for _, f := range folders {
			at := filepath.Join(dir, f.to)
			if linked {
				err = errors.Join(err, os.Symlink(shared, at))
			} else {
				err = errors.Join(err, os.Mkdir(at, 0o700), os.WriteFile(filepath.Join(at, "x"), nil, 0o600))
			}
		}
		for _, name := range []string{"data.csv", "out/a", "out/z"} {
			err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
		}
		if err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		for pattern, want := range map[string][]string{
			"data": nil, "data/*": nil, "data/x": nil, "out/ref/x": nil, "*/*/x": nil,
			"*": {"data.csv", "out/a", "out/z"}, "out": {"out/a", "out/z"}, "out/*": {"out/a", "out/z"}, "d*": {"data.csv"},
		} {
			if got, err := match(root, pattern, folders); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s, linked %v: %q, %v, want %q", pattern, linked, got, err, want)
			}
		}
		if err := root.Close(); err != nil {
			t.Error(err)
		}
	}
}
