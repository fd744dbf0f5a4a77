package engine

import (
	"context"
	"time"
)

// settleAtOnce is how many calls are under way, lastSettling how long Close waits for them: a
// container that stays goes a week later.
const (
	settleAtOnce = 4
	lastSettling = 5 * time.Second
)

// Settled implements driver.Settler: the container is removed.
func (d *Driver) Settled(token string) {
	if id := d.held.drop(token); id != "" {
		d.settling.Add(id)
	}
}

func (d *Driver) settle(ctx context.Context, id string) error {
	err := d.discard(ctx, id)
	if err != nil {
		d.log.Warn("a container is not removed; it is tried again", "container", id, "err", err)
	}
	return err
}
