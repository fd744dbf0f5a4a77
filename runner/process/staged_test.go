package process_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/process"
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
