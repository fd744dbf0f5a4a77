package cluster

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/driver"
)

// Status is how a cluster is.
type Status struct {
	Name      string
	Resources []driver.Observed // by kind and name, the mark first
	// Gauges is what goes on in it; nil if the provider cannot tell, or GaugesErr says why
	// it does not answer.
	Gauges    *driver.Gauges
	GaugesErr error
}

// Health is that of the whole: the worst of its resources.
func (s *Status) Health() driver.Health {
	worst := driver.HealthOK
	for i := range s.Resources {
		worst = slices.MaxFunc([]driver.Health{worst, s.Resources[i].Health}, func(a, b driver.Health) int {
			return cmp.Compare(slices.Index(healths, a), slices.Index(healths, b))
		})
	}
	return worst
}

// healths are in the order of their weight.
var healths = []driver.Health{driver.HealthOK, driver.HealthStarting, driver.HealthUnknown, driver.HealthFailed}

// Status looks at a cluster. The error wraps navvy.ErrNotFound if there is none of that name.
func (c *Controller) Status(ctx context.Context, name string) (*Status, error) {
	world, err := c.observe(ctx, name)
	if err != nil {
		return nil, err
	}
	if len(world.Resources) == 0 {
		return nil, fmt.Errorf("there is no cluster %s: %w", name, navvy.ErrNotFound)
	}
	s := &Status{Name: name, Resources: world.Resources}
	slices.SortStableFunc(s.Resources, func(a, b driver.Observed) int {
		return cmp.Or(-cmp.Compare(last(&a), last(&b)), compareIDs(a.ID, b.ID))
	})
	if g, ok := c.driver.(driver.Gauger); ok {
		s.Gauges, s.GaugesErr = g.Gauge(ctx, name)
	}
	return s, nil
}
