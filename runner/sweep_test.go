package runner_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/driver/drivertest/remotetest"
)

// What an earlier navvy has left is told until somebody decides: it stays in the journal as long as
// it runs and may be taken over, and is forgotten when it is ended.
func TestSweepLeft(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	world := remotetest.NewWorld()
	task, journal := orphan(t, world, path)
	d := remotetest.New(world)
	adoptable, err := runner.RecoverAll(t.Context(), journal, d)
	if err != nil {
		t.Fatal(err)
	}
	r := runner.New(d, &runner.Options{Journal: journal})
	r.Left(adoptable)
	list := r.Adrift()
	if len(list) != 1 || list[0].Task != task.ID || list[0].Token != task.Token || !list[0].Own {
		t.Fatalf("%+v is adrift", list)
	}
	heal := world.Disconnect()
	if err := r.Sweep(t.Context(), &list[0]); err == nil {
		t.Error("what cannot be reached is ended")
	}
	heal()
	if err := r.Look(t.Context(), &list[0]); err != nil || len(r.Adrift()) != 1 || len(openJournal(t, path).Left()) != 1 {
		t.Errorf("what runs is forgotten: %v, %+v", err, r.Adrift())
	}
	if err := r.Sweep(t.Context(), &list[0]); err != nil || len(r.Adrift()) != 0 {
		t.Errorf("ended with %v, and %+v is adrift", err, r.Adrift())
	}
	left(t, path)
}

// What is gone is forgotten, and what the driver sees beside the journal is not this directory's.
func TestSweepGone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	journal := openJournal(t, path)
	e := runner.Entry{Kind: navvy.KindCommand, Task: navvy.TaskID{Job: navvy.NewJobID(), Index: 3}, Attempt: navvy.AttemptID{Number: 1, Epoch: 1}, Token: "mine"}
	if _, err := journal.Reserve(&e); err != nil {
		t.Fatal(err)
	}
	journal = openJournal(t, path)
	s := &sweeper{Driver: remotetest.New(remotetest.NewWorld()), adrift: []driver.Adrift{{Task: e.Task, Token: "mine"}, {Task: e.Task, Token: "another's"}}}
	r := runner.New(s, &runner.Options{Journal: journal})
	r.Left(journal.Left())
	list := r.Adrift()
	if len(list) != 2 || !list[0].Own || list[1].Own || list[1].Token != "another's" {
		t.Fatalf("%+v is adrift", list)
	}
	for i := range list {
		if err := r.Look(t.Context(), &list[i]); err != nil {
			t.Error(err)
		}
	}
	left(t, path)
	if err := r.Sweep(t.Context(), &list[1]); !errors.Is(err, errSwept) {
		t.Errorf("the driver is not asked to end it: %v", err)
	}
}

// sweeper is a driver that sees what others have begun.
type sweeper struct {
	driver.Driver
	adrift []driver.Adrift
}

var errSwept = errors.New("swept")

func (s *sweeper) Adrift() []driver.Adrift { return s.adrift }

func (s *sweeper) Sweep(_ context.Context, token string) error {
	return fmt.Errorf("%s: %w", token, errSwept)
}
