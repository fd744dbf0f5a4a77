package runner_test

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/output"
	"github.com/navvy-run/navvy/runner"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/driver/drivertest"
	"github.com/navvy-run/navvy/runner/driver/drivertest/remotetest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(envVictim); dir != "" {
		os.Exit(victim(dir))
	}
	goleak.VerifyTestMain(m)
}

var tasks atomic.Int64

// newTask makes a task of a spec.
func newTask(spec *navvy.Spec, sink output.Sink) *runner.Task {
	index := tasks.Add(1)
	return &runner.Task{
		Task: driver.Task{
			ID:      navvy.TaskID{Job: "0123456789ab", Index: index},
			Attempt: navvy.AttemptID{Number: 2, Epoch: 7},
			Token:   fmt.Sprintf("runner-test-%d-%d", os.Getpid(), index),
			Slot:    3, Spec: spec,
		},
		Sink: sink,
	}
}

// remote is a runner of the pretended remote system, and a function that makes
// tasks for it.
func remote(o *runner.Options) (*runner.Runner, func(drivertest.Work) *runner.Task) {
	world := remotetest.NewWorld()
	return runner.New(remotetest.New(world), o), func(w drivertest.Work) *runner.Task {
		spec, _ := world.Spec(w)
		return newTask(spec, nil)
	}
}

// began makes a task's first output visible: it has begun.
type began struct {
	frames []byte
	signal chan struct{}
	err    error
}

func newBegan() *began { return &began{signal: make(chan struct{}, 1)} }

// Upload implements output.Sink.
func (b *began) Upload(frames []byte) error {
	b.frames = append(b.frames, frames...)
	select {
	case b.signal <- struct{}{}:
	default:
	}
	return b.err
}

// wrapped is a driver whose parts a test can replace.
type wrapped struct {
	driver.Driver
	caps  func(*driver.Capabilities)
	start func(context.Context, *driver.Task) (driver.Execution, error)
}

func (w *wrapped) Capabilities() driver.Capabilities {
	c := w.Driver.Capabilities()
	if w.caps != nil {
		w.caps(&c)
	}
	return c
}

func (w *wrapped) Start(ctx context.Context, t *driver.Task) (driver.Execution, error) {
	if w.start == nil {
		return w.Driver.Start(ctx, t)
	}
	return w.start(ctx, t)
}

// deaf is an execution that nothing ends, and that counts what it is told.
type deaf struct{ asked, forced atomic.Int64 }

func (d *deaf) Handle() []byte { return []byte("deaf") }

func (d *deaf) Wait(ctx context.Context) (driver.End, error) {
	<-ctx.Done()
	return driver.End{}, ctx.Err()
}

func (d *deaf) Stop(_ context.Context, force bool) error {
	if force {
		d.forced.Add(1)
	} else {
		d.asked.Add(1)
	}
	return nil
}
