package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// Expire removes all jobs whose time has come. It returns when the next one is
// due, zero if none is, and how many it removed.
func (e *Engine) Expire(ctx context.Context) (next time.Time, removed int, err error) {
	for {
		id, at, err := e.nextExpiry(ctx)
		if err != nil || id == "" {
			return time.Time{}, removed, err
		}
		if at.After(e.opts.Clock()) {
			return at, removed, nil
		}
		e.opts.Logger.Info("remove an expired job", "job", id, "expired", at)
		if err := e.Remove(ctx, id); err != nil && !errors.Is(err, navvy.ErrNotFound) {
			return time.Time{}, removed, err
		}
		removed++
	}
}

func (e *Engine) nextExpiry(ctx context.Context) (id navvy.JobID, at time.Time, err error) {
	r := driver.Prefix([]byte{tableExpiry})
	r.Limit = 1
	err = e.store.Scan(ctx, r, func(key, _ []byte) error {
		id = keyJob(key)
		at = time.Unix(0, int64(binary.BigEndian.Uint64(key[1:])))
		return nil
	})
	return id, at, err
}
