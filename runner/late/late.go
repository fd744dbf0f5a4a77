// Package late stands in for the driver of a kind of work that cannot be done yet, and looks for
// what that lacks until it is there, such as an engine of containers that starts after navvy.
package late

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/navvy-run/navvy/internal/pause"
	"github.com/navvy-run/navvy/runner/driver"
)

// The pauses between looks: a machine that has just been switched on is soon complete, and one
// that lacks something for long is not asked much.
const (
	firstPause   = time.Second
	longestPause = 30 * time.Second
)

// Driver is that of a kind of work that may come. All methods may be called at once.
type Driver struct {
	now  atomic.Pointer[driver.Driver]
	come chan struct{}

	mu      sync.Mutex
	settled []string // tokens of attempts whose results were kept before it came
	log     *slog.Logger

	stop    context.CancelFunc
	looking sync.WaitGroup
}

var (
	_ driver.Driver    = (*Driver)(nil)
	_ driver.Latecomer = (*Driver)(nil)
	_ driver.Settler   = (*Driver)(nil)
	_ driver.Sweeper   = (*Driver)(nil)
	_ driver.Strayer   = (*Driver)(nil)
	_ driver.Bounder   = (*Driver)(nil)
	_ driver.Explainer = (*Driver)(nil)
)

// New returns a driver that is absent, which says why it is, until open gives another one, and
// that one from then on. open is called again and again, with growing pauses, until it gives one
// or the driver is closed, when its context ends; who is closed closes what it gave. A nil log
// drops what is said.
func New(absent driver.Driver, open func(context.Context) (driver.Driver, error), log *slog.Logger) *Driver {
	d := &Driver{come: make(chan struct{}), log: log}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	d.now.Store(&absent)
	ctx, stop := context.WithCancel(context.Background())
	d.stop = stop
	d.looking.Go(func() { d.look(ctx, open) })
	return d
}

// look looks until there is a driver, or ctx ends.
func (d *Driver) look(ctx context.Context, open func(context.Context) (driver.Driver, error)) {
	again, said := pause.Series{First: firstPause, Longest: longestPause}, d.Capabilities().Absent
	for again.Wait(ctx) == nil {
		found, err := open(ctx)
		switch {
		case ctx.Err() != nil && err != nil:
			return
		case err != nil:
			if why := err.Error(); why != said { // it may be nearly there
				d.log.Info("this kind of work is not done here yet", "kind", d.Capabilities().Kind, "why", why)
				said = why
			}
			continue
		}
		caps := found.Capabilities()
		d.arrive(found)
		close(d.come)
		d.log.Info("this kind of work is done here from now on", "kind", caps.Kind, "with", caps.With)
		return
	}
}

// arrive has a driver do the work from now on, and tells it what it has missed.
func (d *Driver) arrive(found driver.Driver) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now.Store(&found)
	if s, ok := found.(driver.Settler); ok {
		for _, token := range d.settled {
			s.Settled(token)
		}
	}
	d.settled = nil
}

func (d *Driver) driver() driver.Driver { return *d.now.Load() }

// Come implements driver.Latecomer.
func (d *Driver) Come() <-chan struct{} { return d.come }

// Capabilities implements driver.Driver.
func (d *Driver) Capabilities() driver.Capabilities { return d.driver().Capabilities() }

// Start implements driver.Driver.
func (d *Driver) Start(ctx context.Context, t *driver.Task) (driver.Execution, error) {
	return d.driver().Start(ctx, t)
}

// Recover implements driver.Driver.
func (d *Driver) Recover(ctx context.Context, handle []byte, t *driver.Task) (driver.Execution, error) {
	return d.driver().Recover(ctx, handle, t)
}

// mostSettled is how many tokens are kept for what has not come yet: what an attempt has left
// that is not told goes a week later.
const mostSettled = 10_000

// Settled implements driver.Settler. Before the work is done here it is kept until then: an
// earlier process may have left what it is about.
func (d *Driver) Settled(token string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s, ok := d.driver().(driver.Settler); ok {
		s.Settled(token)
	} else if len(d.settled) < mostSettled && d.Capabilities().Absent != "" {
		d.settled = append(d.settled, token)
	}
}

// Adrift implements driver.Sweeper.
func (d *Driver) Adrift() []driver.Adrift {
	if s, ok := d.driver().(driver.Sweeper); ok {
		return s.Adrift()
	}
	return nil
}

// Sweep implements driver.Sweeper.
func (d *Driver) Sweep(ctx context.Context, token string) error {
	if s, ok := d.driver().(driver.Sweeper); ok {
		return s.Sweep(ctx, token)
	}
	return nil
}

// Strays implements driver.Strayer.
func (d *Driver) Strays() <-chan struct{} {
	if s, ok := d.driver().(driver.Strayer); ok {
		return s.Strays()
	}
	return nil
}

// Bounds implements driver.Bounder.
func (d *Driver) Bounds(t *driver.Task) bool {
	b, ok := d.driver().(driver.Bounder)
	return ok && b.Bounds(t)
}

// Why implements driver.Explainer.
func (d *Driver) Why(ctx context.Context, token string) string {
	if e, ok := d.driver().(driver.Explainer); ok {
		return e.Why(ctx, token)
	}
	return ""
}

// Close implements driver.Driver. It ends a look that is under way.
func (d *Driver) Close() error {
	d.stop()
	d.looking.Wait()
	return d.driver().Close()
}
