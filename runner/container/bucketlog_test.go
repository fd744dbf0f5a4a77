package container

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/share/staging"
)

// logged is an attempt that has ended, whose log goes to a server that says nothing.
func logged(t *testing.T, d *Driver) *waiter {
	t.Helper()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	p := &plan{
		Buckets: navvy.Buckets{Output: "results"}, job: "j",
		opts: &Buckets{Server: staging.Server{Endpoint: "http://" + silent.Addr().String(), Key: "k", Secret: "s"}, Patience: time.Hour},
	}
	return &waiter{attempt: &attempt{driver: d, task: driver.Task{Spec: &navvy.Spec{}}}, log: &bucketLog{driver: d, plan: p}}
}

// A worker that leaves while a log is on its way has not kept it: whoever comes next does.
func TestLeaveLog(t *testing.T) {
	t.Parallel()
	d := &Driver{log: slog.New(slog.DiscardHandler)}
	d.ctx, d.stop = context.WithCancel(t.Context())
	w := logged(t, d)
	ctx, leave := context.WithCancel(t.Context())
	kept := make(chan bool)
	go func() { kept <- w.log.keep(ctx, w, driver.End{}, nil) }()
	leave()
	if <-kept {
		t.Error("a log that nobody has taken is kept")
	}
	if w.log.keep(ctx, w, driver.End{}, nil) {
		t.Error("a log that was not begun is kept")
	}
	d.stop()
	d.logs.Wait()
	if w.log = nil; !w.log.keep(ctx, w, driver.End{}, nil) {
		t.Error("no log is waited for")
	}
}

// The log of an attempt that is given back is not tried any more once that is told: it would
// come after that of the next attempt, and has the same name.
func TestGivenBackLog(t *testing.T) {
	t.Parallel()
	d := &Driver{log: slog.New(slog.DiscardHandler), ctx: t.Context()}
	w := logged(t, d)
	w.task.Spec.Timeout, w.task.Began = time.Minute, time.Now().Add(-time.Minute)
	if !w.log.keep(t.Context(), w, driver.End{}, &driver.Away{Message: "evicted"}) {
		t.Error("what is given back waits for its log")
	}
	d.logs.Wait() // for ever, if it is tried on
}

// A result waits for its log no longer than until whoever ends the attempt in the end does so,
// whose time began before its Job was made.
func TestLogTime(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		timeout        time.Duration
		began, created time.Time
		want           time.Duration
	}{
		"no timeout":       {0, noon, noon, time.Hour},
		"long":             {2 * time.Hour, noon, noon, time.Hour},
		"short":            {time.Minute, noon, noon, 45 * time.Second},
		"waited for room":  {time.Minute, noon.Add(-30 * time.Second), noon, 15 * time.Second},
		"almost over":      {time.Minute, noon.Add(-50 * time.Second), noon, time.Second},
		"taken over":       {time.Minute, noon, noon.Add(-time.Hour), 45 * time.Second},
		"nobody has told":  {time.Minute, time.Time{}, noon, 45 * time.Second},
		"nothing is known": {time.Minute, time.Time{}, time.Time{}, time.Hour},
	} {
		w := &waiter{
			attempt: &attempt{task: driver.Task{Began: c.began, Spec: &navvy.Spec{Timeout: c.timeout}}}, created: c.created,
			log: &bucketLog{plan: &plan{opts: &Buckets{Patience: time.Hour}}},
		}
		if got := w.logTime(noon.Add(10 * time.Second)); got != c.want {
			t.Errorf("%s: waits for %s, want %s", name, got, c.want)
		}
	}
}
