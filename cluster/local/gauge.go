package local

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/cluster/driver"
)

var _ driver.Gauger = (*Driver)(nil)

// Gauge implements driver.Gauger. What is in the queues of a broker, and goes through them, only
// the broker knows.
func (d *Driver) Gauge(ctx context.Context, cluster string) (*driver.Gauges, error) {
	s, err := d.site(cluster)
	if err != nil {
		return nil, err
	}
	list, err := s.all()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	g := &driver.Gauges{}
	if s.mark.Ports == (ports{}) {
		for _, m := range list {
			if m.ID.Kind == kindQueue {
				g.Queues = append(g.Queues, driver.QueueGauge{Name: m.ID.Name, Waiting: -1, Running: -1, Answers: -1, Dead: -1, Rate: -1})
			}
		}
		return g, nil
	}
	err = s.withServer(ctx, func(c *client.Client) error {
		for q, err := range c.Queues(ctx) {
			if err != nil {
				return err
			}
			if slices.ContainsFunc(list, func(m *made) bool { return m.ID == (driver.ID{Kind: kindQueue, Name: q.Name}) }) {
				g.Queues = append(g.Queues, driver.QueueGauge{Name: q.Name, Waiting: q.Waiting, Running: q.Running, Answers: q.Answers, Dead: q.DeadLetters, Rate: q.AnsweredRate})
			}
		}
		fleet, err := c.Fleet(ctx)
		for i := range fleet {
			w := &fleet[i]
			g.Workers = append(g.Workers, driver.WorkerGauge{Name: w.Name, State: w.State, Slots: w.Slots, Busy: int(w.Running)})
		}
		return err
	})
	slices.SortFunc(g.Workers, func(a, b driver.WorkerGauge) int { return strings.Compare(a.Name, b.Name) })
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w: %w", cluster, err, navvy.ErrUnavailable)
	}
	return g, nil
}
