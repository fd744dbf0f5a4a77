package holder

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/manager"
)

// testRun makes many calls at once, each of which gets its own answer, and the job is there.
func testRun(t *testing.T, c *client.Client) {
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			text := fmt.Sprint("call ", i)
			res, err := c.Run(t.Context(), navvy.Job{Spec: shell(`printf %s "$1"; test "$1" != "call 7"`)}, []byte(text))
			if err != nil {
				t.Error(err)
				return
			}
			want := navvy.Succeeded
			if i == 7 {
				want = navvy.Failed
			}
			if res.State != want || !strings.Contains(string(res.Output.Inline), text) {
				t.Errorf("%s: %s, %q", text, res.State, res.Output.Inline)
			}
			if st, err := c.Wait(t.Context(), res.Task.Job); err != nil || st.State() != want {
				t.Errorf("%s: the job: %+v, %v", text, st, err)
			}
		})
	}
	all.Wait()
}

// testBegin leaves jobs of one task to the server, many at once; one that is refused is
// told as such.
func testBegin(t *testing.T, c *client.Client) {
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			text := fmt.Sprint("left ", i)
			id, err := c.Begin(t.Context(), navvy.Job{Spec: shell(`printf %s "$1"`)}, []byte(text))
			if err != nil {
				t.Error(err)
				return
			}
			if st, err := c.Wait(t.Context(), id); err != nil || st.State() != navvy.Succeeded {
				t.Errorf("%s: %+v, %v", text, st, err)
			}
			for a, err := range c.Results(t.Context(), id, client.ResultsOptions{}) {
				if err != nil || !strings.Contains(string(a.Output.Inline), text) {
					t.Errorf("%s: %q, %v", text, a.Output.Inline, err)
				}
			}
		})
	}
	all.Wait()
	if id, err := c.Begin(t.Context(), navvy.Job{}, nil); !errors.Is(err, navvy.ErrInvalid) || id != "" {
		t.Errorf("a job of nothing: %q, %v", id, err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if id, err := c.Begin(gone, navvy.Job{Spec: shell("true")}, nil); err == nil || id != "" {
		t.Errorf("by somebody who has gone: %q, %v", id, err)
	}
}

// testRunKey calls under one idempotency key, at once and later: there is one job.
func testRunKey(t *testing.T, c *client.Client) {
	job := navvy.Job{IdempotencyKey: "once", Spec: shell(`echo "$1"`)}
	var mu sync.Mutex
	seen := map[navvy.JobID]int{}
	call := func(input string) {
		res, err := c.Run(t.Context(), job, []byte(input))
		if err != nil {
			t.Error(err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		seen[res.Task.Job]++
	}
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() { call("x") })
	}
	all.Wait()
	call("y") // the input is not compared
	if len(seen) != 1 {
		t.Errorf("jobs: %v", seen)
	}
	job.Spec = shell("echo other")
	if _, err := c.Run(t.Context(), job, nil); !errors.Is(err, navvy.ErrConflict) {
		t.Errorf("another command under the key: %v", err)
	}
}

// testRunRefused calls what cannot be, beside what can.
func testRunRefused(t *testing.T, c *client.Client) {
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			job := navvy.Job{Spec: shell("exit 0")}
			if i%2 == 0 {
				job.Spec = navvy.Spec{}
			}
			_, err := c.Run(t.Context(), job, nil)
			if refused := errors.Is(err, navvy.ErrInvalid); refused != (i%2 == 0) {
				t.Errorf("call %d: %v", i, err)
			}
		})
	}
	all.Wait()
	if _, err := c.Run(t.Context(), navvy.Job{Name: "\xff", Spec: shell("exit 0")}, nil); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("a name that is not UTF-8: %v", err)
	}
}

// testRunLarge calls with an input that is longer than a message of many.
func testRunLarge(t *testing.T, c *client.Client) {
	res, err := c.Run(t.Context(), navvy.Job{Spec: navvy.Spec{Noop: &navvy.Noop{}}}, make([]byte, 3<<20))
	if err != nil || res.State != navvy.Succeeded {
		t.Fatal(res.State, err)
	}
	if task, err := c.Task(t.Context(), res.Task); err != nil || len(task.Input) != 3<<20 {
		t.Errorf("its input has %d bytes: %v", len(task.Input), err)
	}
}

// awaitJob waits until a job of the name is there and runs.
func awaitJob(t *testing.T, c *client.Client, name string) navvy.JobID {
	t.Helper()
	for {
		for job, err := range c.Jobs(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if job.Name == name && job.Status.Counts.Running == 1 {
				return job.ID
			}
		}
	}
}

// testRunEnds stops and holds what is called: the caller is told; and leaves: the job goes on.
func testRunEnds(t *testing.T, c *client.Client) {
	call := func(ctx context.Context, name string) <-chan error {
		done := make(chan error, 1)
		go func() {
			_, err := c.Run(ctx, navvy.Job{Name: name, Spec: shell("exec sleep 1000")}, nil)
			done <- err
		}()
		return done
	}
	stopped, held := call(t.Context(), "stopped"), call(t.Context(), "held")
	if _, err := c.Stop(t.Context(), awaitJob(t, c, "stopped"), "enough"); err != nil {
		t.Fatal(err)
	}
	if err := <-stopped; !errors.Is(err, navvy.ErrConflict) || !strings.Contains(err.Error(), "enough") {
		t.Errorf("stopped: %v", err)
	}
	if err := c.Hold(t.Context(), awaitJob(t, c, "held"), "later", true); err != nil {
		t.Fatal(err)
	}
	if err := <-held; !errors.Is(err, navvy.ErrConflict) || !strings.Contains(err.Error(), "later") {
		t.Errorf("held: %v", err)
	}
	ctx, leave := context.WithCancel(t.Context())
	left := call(ctx, "left")
	id := awaitJob(t, c, "left")
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("left: %v", err)
	}
	if job, err := c.Get(t.Context(), id); err != nil || job.Status.Counts.Running != 1 || job.Status.Held {
		t.Errorf("the job that its caller left: %+v, %v", job.Status, err)
	}
	if _, err := c.Stop(t.Context(), id, "the test ends"); err != nil {
		t.Error(err)
	}
}

// TestRunAgain breaks the connection while a call waits: the job goes on, and whoever
// calls again under its key has the answer.
func TestRunAgain(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	start(t, cfg)
	gate := t.TempDir() + "/open"
	job := navvy.Job{Name: "slow", IdempotencyKey: "once", Spec: shell("until test -e " + gate + "; do sleep 0.05; done; echo done")}
	conn, err := cfg.Dir.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	broken := make(chan error, 1)
	go func() {
		_, err := client.New(conn).Run(t.Context(), job, nil)
		broken <- err
	}()
	c := client.New(dial(t, cfg.Dir))
	id := awaitJob(t, c, "slow")
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-broken; err == nil {
		t.Error("a call is answered whose connection is closed")
	}
	touch(t, gate)
	res, err := c.Run(t.Context(), job, nil)
	if err != nil || res.Task.Job != id || !strings.Contains(string(res.Output.Inline), "done") || res.Attempts != 1 {
		t.Errorf("%+v, %v", res, err)
	}
}

// A call that cannot be sent is refused, and breaks no other.
func TestRunBesideBadCalls(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	start(t, cfg)
	c := client.New(dial(t, cfg.Dir))
	gate := t.TempDir() + "/open"
	good := make(chan error, 1)
	go func() {
		_, err := c.Run(t.Context(), navvy.Job{Name: "good", Spec: shell("until test -e " + gate + "; do sleep 0.05; done")}, nil)
		good <- err
	}()
	awaitJob(t, c, "good")
	for name, bad := range map[string]struct {
		network string
		input   []byte
	}{"no UTF-8": {network: "\xff"}, "too large": {input: make([]byte, 128<<20)}} {
		spec := navvy.Spec{Noop: &navvy.Noop{}, Network: bad.network}
		if _, err := c.Run(t.Context(), navvy.Job{Spec: spec}, bad.input); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	touch(t, gate)
	if err := <-good; err != nil {
		t.Error(err)
	}
}

// Answers that nobody takes are not all in memory, and are all there when they are taken.
func TestRunUnreadAnswers(t *testing.T) {
	t.Parallel()
	h, _ := start(t, testConfig(t))
	caller := h.mgr.NewCaller()
	defer caller.Close()
	const n, size = 300, 60_000 // more than a caller keeps
	calls := make([]manager.Call, n)
	for i := range calls {
		calls[i] = manager.Call{Number: uint64(i), Job: navvy.Job{Owner: "a", Spec: shell(fmt.Sprint("head -c ", size, " /dev/zero"))}}
	}
	ids, errs := caller.Call(t.Context(), calls)
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	c := client.New(h.Conn())
	for _, id := range ids {
		if _, err := c.Wait(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[uint64]bool{}
	for len(seen) < n {
		answers, err := caller.Next(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range answers {
			if seen[a.Number] || a.Err != nil || a.Result == nil || a.Job != ids[a.Number] || a.Result.Output.Stdout != size || len(a.Result.Output.Inline) < size {
				t.Fatalf("answer %d: %v, %v", a.Number, a.Result, a.Err)
			}
			seen[a.Number] = true
		}
	}
	if err := caller.Room(t.Context(), 1); err != nil {
		t.Error(err)
	}
}

// Who stops a job whose answer has just become durable takes nothing from its caller.
func TestRunAnsweredAndStopped(t *testing.T) {
	t.Parallel()
	h, _ := start(t, testConfig(t))
	caller := h.mgr.NewCaller()
	defer caller.Close()
	for i := range 500 {
		ids, errs := caller.Call(t.Context(), []manager.Call{{Number: uint64(i), Job: navvy.Job{Owner: "a", Spec: navvy.Spec{Noop: &navvy.Noop{}}}}})
		if errs[0] != nil {
			t.Fatal(errs[0])
		}
		var stopped sync.WaitGroup
		stopped.Go(func() {
			for {
				if st, err := h.eng.State(t.Context(), ids[0]); err != nil || st.Ended() {
					_, _ = h.mgr.Stop(t.Context(), ids[0], "late")
					return
				}
			}
		})
		answers, err := caller.Next(t.Context(), nil)
		stopped.Wait()
		if err != nil || len(answers) != 1 || answers[0].Result == nil {
			t.Fatalf("call %d: %+v, %v", i, answers, err)
		}
	}
}
