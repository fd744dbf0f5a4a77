package process_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/process"
)

// writeFile makes a file in dir and returns its path. Programs are scripts: the
// descriptor that wrote them may still be open in a child that is being forked
// elsewhere, which makes a binary, but no script's interpreter, busy.
func writeFile(t *testing.T, dir, name, content string, mode os.FileMode) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plain := writeFile(t, dir, "plain", "data", 0o600)
	badScript := writeFile(t, dir, "bad-script", "#!/no/such/interpreter -x\n", 0o700)
	for name, c := range map[string]struct {
		config process.Config
		reason navvy.Reason
		want   string // in the message
	}{
		"unknown":        {process.Config{Args: []string{"no-such-program"}, Env: []string{path}}, navvy.ReasonNotFound, "no-such-program: command not found in PATH"},
		"a line":         {process.Config{Args: []string{"echo it | cat\n"}, Env: []string{path}}, navvy.ReasonNotFound, `"echo it | cat\n": command not found`},
		"a long name":    {process.Config{Args: []string{strings.Repeat("ü", 1<<20)}, Env: []string{path}}, navvy.ReasonNotFound, "ü… (2097152 bytes): command not found"},
		"a long path":    {process.Config{Args: []string{strings.Repeat("/x", 1<<20)}}, navvy.ReasonNotFound, "/x… (2097152 bytes): "},
		"no file":        {process.Config{Args: []string{"/no/such/program"}}, navvy.ReasonNotFound, "/no/such/program"},
		"no directory":   {process.Config{Args: []string{"/bin/true"}, Dir: "/no/such/dir"}, navvy.ReasonNotFound, "/no/such/dir"},
		"no interpreter": {process.Config{Args: []string{badScript}}, navvy.ReasonNotFound, "/no/such/interpreter"},
		"below a file":   {process.Config{Args: []string{plain + "/x"}}, navvy.ReasonNotFound, plain},
		"dir is a file":  {process.Config{Args: []string{"/bin/true"}, Dir: plain}, navvy.ReasonNotFound, plain},
		"a directory":    {process.Config{Args: []string{dir}}, navvy.ReasonPermission, "is a directory"},
		"not executable": {process.Config{Args: []string{plain}}, navvy.ReasonPermission, plain},
		"in PATH but no": {process.Config{Args: []string{"plain"}, Env: []string{"PATH=" + dir}}, navvy.ReasonPermission, plain},
		"too long":       {process.Config{Args: []string{"/bin/true", strings.Repeat("x", 200<<10)}}, navvy.ReasonInput, "one argument has 204800 bytes, and 131071 is the most"},
		"too long env":   {process.Config{Args: []string{"/bin/true"}, Env: []string{"A=" + strings.Repeat("x", 200<<10)}}, navvy.ReasonInput, "a variable of the environment has 204802 bytes"},
		"too much":       {process.Config{Args: append([]string{"/bin/true"}, slices.Repeat([]string{strings.Repeat("x", 100<<10)}, 100)...)}, navvy.ReasonInput, "10240110 bytes in all; give the input on standard input instead (--stdin)"},
		"zero byte":      {process.Config{Args: []string{"/bin/true", "a\x00b"}}, navvy.ReasonInput, "zero byte"},
		"zero in env":    {process.Config{Args: []string{"/bin/true"}, Env: []string{"A=\x00"}}, navvy.ReasonInput, "zero byte"},
		"zero in name":   {process.Config{Args: []string{"tr\x00ue"}, Env: []string{path}}, navvy.ReasonInput, "zero byte"},
		"nothing":        {process.Config{}, navvy.ReasonInput, "empty"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := process.Start(&c.config)
			var refusal *driver.Refusal
			if !errors.As(err, &refusal) {
				t.Fatalf("start: %v, want a refusal", err)
			}
			if refusal.Reason != c.reason || !strings.Contains(refusal.Message, c.want) {
				t.Errorf("refused for %s: %.200q, want %s and %q", refusal.Reason, refusal.Message, c.reason, c.want)
			}
			if len(refusal.Message) > 500 {
				t.Errorf("a message of %d bytes", len(refusal.Message))
			}
		})
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	say := func(word string) string { return "#!/bin/sh\necho " + word + "\n" }
	writeFile(t, dir, "a/prog", say("a"), 0o700)
	writeFile(t, dir, "b/prog", say("b"), 0o700)
	writeFile(t, dir, "c/prog", say("c"), 0o600)
	if err := os.MkdirAll(filepath.Join(dir, "d", "prog"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ program, path, want string }{
		"first":          {"prog", dir + "/a:" + dir + "/b", "a"},
		"second":         {"prog", dir + "/none:" + dir + "/b:" + dir + "/a", "b"},
		"not executable": {"prog", dir + "/c:" + dir + "/a", "a"},
		"a directory":    {"prog", dir + "/d:" + dir + "/b", "b"},
		"relative entry": {"prog", "b", "b"},
		"relative":       {"./a/prog", "", "a"},
		"relative bare":  {"b/prog", dir, "b"},
		"absolute":       {dir + "/a/prog", dir + "/b", "a"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range 2 { // the second time from memory
				var out bytes.Buffer
				run(t, &process.Config{Args: []string{c.program}, Env: []string{"PATH=" + c.path}, Dir: dir, Stdout: &out})
				if got := strings.TrimSpace(out.String()); got != c.want {
					t.Errorf("ran %q, want %q", got, c.want)
				}
			}
		})
	}
}

// TestLookupAgain moves a program that was found before.
func TestLookupAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old := writeFile(t, dir, "a/prog", "#!/bin/sh\nexit 1\n", 0o700)
	writeFile(t, dir, "b/prog", "#!/bin/sh\nexit 2\n", 0o700)
	c := &process.Config{Args: []string{"prog"}, Env: []string{"PATH=" + dir + "/a:" + dir + "/b"}}
	if end := run(t, c); end.Exit.Code != 1 {
		t.Errorf("ended as %+v", end)
	}
	if err := os.Remove(old); err != nil {
		t.Fatal(err)
	}
	if end := run(t, c); end.Exit.Code != 2 {
		t.Errorf("after the first was removed, ended as %+v", end)
	}
}
