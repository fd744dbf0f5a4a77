package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/internal/pause"
)

// Controller makes, changes and removes clusters of one provider. Its methods may be called by
// many at once, also by many processes: those that change a cluster take its lock.
type Controller struct {
	driver driver.Driver
	opts   Options
}

// Options are how a Controller works.
type Options struct {
	// Who is who changes clusters, as others are told: user@host. Defaults to "somebody".
	Who string
	// AtOnce is how many changes are made at once. Defaults to 16.
	AtOnce int
	// Wait is how long to wait for somebody else who changes the cluster. Defaults to not at
	// all.
	Wait time.Duration
	// Lose allows changes that lose what resources hold (Change.Holds).
	Lose bool
	// Force has Destroy forget what is where nothing can be done, such as on a host that does
	// not answer: it stays there. Tell is told what, and how it is removed by hand.
	Force bool
	// Waiting is told once who is waited for. Defaults to nobody.
	Waiting func(driver.Holder)
	// Planned is told what is about to be done. Defaults to nobody.
	Planned func(*Plan)
	// Tell is told of each change, one call at a time. Defaults to nobody.
	Tell func(Event)
}

const defaultAtOnce = 16

// New returns a controller of the clusters that a driver reaches. The driver stays the
// caller's to close.
func New(d driver.Driver, o *Options) *Controller {
	c := &Controller{driver: d}
	if o != nil {
		c.opts = *o
	}
	if c.opts.Who == "" {
		c.opts.Who = "somebody"
	}
	if c.opts.AtOnce <= 0 {
		c.opts.AtOnce = defaultAtOnce
	}
	return c
}

// Plan tells what Apply would do. It changes nothing and needs no lock, so that it may see a
// cluster that somebody is changing.
func (c *Controller) Plan(ctx context.Context, want *config.Cluster) (*Plan, error) {
	world, err := c.observe(ctx, want.Name)
	if err != nil {
		return nil, err
	}
	return c.plan(ctx, want, world)
}

func (c *Controller) plan(ctx context.Context, want *config.Cluster, world *driver.World) (*Plan, error) {
	salt := world.Salt
	if len(salt) == 0 {
		const bytes = 16
		salt = make([]byte, bytes)
		_, _ = rand.Read(salt) // never fails
	}
	wanted, err := c.driver.Compile(ctx, want, salt)
	if err != nil {
		return nil, err
	}
	return newPlan(want.Name, wanted, world)
}

func (c *Controller) observe(ctx context.Context, name string) (*driver.World, error) {
	world, err := c.driver.Observe(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", name, err)
	}
	return world, nil
}

// Apply makes a cluster what is wanted, and returns what it has done. What it began and did
// not finish, because it was interrupted, killed, or something failed, the next Apply goes on
// with. The error is a *FailedError if changes failed, a *LoseError if some would lose what
// nobody has said may be lost: then nothing was done; a *driver.HeldError if somebody else is
// changing the cluster.
func (c *Controller) Apply(ctx context.Context, want *config.Cluster) (*Plan, error) {
	return c.change(ctx, want.Name, "apply", func(ctx context.Context, world *driver.World) (*Plan, error) {
		return c.plan(ctx, want, world)
	})
}

// Destroy removes all that there is of a cluster; nothing for one that there is not. Errors are
// those of Apply; with Options.Force one wraps navvy.ErrUnsupported if the provider has nothing
// that it could forget.
func (c *Controller) Destroy(ctx context.Context, name string) (*Plan, error) {
	if _, forgets := c.driver.(driver.Forgetter); c.opts.Force && !forgets {
		return nil, fmt.Errorf("cluster %s: to force it is for clusters with workers on hosts, which may be gone (provider ssh); nothing of this one is where it could be forgotten: %w", name, navvy.ErrUnsupported)
	}
	return c.change(ctx, name, "destroy", func(_ context.Context, world *driver.World) (*Plan, error) {
		return newPlan(name, nil, world)
	})
}

// PlanDestroy tells what Destroy would do.
func (c *Controller) PlanDestroy(ctx context.Context, name string) (*Plan, error) {
	world, err := c.observe(ctx, name)
	if err != nil {
		return nil, err
	}
	return newPlan(name, nil, world)
}

// change takes the lock, looks what there is, and carries out what is planned then.
func (c *Controller) change(ctx context.Context, name, what string, plan func(context.Context, *driver.World) (*Plan, error)) (p *Plan, err error) {
	lock, err := c.lock(ctx, name, what)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer func() {
		const bound = 5 * time.Minute // a provider may have something to remove with it
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), bound)
		defer cancel()
		if e := lock.Release(ctx); e != nil {
			err = errors.Join(err, fmt.Errorf("cluster %s: what was planned is over, but its lock is not given back whole: %w", name, e))
		}
	}()
	watched := make(chan struct{})
	defer close(watched)
	go func() {
		select {
		case <-lock.Lost():
			cancel(fmt.Errorf("the right to change it was lost to somebody else, or could not be renewed: %w", navvy.ErrConflict))
		case <-watched:
		}
	}()
	world, err := c.observe(ctx, name)
	if err != nil {
		return nil, err
	}
	if p, err = plan(ctx, world); err != nil {
		return nil, err
	}
	if c.opts.Planned != nil {
		c.opts.Planned(p)
	}
	if lost := p.Lost(); len(lost) > 0 && !c.opts.Lose {
		return p, &LoseError{Cluster: name, Lost: lost}
	}
	r := &run{driver: c.driver, tell: c.opts.Tell}
	if c.opts.Force && what == "destroy" {
		r.forget, _ = c.driver.(driver.Forgetter) // as Destroy has looked
	}
	return p, carryOut(ctx, r, p, c.opts.AtOnce)
}

// lock takes the lock of a cluster, and waits for whoever has it.
func (c *Controller) lock(ctx context.Context, name, what string) (driver.Lock, error) {
	h := driver.Holder{Who: c.opts.Who, What: what, Since: time.Now()}
	end := h.Since.Add(c.opts.Wait)
	const first, longest = 100 * time.Millisecond, 5 * time.Second
	pauses, told := pause.Series{First: first, Longest: longest}, false
	for {
		lock, err := c.driver.Lock(ctx, name, h)
		if err == nil {
			return lock, nil
		}
		held, is := errors.AsType[*driver.HeldError](err)
		if !is || !time.Now().Before(end) {
			return nil, fmt.Errorf("cluster %s: %w", name, err)
		}
		if !told && c.opts.Waiting != nil {
			c.opts.Waiting(held.Holder)
			told = true
		}
		if err := pauses.Wait(ctx); err != nil {
			return nil, fmt.Errorf("cluster %s: %w", name, held)
		}
	}
}

// Clusters lists the names of the clusters that there are, in order.
func (c *Controller) Clusters(ctx context.Context) ([]string, error) { return c.driver.Clusters(ctx) }

// LoseError says what would be lost by changes that were not made.
type LoseError struct {
	Cluster string
	Lost    []Change
}

// Error names the resources.
func (e *LoseError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "cluster %s: nothing was done, as this would be lost:", e.Cluster)
	for i := range e.Lost {
		fmt.Fprintf(&b, "\n  %s: %s", e.Lost[i].ID, e.Lost[i].Holds)
	}
	return b.String()
}

// Unwrap makes it a navvy.ErrConflict.
func (e *LoseError) Unwrap() error { return navvy.ErrConflict }
