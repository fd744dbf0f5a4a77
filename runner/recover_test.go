package runner_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/output"
	"github.com/navvy-run/navvy/runner"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/driver/drivertest"
	"github.com/navvy-run/navvy/runner/driver/drivertest/remotetest"
	"github.com/navvy-run/navvy/runner/noop"
)

// orphan starts an attempt on a remote system and forgets it, as a navvy does
// that is killed. It returns what the next one finds.
func orphan(t *testing.T, world *remotetest.World, path string) (*runner.Task, *runner.Journal) {
	t.Helper()
	journal := openJournal(t, path)
	spec, _ := world.Spec(drivertest.Work{Stdout: "begun", Hang: true, OnStop: 7})
	sink := newBegan()
	task := newTask(spec, sink)
	x := runner.New(remotetest.New(world), &runner.Options{Journal: journal}).Prepare(task)
	x.Watch()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		x.Do()
	}()
	<-sink.signal
	t.Cleanup(func() {
		world.Stop()
		<-ended
	})
	// Do has reserved and set its entry: the output came after that.
	again := *task
	return &again, openJournal(t, path)
}

func TestAdopt(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	world := remotetest.NewWorld()
	task, journal := orphan(t, world, path)
	sink := newBegan()
	task.Sink = sink
	d := remotetest.New(world)
	adoptable, err := runner.RecoverAll(t.Context(), journal, d, noop.Driver{})
	if err != nil || len(adoptable) != 1 {
		t.Fatalf("recover: %v, %d to be adopted", err, len(adoptable))
	}
	e := &adoptable[0]
	if e.Task != task.ID || e.Attempt != task.Attempt || e.Token != task.Token {
		t.Errorf("entry %+v", e)
	}
	began := &beganOf{Driver: d}
	x, err := runner.New(began, &runner.Options{Journal: journal}).Adopt(t.Context(), e, task)
	if err != nil {
		t.Fatal(err)
	}
	if !began.at.Equal(e.Started) {
		t.Errorf("the driver is told that it began at %s, not %s", began.at, e.Started)
	}
	x.Watch()
	go func() {
		<-sink.signal
		x.Stop(false)
	}()
	a := x.Do()
	judged{navvy.OutcomeInterrupted, navvy.ReasonStopped, "stopped"}.check(t, a)
	if stdout, _, err := output.Split(sink.frames); err != nil || string(stdout) != "begun" {
		t.Errorf("output %q, %v: it does not begin at byte 0", stdout, err)
	}
	if !a.Started.Equal(e.Started) {
		t.Errorf("it began at %s, not %s", a.Started, e.Started)
	}
	left(t, path)
	if _, err := runner.New(d, &runner.Options{Journal: journal}).Adopt(t.Context(), e, task); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("adopt what has ended: %v", err)
	}
}

// beganOf notes when a driver is told that an attempt has begun.
type beganOf struct {
	driver.Driver
	at time.Time
}

func (d *beganOf) Start(ctx context.Context, t *driver.Task) (driver.Execution, error) {
	d.at = t.Began
	return d.Driver.Start(ctx, t)
}

func (d *beganOf) Recover(ctx context.Context, handle []byte, t *driver.Task) (driver.Execution, error) {
	d.at = t.Began
	return d.Driver.Recover(ctx, handle, t)
}

// A driver is told when the time of an attempt began, which is before it was waited for anything.
func TestBegan(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		world := remotetest.NewWorld()
		spec, _ := world.Spec(drivertest.Work{})
		began := &beganOf{Driver: remotetest.New(world)}
		x := runner.New(began, nil).Prepare(newTask(spec, nil))
		x.Before(func(context.Context) error {
			<-time.After(time.Minute)
			return nil
		})
		if a := x.Do(); began.at.IsZero() || !began.at.Equal(a.Started) {
			t.Errorf("it is told %s, not %s", began.at, a.Started)
		}
	})
}

func TestEnd(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	world := remotetest.NewWorld()
	_, journal := orphan(t, world, path)
	r := runner.New(remotetest.New(world), &runner.Options{Journal: journal})
	e := &journal.Left()[0]
	if err := r.End(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	left(t, path)
	if err := r.End(t.Context(), e); err != nil {
		t.Errorf("end what has ended: %v", err)
	}
}

// unwell is a driver that cannot recover what it started.
type unwell struct{ driver.Driver }

func (unwell) Recover(context.Context, []byte, *driver.Task) (driver.Execution, error) {
	return nil, navvy.ErrUnavailable
}

// TestRecoverErrors has drivers that fail and drivers that are missing, at once:
// each entry's error is told.
func TestRecoverErrors(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	journal := openJournal(t, path)
	const each = 100
	for i := range 2 * each {
		e := entry(i)
		if i%2 == 0 {
			e.Kind = navvy.KindNoop
		}
		reserve(t, journal, e)
	}
	_, err := runner.RecoverAll(t.Context(), openJournal(t, path), unwell{noop.Driver{}})
	for _, want := range []error{navvy.ErrUnavailable, navvy.ErrUnsupported} {
		if n := strings.Count(fmt.Sprint(err), want.Error()); n != each {
			t.Errorf("%d errors of %d say %q", n, each, want)
		}
	}
}

func TestRecoverUnknownKind(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	e := entry(1)
	reserve(t, openJournal(t, path), e)
	if _, err := runner.RecoverAll(t.Context(), openJournal(t, path), noop.Driver{}); !errors.Is(err, navvy.ErrUnsupported) {
		t.Errorf("recover: %v", err)
	}
	left(t, path, e)
}
