package holder

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/engine/memory"
	"github.com/navvy-run/navvy/runner"
)

// What Start has taken it gives back when it fails.
func TestStartFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for name, change := range map[string]func(*Config){
		"no store": func(c *Config) {
			c.OpenStore = func(context.Context, func(bool), func(error)) (driver.Store, error) { return nil, broken }
		},
		"a pointer to no store": func(c *Config) {
			c.OpenStore = func(context.Context, func(bool), func(error)) (driver.Store, error) {
				return (*memory.Store)(nil), broken
			}
		},
		"no runners": func(c *Config) {
			c.Runners = func(context.Context, *runner.Journal) ([]*runner.Runner, error) { return nil, broken }
		},
	} {
		cfg := testConfig(t)
		change(&cfg)
		lock, _, err := cfg.Dir.TryLock()
		if err != nil {
			t.Fatal(err)
		}
		if h, err := Start(t.Context(), lock, cfg); !errors.Is(err, broken) {
			t.Errorf("%s: %v, %v", name, h, err)
		}
		free, _, err := cfg.Dir.TryLock()
		if free == nil {
			t.Fatalf("%s: the lock is still held: %v", name, err)
		}
		if err := free.Unlock(); err != nil {
			t.Error(err)
		}
	}
}

// A damaged journal keeps the holder from starting: what runs would run twice.
func TestDamagedJournal(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	if err := errors.Join(os.Mkdir(cfg.Dir.join(workerName), 0o700),
		os.WriteFile(cfg.Dir.join(workerName+"/"+journalName), []byte(strings.Repeat("no journal", 1000)), 0o600)); err != nil {
		t.Fatal(err)
	}
	lock, _, err := cfg.Dir.TryLock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), lock, cfg); !errors.Is(err, navvy.ErrCorrupt) || !strings.Contains(err.Error(), cfg.Dir.Path()) {
		t.Errorf("%v", err)
	}
}

// A holder without runners is for looking: it serves nobody else and runs nothing.
func TestLookOnly(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	cfg.Runners = nil
	h, _ := start(t, cfg)
	if _, err := os.Stat(cfg.Dir.join(socketName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is a socket: %v", err)
	}
	c := client.New(h.Conn())
	id := submit(t, c, navvy.Job{Detached: true, Spec: navvy.Spec{Noop: &navvy.Noop{}}}, "x")
	task, err := c.Task(t.Context(), navvy.TaskID{Job: id})
	if err != nil || task.State != navvy.Queued || task.Waiting != "there is no worker" {
		t.Errorf("%+v, %v", task, err)
	}
}

// A detached job that is left when the holder closes is told of; one that waits
// for its client is not, and nor is one that has ended.
func TestLeft(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		job  navvy.Job
		left bool
	}{
		"detached": {navvy.Job{Detached: true, Spec: shell("exec sleep 100")}, true},
		"attached": {navvy.Job{Spec: shell("exec sleep 100")}, false},
		"ended":    {navvy.Job{Detached: true, Spec: command("true")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, stop := start(t, testConfig(t))
			cl := client.New(h.Conn())
			id := submit(t, cl, c.job, "")
			if name == "ended" {
				if _, err := cl.Wait(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			} else {
				awaitStatus(t, cl, id, func(st *navvy.Status) bool { return st.Counts.Running == 1 })
				if n := h.Busy(); n != 1 {
					t.Errorf("%d are busy", n)
				}
			}
			if left, err := stop(); left != c.left || err != nil {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}

// A store that can be used no more ends the holder, with the reason.
func TestFatal(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	open := cfg.OpenStore
	var full func(bool)
	var fatal func(error)
	cfg.OpenStore = func(ctx context.Context, f func(bool), e func(error)) (driver.Store, error) {
		full, fatal = f, e
		return open(ctx, f, e)
	}
	h, stop := start(t, cfg)
	c := client.New(h.Conn())

	full(true)
	o, err := c.Overview(t.Context())
	if err != nil || !o.GetFull() {
		t.Errorf("the disk is full, and the overview does not say so: %v, %v", o, err)
	}
	id := submit(t, c, navvy.Job{Detached: true, Spec: command("true")}, "")
	if task, err := c.Task(t.Context(), navvy.TaskID{Job: id}); err != nil || task.Waiting != "the disk is full" {
		t.Errorf("%+v, %v", task, err)
	}
	full(false)
	if st, err := c.Wait(t.Context(), id); err != nil || st.State() != navvy.Succeeded {
		t.Errorf("there is space again: %v, %v", st, err)
	}

	broken := errors.New("broken")
	fatal(broken)
	fatal(errors.New("another"))
	<-h.Failed()
	if err := h.Err(); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if left, err := stop(); left || err != nil {
		t.Errorf("%v, %v", left, err)
	}
}

// A background holder ends when for some time nothing was to be done and nobody
// was connected.
func TestAwaitIdle(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	h, _ := start(t, cfg)
	idle := make(chan error, 1)
	go func() { idle <- h.AwaitIdle(t.Context(), time.Millisecond) }()
	if err := <-idle; err != nil {
		t.Fatal(err)
	}

	conn, err := cfg.Dir.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := client.New(conn)
	if _, err := c.Overview(t.Context()); err != nil {
		t.Fatal(err)
	}
	go func() { idle <- h.AwaitIdle(t.Context(), 0) }()
	job := submit(t, c, navvy.Job{Detached: true, Spec: navvy.Spec{Noop: &navvy.Noop{}}}, "x")
	if _, err := c.Wait(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-idle:
		t.Errorf("somebody is connected, and it is idle: %v", err)
	default:
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-idle; err != nil {
		t.Error(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.AwaitIdle(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// Drain gives up with its context, so that somebody who is in a hurry can close.
func TestDrain(t *testing.T) {
	t.Parallel()
	h, stop := start(t, testConfig(t))
	c := client.New(h.Conn())
	if err := h.Drain(t.Context()); err != nil {
		t.Errorf("nothing runs: %v", err)
	}
	_, err := c.Submit(t.Context(), navvy.Job{Spec: command("true")}, client.SubmitOptions{})
	if !errors.Is(err, navvy.ErrUnavailable) {
		t.Errorf("a holder that is about to leave takes a job: %v", err)
	}
	if _, err := stop(); err != nil {
		t.Error(err)
	}

	h, stop = start(t, testConfig(t))
	c = client.New(h.Conn())
	id := submit(t, c, navvy.Job{Detached: true, Spec: shell("exec sleep 100")}, "")
	awaitStatus(t, c, id, func(st *navvy.Status) bool { return st.Counts.Running == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Drain(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if left, err := stop(); !left || err != nil {
		t.Errorf("left: %v, %v", left, err)
	}
}
