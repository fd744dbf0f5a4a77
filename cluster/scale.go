package cluster

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
)

// Applied is the file that was applied last, as the cluster's mark keeps it. The error wraps
// navvy.ErrNotFound if there is no such cluster.
func (c *Controller) Applied(ctx context.Context, name string) (*config.Cluster, error) {
	world, err := c.observe(ctx, name)
	if err != nil {
		return nil, err
	}
	return applied(name, world)
}

func applied(name string, world *driver.World) (*config.Cluster, error) {
	if world.Config == nil {
		return nil, fmt.Errorf("there is no cluster %s, or what was applied is not known any more: %w", name, navvy.ErrNotFound)
	}
	return config.Parse("the file that cluster "+name+" was made of", world.Config)
}

// Scale gives a cluster another number of workers, as Apply of the file that was applied last
// with that number would. Errors are those of Apply; one wraps navvy.ErrConflict if the cluster
// scales by itself, or if that would change the rest of it as well, as where the values are
// others that the file refers to.
func (c *Controller) Scale(ctx context.Context, name string, workers int) (*Plan, error) {
	if workers < 0 {
		return nil, fmt.Errorf("%d workers: want 0 or more: %w", workers, navvy.ErrInvalid)
	}
	return c.change(ctx, name, "scale", func(ctx context.Context, world *driver.World) (*Plan, error) {
		want, err := applied(name, world)
		if err != nil {
			return nil, err
		}
		if a := want.Workers.Autoscale; a != nil {
			return nil, fmt.Errorf("cluster %s has from %d to %d workers by itself: change workers.autoscale in its file and apply that: %w",
				name, a.Min, a.Max, navvy.ErrConflict)
		}
		before, err := c.driver.Compile(ctx, want, world.Salt)
		if err != nil {
			return nil, err
		}
		scaled := *want
		scaled.Workers.Count = workers
		p, err := c.plan(ctx, &scaled, world)
		if err != nil {
			return nil, err
		}
		return p, changesRest(p, before)
	})
}

// changesRest is the error of a plan to scale that alters a resource which is the same with
// any number of workers.
func changesRest(p *Plan, before []driver.Resource) error {
	rest := make(map[driver.ID]driver.Properties, len(before))
	for i := range before {
		rest[before[i].ID] = before[i].Properties
	}
	for i := range p.Changes {
		c := &p.Changes[i]
		if was, had := rest[c.ID]; c.Action != Alter || !had || !maps.Equal(was, c.resource.Properties) {
			continue
		}
		keys := make([]string, len(c.Differences))
		for j := range c.Differences {
			keys[j] = c.Differences[j].Key
		}
		return fmt.Errorf("cluster %s: %s is not what the file would make of it from here (%s), and to scale would change that, too: apply the file, or scale where it was applied: %w",
			p.Cluster, c.ID, strings.Join(keys, ", "), navvy.ErrConflict)
	}
	return nil
}
