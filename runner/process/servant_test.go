package process_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/process"
)

// TestFiles has a process write to files as they are.
func TestFiles(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var rest bytes.Buffer
	for _, files := range [][2]*os.File{{w}, {nil, w}} {
		c := script("echo one; echo two >&2")
		c.Stdout, c.Stderr, c.Files = &rest, &rest, files
		run(t, c)
	}
	_ = w.Close()
	if got, err := io.ReadAll(r); err != nil || string(got) != "one\ntwo\n" || rest.String() != "two\none\n" {
		t.Errorf("the file got %q, %v, and the writer %q", got, err, &rest)
	}
}

// TestMainAlone ends what a main process leaves.
func TestMainAlone(t *testing.T) {
	t.Parallel()
	c := script("sleep 1000 & exit 3")
	c.Main = true
	if end := run(t, c); end.Exit.Code != 3 {
		t.Errorf("ended as %+v", end)
	}
}

// TestServant has limits, isolation and a directory like a command, and with its end
// nothing is left of it, wherever that went.
func TestServant(t *testing.T) {
	t.Parallel()
	work := filepath.Join(t.TempDir(), "work")
	for name, o := range map[string]process.Options{"group": {Groups: tree(t), Work: work}, "no group": {Work: work}} {
		t.Run(name, func(t *testing.T) {
			d := process.NewDriver(&o)
			defer func() {
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			}()
			token := "servant-" + strconv.Itoa(os.Getpid()) + "-" + strings.ReplaceAll(name, " ", "-")
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			spec := shell("pwd; setsid sleep 1000 & exec sleep 1000")
			spec.Command.Dir = ""
			s, err := d.Serve(&driver.Task{ID: navvy.TaskID{Job: "0123456789ab"}, Token: token, Spec: spec}, nil, func(c *process.Config) { c.Files[0] = w })
			if err != nil {
				t.Fatal(err)
			}
			_ = w.Close()
			line := make([]byte, 200)
			if n, err := r.Read(line); err != nil || filepath.Dir(string(line[:n])) != work {
				t.Errorf("runs in %q, %v", line[:n], err)
			}
			// As whoever comes after a dead navvy does.
			if err := d.EndBearers(t.Context(), func(bears string) bool { return bears == token }); err != nil {
				t.Error(err)
			}
			if end, err := s.Wait(t.Context()); err != nil || end.Exit.Signal != 9 {
				t.Errorf("ended as %+v, %v", end, err)
			}
			if n, err := r.Read(line); !errors.Is(err, io.EOF) {
				t.Errorf("somebody has its output still: %q, %v", line[:n], err)
			}
		})
	}
}
