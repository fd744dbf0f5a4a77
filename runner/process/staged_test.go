package process_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/process"
	"github.com/navvy-run/navvy/runner/process/isolate"
)

// stage brings a file and keeps another, and can be told to wait.
type stage struct {
	bringErr, keepErr error
	bringing, keeping chan struct{} // closed when it waits; nil: it does not wait
	dir, kept         string
	mounts            []driver.Mount
}

func (s *stage) Mounts(context.Context) ([]driver.Mount, error) { return s.mounts, nil }

func pausing(ctx context.Context, at chan struct{}) error {
	if at == nil {
		return nil
	}
	close(at)
	<-ctx.Done()
	return ctx.Err()
}

func (s *stage) Bring(ctx context.Context, dir string) error {
	s.dir = dir
	if err := errors.Join(pausing(ctx, s.bringing), s.bringErr); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "prog"), []byte("#!/bin/sh\necho made > \"$1\"\n"), 0o700)
}

func (s *stage) Keep(ctx context.Context, dir string) error {
	if err := errors.Join(pausing(ctx, s.keeping), s.keepErr); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(dir, "out"))
	s.kept = string(text)
	return err
}

// Files are there before the program starts, and are kept after it has succeeded, before
// its directory goes; a stop ends both.
func TestStaged(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		stage   stage
		args    []string
		stop    bool
		outcome navvy.Outcome
		reason  navvy.Reason
		kept    string
	}{
		"kept":           {args: []string{"./prog", "out"}, outcome: navvy.OutcomeSucceeded, kept: "made\n"},
		"failed":         {args: []string{"sh", "-c", "echo x > out; exit 3"}, outcome: navvy.OutcomeFailed, reason: navvy.ReasonExit},
		"missing":        {stage: stage{bringErr: &driver.Refusal{Reason: navvy.ReasonInput}}, args: []string{"true"}, outcome: navvy.OutcomeFailed, reason: navvy.ReasonInput},
		"nothing left":   {stage: stage{keepErr: &driver.Refusal{Reason: navvy.ReasonFiles}}, args: []string{"true"}, outcome: navvy.OutcomeFailed, reason: navvy.ReasonFiles},
		"cannot bring":   {stage: stage{bringErr: navvy.ErrExhausted}, args: []string{"true"}, outcome: navvy.OutcomeLost, reason: navvy.ReasonStart},
		"cannot keep":    {stage: stage{keepErr: navvy.ErrExhausted}, args: []string{"true"}, outcome: navvy.OutcomeLost, reason: navvy.ReasonLost},
		"stopped before": {stage: stage{bringing: make(chan struct{})}, args: []string{"true"}, stop: true, outcome: navvy.OutcomeInterrupted, reason: navvy.ReasonStopped},
		"stopped after":  {stage: stage{keeping: make(chan struct{})}, args: []string{"true"}, stop: true, outcome: navvy.OutcomeInterrupted, reason: navvy.ReasonStopped},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := process.NewDriver(&process.Options{Work: t.TempDir()})
			r := runner.New(d, nil)
			defer func() {
				if err := r.Close(); err != nil {
					t.Error(err)
				}
			}()
			spec := &navvy.Spec{
				Command: &navvy.Command{Args: c.args, Env: []string{"PATH=/usr/bin:/bin"}},
				Stage:   navvy.Stage{In: []navvy.StagedInput{{From: "prog"}}},
			}
			x := r.Prepare(&runner.Task{Task: driver.Task{Token: "t-1", Spec: spec, Files: &c.stage}})
			if c.stop {
				at := c.stage.bringing
				if at == nil {
					at = c.stage.keeping
				}
				go func() {
					<-at
					x.Stop(false)
				}()
			}
			a := x.Do()
			if a.Outcome != c.outcome || a.Reason != c.reason || c.stage.kept != c.kept {
				t.Errorf("%v %s %q, kept %q", a.Outcome, a.Reason, a.Message, c.stage.kept)
			}
			if _, err := os.Stat(c.stage.dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("its directory is left: %v", err)
			}
		})
	}
}

// What is mounted is found in the directory: as a link, or when isolated for reading only.
func TestMounted(t *testing.T) {
	t.Parallel()
	source := t.TempDir()
	if err := os.WriteFile(filepath.Join(source, "f"), []byte("there\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	host := isolate.Open()
	d := process.NewDriver(&process.Options{Work: t.TempDir(), Isolation: host})
	r := runner.New(d, nil)
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	run := func(isolated bool, script string, mounts ...driver.Mount) *navvy.Attempt {
		spec := &navvy.Spec{
			Command: &navvy.Command{Args: []string{"sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"}}, Isolate: isolated,
			Stage: navvy.Stage{Mounts: []navvy.StagedFolder{{From: "x"}}},
		}
		x := r.Prepare(&runner.Task{Task: driver.Task{Token: "t-" + rand.Text(), Spec: spec, Files: &stage{mounts: mounts}}})
		return x.Do()
	}
	at := driver.Mount{Source: source, Path: "data/in"}
	const keeps = "; echo x > data/own && cp data/in/f out"
	if a := run(false, "test -L data/in && cat data/in/f"+keeps, at); a.Outcome != navvy.OutcomeSucceeded {
		t.Errorf("not isolated: %v %s %q", a.Outcome, a.Reason, a.Message)
	}
	if slices.Contains(host.Abilities(), navvy.AbilityIsolate) {
		if a := run(true, "cat data/in/f && ! touch data/in/g && ! rm -f data/in/f"+keeps, at); a.Outcome != navvy.OutcomeSucceeded {
			t.Errorf("isolated: %v %s %q", a.Outcome, a.Reason, a.Message)
		}
	}
	if text, err := os.ReadFile(filepath.Join(source, "f")); err != nil || string(text) != "there\n" {
		t.Errorf("what was mounted went with the directory: %q, %v", text, err)
	}
	for _, wrong := range []driver.Mount{{Source: "here", Path: "x"}, {Source: source, Path: "../x"}, {Source: source, Path: "."}, {Source: source, Path: "/x"}} {
		if a := run(false, "true", wrong); a.Outcome == navvy.OutcomeSucceeded {
			t.Errorf("%+v is mounted", wrong)
		}
	}
	if a := run(false, "true", at, at); a.Reason != navvy.ReasonInput {
		t.Errorf("two at one place: %v %s %q", a.Outcome, a.Reason, a.Message)
	}
}

// A process with a tree starts in it, and has its own directory for a home.
func TestTree(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	if err := os.WriteFile(filepath.Join(tree, "prog"), []byte("#!/bin/sh\npwd; echo $HOME\ntouch mine 2>/dev/null && echo wrote\ntouch $HOME/x && echo kept\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	host := isolate.Open()
	d := process.NewDriver(&process.Options{Work: t.TempDir(), Isolation: host})
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, isolated := range []bool{false, true} {
		if isolated && !slices.Contains(host.Abilities(), navvy.AbilityIsolate) {
			continue
		}
		var out bytes.Buffer
		x, err := d.Start(t.Context(), &driver.Task{
			Token: "tree-" + strconv.FormatBool(isolated), Tree: tree, Stdout: &out,
			Spec: &navvy.Spec{Command: &navvy.Command{Args: []string{"./prog"}, Literal: true}, Isolate: isolated},
		})
		if err != nil {
			t.Fatal(err)
		}
		if end, err := x.Wait(t.Context()); err != nil || end.Exit.Code != 0 {
			t.Errorf("%+v, %v", end, err)
		}
		lines := strings.Split(out.String(), "\n")
		if isolated && out.String() != "/tmp/package\n/tmp/work\nkept\n" || !isolated && (lines[0] != tree || lines[1] == tree) || !strings.Contains(out.String(), "kept") {
			t.Errorf("isolated %v: %q", isolated, out.String())
		}
	}
}
