package container

import (
	"context"
	"time"
)

// settleAtOnce is how many calls are under way, lastSettling how long Close waits for them:
// a Job that is not told goes a week later.
const (
	settleAtOnce = 8
	lastSettling = 5 * time.Second
)

// Settled implements driver.Settler: the Job is given its time to live.
func (d *Driver) Settled(token string) { d.settling.Add(token) }

func (d *Driver) settle(ctx context.Context, token string) error {
	err := d.Settle(ctx, token)
	if err != nil {
		d.log.Warn("a Job is not told that it may go; it is tried again", "attempt", token, "err", err)
	}
	return err
}
