package engine

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/navvy-run/navvy/internal/pause"
)

// Whoever waits for a container is the navvy that made it, or its successor. If nobody comes
// for so long, what has ended goes.
const (
	abandonedAfter = 7 * 24 * time.Hour
	sweepEvery     = time.Hour
	// firstSweepAgain is the first pause after a look that failed.
	firstSweepAgain = time.Minute
)

// sweep looks after what earlier navvys of this instance have left, until ctx ends.
func (d *Driver) sweep(ctx context.Context) {
	for again := (pause.Series{First: firstSweepAgain, Longest: sweepEvery}); ; {
		wait := sweepEvery
		if err := d.sweepOnce(ctx, time.Now()); err == nil {
			again.Reset()
		} else {
			wait = again.Next()
			if ctx.Err() == nil {
				d.log.Warn("what earlier runs have left on the engine was not looked after; it is tried again", "err", err, "after", wait)
			}
		}
		if pause.For(ctx, wait) != nil {
			return
		}
	}
}

// sweepOnce removes what ended long ago, or because it was asked to, and ends what has run for longer than it may, if no
// attempt of this process has it: whoever is given its task finds that it was too late.
func (d *Driver) sweepOnce(ctx context.Context, now time.Time) error {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	noted := d.marks.list()
	list, err := d.backend.list(call, d.opts.Instance)
	if err != nil {
		return err
	}
	d.left.know(list)
	for _, id := range noted {
		if !slices.ContainsFunc(list, func(s state) bool { return s.id == id }) {
			d.marks.clear(id)
		}
	}
	var errs []error
	for i := range list {
		if d.held.held(list[i].id) {
			continue
		}
		if err := d.sweepOne(ctx, list[i].id, now); err != nil && !errors.Is(err, errGone) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (d *Driver) sweepOne(ctx context.Context, id string, now time.Time) error {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	s, err := d.backend.inspect(call, id)
	if err != nil {
		return err
	}
	since, ending := d.ending(s)
	switch deadline := s.deadline(); {
	case ending && s.phase == phaseEnded: // of no use to anybody
		return d.discard(call, id)
	case ending && s.phase == phaseRunning:
		d.dismissed(id, s.grace()-now.Sub(since), &d.running)
	case s.phase == phaseEnded && now.Sub(s.finished) > abandonedAfter, s.phase == phaseCreated && now.Sub(s.created) > abandonedAfter:
		return d.discard(call, id)
	case s.phase == phaseRunning && !deadline.IsZero() && now.After(deadline):
		d.log.Warn("a container that an earlier run left has run for longer than it may, and is ended", "container", id)
		d.running.Go(func() { d.end(ctx, s) })
	}
	return nil
}

// end asks a container to end, and ends it after its grace.
func (d *Driver) end(ctx context.Context, s *state) {
	if err := d.backend.ask(ctx, s.id); err != nil {
		d.log.Warn("a container does not end", "container", s.id, "err", err)
	}
	if pause.For(ctx, s.grace()) != nil || d.held.held(s.id) {
		return
	}
	if err := d.backend.kill(ctx, s.id); err != nil {
		d.log.Warn("a container does not end", "container", s.id, "err", err)
	}
}
