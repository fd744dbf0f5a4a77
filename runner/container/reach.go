package container

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/internal/pause"
	"github.com/navvy-run/navvy/runner/driver"
)

var _ driver.Reacher = (*Driver)(nil)

// Bounds of the tries to reach an API server that was never reached.
const (
	reachTimeout = 5 * time.Second
	reachPause   = 5 * time.Second // the longest
)

// reach is whether the API server was ever reached.
type reach struct {
	begin   sync.Once
	tried   chan struct{} // closed once it is known
	reached chan struct{} // closed once it was

	mu  sync.Mutex
	why error // that it was not; nil if it was
}

func newReach() reach {
	return reach{tried: make(chan struct{}), reached: make(chan struct{})}
}

// Reach implements driver.Reacher. The API server is asked for its version, which anybody may
// ask; what was reached once is not asked again.
func (d *Driver) Reach(ctx context.Context) (reached <-chan struct{}, why error) {
	r := &d.reach
	r.begin.Do(func() { d.running.Go(d.tryReach) })
	select {
	case <-r.tried:
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reached, r.why
}

// tryReach tries until the API server answers, or the driver is closed.
func (d *Driver) tryReach() {
	r := &d.reach
	tried := sync.OnceFunc(func() { close(r.tried) })
	defer tried()
	pauses := pause.Series{First: firstPause, Longest: reachPause}
	for {
		err := d.ask()
		r.mu.Lock()
		r.why = err
		r.mu.Unlock()
		if err == nil {
			close(r.reached)
			return
		}
		tried()
		if pauses.Wait(d.ctx) != nil {
			return
		}
	}
}

// ask asks the API server anything. Whatever it answers that is about the question, it is there.
func (d *Driver) ask() error {
	ctx, cancel := context.WithTimeout(d.ctx, reachTimeout)
	defer cancel()
	_, err := d.cluster.core.Get().AbsPath("/version").MaxRetries(0).DoRaw(ctx)
	switch {
	case !passing(err):
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		err = fmt.Errorf("no answer within %s", reachTimeout)
	}
	return fmt.Errorf("the cluster cannot be reached: %w: %w", err, navvy.ErrUnavailable)
}
