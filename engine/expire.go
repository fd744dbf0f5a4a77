package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// maxExpired is how many jobs one Expire removes: others wait for its caller.
const maxExpired = 64

// Expire removes jobs whose time has come, and those that have to make room
// (Options.KeepSize). It returns when to ask again, and how many it removed.
func (e *Engine) Expire(ctx context.Context) (next time.Time, removed int, err error) {
	if removed, err = e.shrink(ctx); err != nil {
		return time.Time{}, removed, err
	}
	var passed []byte
	for begun := removed; ; {
		if removed-begun >= maxExpired {
			return e.opts.Clock().Add(time.Millisecond), removed, nil
		}
		id, at, err := e.nextExpiry(ctx, passed)
		if err != nil {
			return time.Time{}, removed, err
		}
		// What ends from now on expires no earlier than this.
		now := e.opts.Clock()
		again := now.Add(min(e.opts.KeepRead, e.opts.KeepUnread))
		if id == "" || at.After(again) {
			return again, removed, nil
		}
		if at.After(now) {
			return at, removed, nil
		}
		e.opts.Logger.Info("remove an expired job", "job", id, "expired", at)
		switch err := e.removeIf(ctx, id, func(s *State) bool { return !s.Expires.After(now) }); {
		case err == nil:
			removed++
		case errors.Is(err, navvy.ErrCorrupt):
			e.passOver(id, err)
			passed = timeKey(tableExpiry, at, id)
		case !overtaken(err):
			return time.Time{}, removed, err
		}
	}
}

// overtaken tells whether a removal failed because somebody has removed the
// job, or retried it, meanwhile.
func overtaken(err error) bool {
	return errors.Is(err, navvy.ErrNotFound) || errors.Is(err, navvy.ErrConflict)
}

// passOver says that a job stays as it is, since its data are damaged: somebody
// must look at it, and others go on.
func (e *Engine) passOver(id navvy.JobID, err error) {
	e.opts.Logger.Error("a job is passed over: its data are damaged", "job", id, "error", err)
}

// nextExpiry is the job that expires first, of those behind the given key; nil: of all.
func (e *Engine) nextExpiry(ctx context.Context, behind []byte) (id navvy.JobID, at time.Time, err error) {
	r := driver.Prefix([]byte{tableExpiry})
	r.Limit = 1
	if behind != nil {
		r.Start = append(behind, 0)
	}
	err = e.store.Scan(ctx, r, func(key, _ []byte) error {
		id = keyJob(key)
		at = time.Unix(0, int64(binary.BigEndian.Uint64(key[1:])))
		return nil
	})
	return id, at, err
}
