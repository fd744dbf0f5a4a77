package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/internal/pause"
	"github.com/navvy-run/navvy/runner/driver"
)

// Wait implements driver.Execution. Who waits has the container, unless another attempt does.
func (a *attempt) Wait(ctx context.Context) (driver.End, error) {
	_ = a.driver.held.claim(a.id, a.task.Token) // if another has it, that is told when it ends or is stopped
	changed, stop := a.driver.watch.follow(a.id)
	defer stop()
	w := &waiter{attempt: a, log: a.copyLog(ctx), again: pauses(), end: a.deadline}
	defer w.log.stop()
	for {
		s, over := w.look(ctx)
		if over {
			return w.conclude(ctx, s)
		}
		var timer <-chan time.Time
		if at := w.next(); !at.IsZero() {
			timer = time.After(time.Until(at))
		}
		select {
		case <-changed:
		case <-timer:
		case <-a.left:
			return driver.End{Refusal: refusal(navvy.ReasonStopped, "another attempt has its container")}, nil
		case <-ctx.Done():
			return driver.End{}, ctx.Err()
		case <-a.driver.ctx.Done():
			return driver.End{}, fmt.Errorf("engine: closed: %w", navvy.ErrUnavailable)
		}
	}
}

// waiter waits for the end of an attempt.
type waiter struct {
	*attempt
	log *logCopy

	again pause.Series
	retry time.Time // when to look again at an engine that did not answer; zero if it did
	end   time.Time // when to end the container; zero for never
}

// next is when something is to be done though nothing was told; zero for never.
func (w *waiter) next() time.Time {
	if w.retry.IsZero() || !w.end.IsZero() && w.end.Before(w.retry) {
		return w.end
	}
	return w.retry
}

// look looks at the container. It is nil, and over, if it is gone.
func (w *waiter) look(ctx context.Context) (s *state, over bool) {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	s, err := w.driver.backend.inspect(call, w.id)
	switch {
	case errors.Is(err, errGone):
		return nil, true
	case err != nil:
		if w.retry.IsZero() && ctx.Err() == nil {
			w.driver.log.Warn("the engine does not tell how a container is; it is asked again", "container", w.id, "err", err)
		}
		w.retry = time.Now().Add(w.again.Next())
		return nil, false
	case s.phase == phaseEnded:
		return s, true
	case s.phase == phaseGoing: // somebody removes it, and the end of that is told
		return s, false
	}
	w.again.Reset()
	w.retry = time.Time{}
	if !w.end.IsZero() && !time.Now().Before(w.end) {
		after, err := w.overdue(call)
		if err != nil {
			w.driver.log.Warn("a container that ran for too long does not end; it is tried again", "container", w.id, "err", err)
		}
		w.end = time.Time{}
		if after > 0 {
			w.end = time.Now().Add(after)
		}
	}
	return s, false
}

// conclude ends an attempt once its log is there.
func (w *waiter) conclude(ctx context.Context, s *state) (driver.End, error) {
	stopped, forced, late := w.stops()
	err := w.log.rest(ctx, s != nil && !stopped)
	switch {
	case ctx.Err() != nil:
		return driver.End{}, ctx.Err()
	case err != nil && !errors.Is(err, errGone):
		return driver.End{}, errors.Join(fmt.Errorf("engine: the log of container %s: %w", w.id, err), w.discard(ctx))
	case err != nil:
		s = nil // it went while its log was read
	}
	if s != nil && !stopped && w.driver.lost(s) {
		lost := fmt.Errorf("engine: it is not known how container %s ended: the machine, or its engine, was started anew: %w", w.id, navvy.ErrUnavailable)
		return driver.End{}, errors.Join(lost, w.discard(ctx))
	}
	if stopped {
		if err := w.discard(ctx); err != nil {
			w.driver.log.Warn("a container stays", "container", w.id, "err", err)
		}
	}
	return w.verdict(s, stopped, forced, late), nil
}

// verdict is how an attempt ended whose container ended so; nil for one that is gone.
func (w *waiter) verdict(s *state, stopped, forced, late bool) driver.End {
	switch {
	case s == nil && stopped:
		return driver.End{Refusal: refusal(navvy.ReasonStopped, "stopped")}
	case s == nil, s.undone && exited(s).Exit.Signal != 0:
		return driver.End{Refusal: refusal(navvy.ReasonDeleted, "somebody else removed its container %s", w.id)}
	case late || !w.deadline.IsZero() && s.late():
		return driver.End{Refusal: refusal(navvy.ReasonTimeout, "ran longer than %s", s.labels[labelTimeout])}
	}
	end := exited(s)
	if forced && end.Exit == (navvy.Exit{}) {
		return driver.End{Refusal: refusal(navvy.ReasonStopped, "stopped")}
	}
	return end
}

// discard removes a container of which nobody wants to know any more, unless another attempt
// has it.
func (w *waiter) discard(ctx context.Context) error {
	id := w.driver.held.drop(w.task.Token)
	if id == "" {
		return nil
	}
	return w.driver.discard(ctx, id)
}
