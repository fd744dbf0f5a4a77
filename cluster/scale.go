package cluster

import (
	"context"
	"fmt"

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
// scales by itself.
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
		want.Workers.Count = workers
		return c.plan(ctx, want, world)
	})
}
