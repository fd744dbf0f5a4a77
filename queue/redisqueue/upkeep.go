package redisqueue

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
)

// maxPeek bounds what is shown at once: the script that does it holds up everybody else.
const maxPeek = 1000

// Peek implements driver.Upkeep: all entries, also those that somebody has.
func (c *conn) Peek(ctx context.Context, most int) ([]*driver.Seen, error) {
	list, err := peekScript.EvalSha(ctx, c.commands, c.keys.all(), min(most, maxPeek)).Slice()
	if err != nil {
		return nil, c.wrap("peek", err)
	}
	seen := make([]*driver.Seen, len(list))
	for i, raw := range list {
		parts, _ := raw.([]any)
		if len(parts) != 4 {
			return nil, fmt.Errorf("redisqueue: %s: peek: an entry of %d parts", c.keys.name, len(parts))
		}
		t, values, err := readEntry(parts[:3])
		if err != nil {
			return nil, c.wrap("peek", err)
		}
		leased, _ := parts[3].(int64)
		seen[i] = &driver.Seen{Delivery: *delivery(t, values, time.Time{}), Leased: leased == 1}
	}
	return seen, nil
}

// Count implements driver.Upkeep.
func (c *conn) Count(ctx context.Context) (driver.Count, error) {
	n, err := countScript.EvalSha(ctx, c.commands, append(c.keys.all(), c.keys.dead)).Int64Slice()
	if err == nil && len(n) != 3 {
		err = fmt.Errorf("the script told %d numbers, not 3", len(n))
	}
	if err != nil {
		return driver.Count{}, c.wrap("count", err)
	}
	return driver.Count{Waiting: n[0], Leased: n[1], Dead: n[2]}, nil
}

// Move implements driver.Upkeep.
func (c *conn) Move(ctx context.Context, d *driver.Delivery, to driver.Place) error {
	t, _ := d.Token.(token)
	stream, home := c.keys.stream, "0"
	if to == driver.Home {
		name, ok := strings.CutSuffix(c.keys.name, DeadSuffix)
		if !ok {
			return fmt.Errorf("redisqueue: %s is no queue of dead letters: its name does not end in %s: %w", c.keys.name, DeadSuffix, navvy.ErrInvalid)
		}
		k, err := keysOf(name)
		if err != nil {
			return err
		}
		stream, home = k.stream, "1"
	}
	return c.single(ctx, moveScript, "move", t, append(c.keys.all(), stream), home)
}
