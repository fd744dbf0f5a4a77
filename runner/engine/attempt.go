package engine

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// attempt is one container.
type attempt struct {
	driver   *Driver
	task     driver.Task
	id       string
	deadline time.Time // of one that was adopted: nobody else knows when it began; zero for none
	found    *state    // how it was when it was recovered; nil if it was not

	mu      sync.Mutex
	stopped bool          // we have asked it to end
	forced  bool          // and then ended it
	late    bool          // it has run for longer than it may
	left    chan struct{} // closed when another attempt has it, and this one was stopped
	parted  bool          // left is closed
}

var _ driver.Execution = (*attempt)(nil)

func (d *Driver) attempt(t *driver.Task, id string) *attempt {
	return &attempt{driver: d, task: *t, id: id, left: make(chan struct{})}
}

// holder is an attempt that has its container from now on, whoever had it.
func (d *Driver) holder(t *driver.Task, id string) *attempt {
	d.held.take(id, t.Token)
	return d.attempt(t, id)
}

// handleVersion begins each handle; the engine and the container's id follow.
const handleVersion = "engine/1 "

// Handle implements driver.Execution.
func (a *attempt) Handle() []byte { return []byte(handleVersion + a.driver.opts.Kind + " " + a.id) }

// clusterHandle begins the handles of package container, whose attempts are Jobs of Kubernetes.
const clusterHandle = "container/"

// parseHandle gives the id in a handle. What another engine, or a cluster, runs is not known
// here: the error wraps navvy.ErrUnavailable.
func (d *Driver) parseHandle(handle []byte) (id string, err error) {
	if handle == nil {
		return "", nil
	}
	if name, ok := strings.CutPrefix(string(handle), clusterHandle); ok {
		return "", fmt.Errorf("engine: an attempt is a Job of Kubernetes (%.80q) and this navvy runs containers on %s: start it with --engine kubernetes to have it looked after: %w",
			name, d.opts.Kind, navvy.ErrUnavailable)
	}
	rest, ok := strings.CutPrefix(string(handle), handleVersion)
	kind, id, found := strings.Cut(rest, " ")
	const bytes = 32
	if b, err := hex.DecodeString(id); !ok || !found || err != nil || len(b) != bytes {
		return "", fmt.Errorf("engine: handle %q: %w", handle, navvy.ErrCorrupt)
	}
	if kind != d.opts.Kind {
		return "", fmt.Errorf("engine: container %[1]s is one of %[2]s and this navvy runs containers on %[3]s: start it with --engine %[2]s to have it looked after: %[4]w",
			id, kind, d.opts.Kind, navvy.ErrUnavailable)
	}
	return id, nil
}

// Stop implements driver.Execution, unless another attempt has the container by now.
func (a *attempt) Stop(ctx context.Context, force bool) error {
	a.mu.Lock()
	a.stopped = true
	others := !a.driver.held.has(a.id, a.task.Token)
	a.forced = a.forced || force && !others
	if others && !a.parted {
		a.parted = true
		close(a.left)
	}
	a.mu.Unlock()
	if others {
		return nil
	}
	if a.found != nil && !force && !a.driver.held.held(a.id) {
		return a.driver.dismiss(ctx, a.found) // nobody waits for it, and would force it
	}
	if err := a.driver.marks.set(a.id); err != nil {
		a.driver.log.Warn("that a container is asked to end is not noted", "container", a.id, "err", err)
	}
	end := a.driver.backend.ask
	if force {
		end = a.driver.backend.kill
	}
	if err := end(ctx, a.id); err != nil && !errors.Is(err, errGone) {
		return err
	}
	return nil
}

// stops tells what was done to end it.
func (a *attempt) stops() (stopped, forced, late bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stopped, a.forced, a.late
}

// overdue ends one that was adopted and has run for too long. It returns when it is to be
// called again.
func (a *attempt) overdue(ctx context.Context) (time.Duration, error) {
	a.mu.Lock()
	if a.stopped && !a.late || !a.driver.held.has(a.id, a.task.Token) {
		a.mu.Unlock()
		return 0, nil
	}
	first := !a.late
	a.late = true
	a.mu.Unlock()
	if first {
		return a.grace(), a.driver.backend.ask(ctx, a.id)
	}
	return longestPause, a.driver.backend.kill(ctx, a.id)
}

func (a *attempt) grace() time.Duration {
	if s := a.task.Spec; s != nil && s.Grace > 0 {
		return s.Grace
	}
	return navvy.DefaultGrace
}
