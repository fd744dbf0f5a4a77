package memqueue

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
)

// maxPeek bounds what is shown at once.
const maxPeek = 10_000

// Peek implements driver.Upkeep: all messages, also those that somebody has.
func (c *conn) Peek(_ context.Context, most int) ([]*driver.Seen, error) {
	if err := c.open(); err != nil {
		return nil, err
	}
	c.line.mu.Lock()
	defer c.line.mu.Unlock()
	all := slices.Concat([]*entry(c.line.ready), []*entry(c.line.waiting))
	slices.SortFunc(all, func(a, b *entry) int { return cmp.Compare(a.order, b.order) })
	list := make([]*driver.Seen, min(most, maxPeek, len(all)))
	now := time.Now()
	for i := range list {
		e := all[i]
		list[i] = &driver.Seen{Delivery: e.Delivery, Leased: e.index >= 0 && e.at.After(now)}
		list[i].Body = slices.Clone(e.Body)
	}
	return list, nil
}

// Count implements driver.Upkeep.
func (c *conn) Count(context.Context) (driver.Count, error) {
	if err := c.open(); err != nil {
		return driver.Count{}, err
	}
	n := c.line.count()
	c.broker.mu.Lock()
	dead := c.broker.lines[c.name+DeadSuffix]
	c.broker.mu.Unlock()
	if dead != nil {
		of := dead.count()
		n.Dead = of.Waiting + of.Leased
	}
	return n, nil
}

func (l *line) count() (n driver.Count) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	n.Waiting = int64(len(l.ready))
	for _, e := range l.waiting {
		if e.at.After(now) {
			n.Leased++
		} else {
			n.Waiting++
		}
	}
	return n
}

// Move implements driver.Upkeep.
func (c *conn) Move(_ context.Context, d *driver.Delivery, to driver.Place) error {
	if err := c.open(); err != nil {
		return err
	}
	target, m := c.line, &driver.Message{ID: d.ID, Correlation: d.Correlation, Body: d.Body}
	if to == driver.Home {
		name, ok := strings.CutSuffix(c.name, DeadSuffix)
		c.broker.mu.Lock()
		target = c.broker.lines[name]
		c.broker.mu.Unlock()
		if !ok || target == nil {
			return fmt.Errorf("memqueue: %s has no queue that it is the dead letters of: %w", c.name, navvy.ErrInvalid)
		}
		d.Reason, d.Tried = "", 0
	}
	if err := c.line.ack(d); err != nil {
		return err
	}
	target.mu.Lock()
	defer target.mu.Unlock()
	target.put(m, d.Reason, d.Tried, d.Enqueued)
	return nil
}
