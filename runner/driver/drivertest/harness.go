// Package drivertest is the suite that each driver of package runner passes.
package drivertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// Harness is how the suite gets at a driver.
type Harness struct {
	// Open returns a driver as a new navvy on the same host would, which sees what earlier ones started.
	Open func(t testing.TB) driver.Driver
	// Spec makes a spec whose tasks do the work, or false if the driver has no such work.
	Spec func(w Work) (*navvy.Spec, bool)
	// Disconnect breaks the link to a remote system until the returned function
	// is called. Nil for a driver that has none.
	Disconnect func() (heal func())
	// Codeless says that attempts have no exit of their own: one that does not succeed is
	// refused. Its output comes at its end, if it succeeds; a driver whose tasks hang gets
	// what they write first through its own Start.
	Codeless bool
	// OneStream says that what attempts write to both streams comes as standard output, in
	// whatever order.
	OneStream bool
	// Many is how many attempts can run at once. Defaults to 200.
	Many int
	// Patience bounds each wait. Defaults to Patience.
	Patience time.Duration
}

// streams is what comes of what an attempt writes.
func (h *Harness) streams(w Work) (stdout, stderr string) {
	if h.OneStream {
		return w.Stdout + w.Stderr, ""
	}
	return w.Stdout, w.Stderr
}

// ended tells whether an attempt has ended as its work says.
func (h *Harness) ended(end *driver.End, want navvy.Exit) bool {
	if h.Codeless {
		return end.Exit == navvy.Exit{} && (end.Refusal != nil) == (want != navvy.Exit{})
	}
	return end.Exit == want && end.Refusal == nil
}

// fails is the code of work that fails behind its output; none where that has none then.
func (h *Harness) fails(code int) int {
	if h.Codeless {
		return 0
	}
	return code
}

// Work is what a task of the suite does, in this order.
type Work struct {
	Refuse         navvy.Reason // cannot be run, for this reason
	Stdout, Stderr string       // writes these
	Pattern        int          // writes so many bytes of Pattern to its standard output
	Hang           bool         // runs until it is stopped, then exits with OnStop
	OnStop         int
	Stubborn       bool // ends by force only
	Signal         int  // ends by this signal
	Exit           int  // exits with this code
}

// ready is what a task writes that has begun: a line, as some kinds hand on lines only.
const ready = "ready\n"

// Pattern is what a task with Work.Pattern writes: the digits and a newline, again and again.
func Pattern(n int) []byte {
	line := []byte("0123456789\n")
	return bytes.Repeat(line, n/len(line)+1)[:n]
}

// Run runs the suite. Each test gets a harness of its own.
func Run(t *testing.T, harness func(t testing.TB) Harness) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, Harness){
		"Ends":          testEnds,
		"Why":           testWhy,
		"Refusals":      testRefusals,
		"Usage":         testUsage,
		"Output":        testOutput,
		"LongOutput":    testLongOutput,
		"SlowReader":    testSlowReader,
		"FailingReader": testFailingReader,
		"Stop":          testStop,
		"StopForce":     testStopForce,
		"StopTwice":     testStopTwice,
		"StopAtOnce":    testStopAtOnce,
		"StopEnded":     testStopEnded,
		"StopBlocked":   testStopBlocked,
		"WaitContext":   testWaitContext,
		"StartContext":  testStartContext,
		"Recover":       testRecover,
		"RecoverToken":  testRecoverToken,
		"RecoverEnded":  testRecoverEnded,
		"RecoverBad":    testRecoverBad,
		"Disconnect":    testDisconnect,
		"Many":          testMany,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := harness(t)
			if h.Many == 0 {
				h.Many = 200
			}
			if h.Patience == 0 {
				h.Patience = Patience
			}
			test(t, h)
		})
	}
}

// Patience bounds each wait of the suite and of the drivers' own tests. In a
// virtual machine the processor may be emulated, and shared besides.
var Patience = func() time.Duration {
	const patience = 20 * time.Second
	if os.Getenv("NAVVY_TEST_VM") != "" {
		return 5 * patience
	}
	return patience
}()

// attempt is one attempt under test.
type attempt struct {
	task           driver.Task
	execution      driver.Execution
	stdout, stderr *sink
	patience       time.Duration
}

// Tasks of a run have ids of their own: some kinds find by it what an earlier one has left.
var (
	tasks atomic.Int64
	job   = navvy.NewJobID()
)

// newAttempt prepares an attempt at some work; the test is skipped if the driver has none such.
func newAttempt(t *testing.T, h Harness, w Work) *attempt {
	t.Helper()
	spec, ok := h.Spec(w)
	if !ok {
		t.Skip("the driver has no such work")
	}
	index := tasks.Add(1)
	a := &attempt{stdout: newSink(), stderr: newSink(), patience: h.Patience}
	a.task = driver.Task{
		ID:      navvy.TaskID{Job: job, Index: index},
		Attempt: navvy.AttemptID{Number: 1, Epoch: 1},
		Token:   fmt.Sprintf("suite-%d-%d", time.Now().UnixNano(), index),
		Slot:    1, Spec: spec, Stdout: a.stdout, Stderr: a.stderr,
	}
	return a
}

// start starts an attempt that must not be refused, and forces its end when the test is over.
func start(t *testing.T, d driver.Driver, h Harness, w Work) *attempt {
	t.Helper()
	a := newAttempt(t, h, w)
	a.start(t, d)
	return a
}

func (a *attempt) start(t *testing.T, d driver.Driver) {
	t.Helper()
	execution, err := d.Start(t.Context(), &a.task)
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	a.execution = execution
	t.Cleanup(func() { _ = execution.Stop(context.Background(), true) })
	if handle := execution.Handle(); len(handle) > driver.MaxHandle || !bytes.Equal(handle, execution.Handle()) {
		t.Errorf("handle %q: longer than %d bytes, or another one each time", handle, driver.MaxHandle)
	}
}

// end waits for the end, which must come.
func (a *attempt) end(t *testing.T) driver.End {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), a.patience)
	defer cancel()
	end, err := a.execution.Wait(ctx)
	if err != nil {
		t.Fatalf("wait: %v", err)
	}
	return end
}

func (a *attempt) stop(t *testing.T, force bool) {
	t.Helper()
	if err := a.execution.Stop(t.Context(), force); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// waiting is an attempt whose Wait runs in the background.
type waiting struct {
	end      driver.End
	err      error
	done     chan struct{}
	patience time.Duration
}

func (a *attempt) wait(ctx context.Context) *waiting {
	w := &waiting{done: make(chan struct{}), patience: a.patience}
	go func() {
		defer close(w.done)
		w.end, w.err = a.execution.Wait(ctx)
	}()
	return w
}

func (w *waiting) result(t *testing.T) (driver.End, error) {
	t.Helper()
	select {
	case <-w.done:
		return w.end, w.err
	case <-time.After(w.patience):
		t.Fatal("the attempt does not end")
		return driver.End{}, nil
	}
}

// sink keeps what is written to it, can be waited for, and can be made to block or to fail.
type sink struct {
	first   chan struct{} // closed when something is written, or, if that blocks, is being written
	once    sync.Once
	mu      sync.Mutex
	buf     bytes.Buffer
	blocked chan struct{} // writes wait until it is closed; nil if they don't
	err     error
}

func newSink() *sink { return &sink{first: make(chan struct{})} }

var errGivenUp = errors.New("the output is not wanted any more")

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	blocked := s.blocked
	s.mu.Unlock()
	s.once.Do(func() { close(s.first) })
	if blocked != nil {
		<-blocked
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	return s.buf.Write(p)
}

func (s *sink) bytes() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.buf.Bytes())
}

// await blocks until something was written to standard output, or is being written.
func (a *attempt) await(t *testing.T) {
	t.Helper()
	select {
	case <-a.stdout.first:
	case <-time.After(a.patience):
		t.Fatal("no output comes")
	}
}

// giveUp makes each further write fail.
func (s *sink) giveUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = errGivenUp
}
