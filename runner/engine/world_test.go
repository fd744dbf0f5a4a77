package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/engine"
	"github.com/navvy-run/navvy/runner/engine/enginetest"
)

func TestMain(m *testing.M) { enginetest.Main(m) }

// world is one engine under test.
type world struct {
	kind string
	at   func(testing.TB) *enginetest.Engine
	hands
	rest string // what a script does so that nothing of its long output is lost
}

// worlds are the engines that each test is for.
var worlds = []world{
	{engine.KindDocker, enginetest.Docker, dockerHands{}, ""},
	// containerd 1.6 may lose what is in a pipe when its container ends.
	{engine.KindContainerd, enginetest.Containerd, containerdHands{}, "sleep 0.5\n"},
}

// each runs a test on each engine.
func each(t *testing.T, test func(*testing.T, *world)) {
	t.Helper()
	for i := range worlds {
		t.Run(worlds[i].kind, func(t *testing.T) {
			t.Parallel()
			worlds[i].at(t)
			test(t, &worlds[i])
		})
	}
}

var instances atomic.Int64

// instance is a name that no other test has.
func instance() string { return fmt.Sprintf("navvy-test-%d", instances.Add(1)) }

// answers tells whether the engine does.
func (w *world) answers(tb testing.TB) bool {
	tb.Helper()
	e := w.at(tb)
	d, err := engine.Open(tb.Context(), &engine.Options{Kind: w.kind, Instance: instance(), Host: "unix://" + e.Socket, Address: e.Socket})
	if err != nil {
		return false
	}
	return d.Close() == nil
}

// open returns a driver, as a navvy on the directory of that instance would have it.
func (w *world) open(tb testing.TB, instance string, o engine.Options) *engine.Driver {
	tb.Helper()
	d, err := engine.Open(tb.Context(), w.options(tb, instance, o))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := d.Close(); err != nil {
			tb.Error(err)
		}
	})
	return d
}

// options are those of a driver.
func (w *world) options(tb testing.TB, instance string, o engine.Options) *engine.Options {
	tb.Helper()
	e := w.at(tb)
	o.Kind, o.Instance, o.Host, o.Address = w.kind, instance, "unix://"+e.Socket, e.Socket
	o.Group = e.Group
	o.Logs, o.Ending = filepath.Join(e.Dir, "logs", instance), filepath.Join(e.Dir, "ending", instance)
	o.Render = func(t *driver.Task) ([]string, error) { return t.Spec.Container.Command.Args, nil }
	o.Logger = slog.New(slog.NewTextHandler(tb.Output(), nil))
	return &o
}

// shell is a spec that runs a shell script in a container.
func shell(script string) *navvy.Spec {
	return &navvy.Spec{
		Grace:     30 * time.Second,
		Container: &navvy.Container{Image: enginetest.Image, Command: navvy.Command{Args: []string{script}, Shell: true}},
	}
}

// trial is an attempt under test.
type trial struct {
	task      driver.Task
	out, err  output
	execution driver.Execution
}

var (
	job   = navvy.NewJobID()
	tasks atomic.Int64
)

// newTrial is an attempt at a task of its own.
func newTrial(s *navvy.Spec) *trial {
	n := tasks.Add(1)
	r := &trial{task: driver.Task{
		ID: navvy.TaskID{Job: job, Index: n}, Attempt: navvy.AttemptID{Number: 1, Epoch: 1},
		Token: fmt.Sprintf("trial-%s-%d", job, n), Slot: 1, Spec: s, Owner: "someone",
	}}
	r.task.Stdout, r.task.Stderr = &r.out, &r.err
	return r
}

// again is another attempt at the same task.
func (r *trial) again() *trial {
	n := newTrial(r.task.Spec)
	n.task.ID, n.task.Round, n.task.Failed = r.task.ID, r.task.Round, r.task.Failed
	return n
}

// start starts an attempt.
func (r *trial) start(t *testing.T, d *engine.Driver) *trial {
	t.Helper()
	execution, err := d.Start(t.Context(), &r.task)
	if err != nil {
		t.Fatal(err)
	}
	r.execution = execution
	return r
}

// begun starts an attempt and waits until its script has written that it has begun: the first
// process of a container does not hear a signal that comes before it listens.
func (r *trial) begun(t *testing.T, d *engine.Driver) *trial {
	t.Helper()
	r.start(t, d)
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan struct{})
	go func() {
		defer close(left)
		_, _ = r.execution.Wait(ctx) // ends with ctx
	}()
	r.await(t, "begun\n")
	cancel()
	<-left
	return r
}

// end waits for the end.
func (r *trial) end(t *testing.T) (driver.End, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), enginetest.Patience)
	defer cancel()
	end, err := r.execution.Wait(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("it does not end; its output is %.200q", r.out.text())
	}
	return end, err
}

// waiting is a wait in the background.
type waiting struct {
	end  driver.End
	err  error
	done chan struct{}
}

func (r *trial) wait(t *testing.T) *waiting {
	w := &waiting{done: make(chan struct{})}
	go func() {
		defer close(w.done)
		ctx, cancel := context.WithTimeout(t.Context(), enginetest.Patience)
		defer cancel()
		w.end, w.err = r.execution.Wait(ctx)
	}()
	t.Cleanup(func() { <-w.done })
	return w
}

// id is that of its container.
func (r *trial) id() string { return strings.Fields(string(r.execution.Handle()))[2] }

// run runs a spec to its end.
func run(t *testing.T, d *engine.Driver, s *navvy.Spec) (*trial, driver.End, error) {
	t.Helper()
	r := newTrial(s).start(t, d)
	end, err := r.end(t)
	return r, end, err
}

// output collects what an attempt writes.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// until waits until something holds.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(enginetest.Patience); !holds(); <-time.After(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not come to pass that %s", what)
		}
	}
}

// await waits until the output holds a text.
func (r *trial) await(t *testing.T, text string) {
	t.Helper()
	until(t, "it writes "+text, func() bool { return strings.Contains(r.out.text(), text) })
}

// wantRefusal checks that an attempt ended for a reason, with words that hold a text.
func wantRefusal(t *testing.T, end driver.End, err error, reason navvy.Reason, words string) {
	t.Helper()
	refusal := end.Refusal
	if err != nil {
		errors.As(err, &refusal)
	}
	if refusal == nil || refusal.Reason != reason || !strings.Contains(refusal.Message, words) {
		t.Errorf("ended as %+v (%+v), %v; want reason %s and %q", end, refusal, err, reason, words)
	}
}
