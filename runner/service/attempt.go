package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/internal/pause"
	"github.com/navvy-run/navvy/runner/driver"
)

// attempt is one invocation for a task.
type attempt struct {
	task    driver.Task
	request Request
	ctx     context.Context // until it is cancelled
	cancel  context.CancelCauseFunc
	hurry   sync.Once
	force   chan struct{} // closed when it is to end at once

	done chan struct{} // closed when it is over
	end  driver.End    // then
	err  error         // then
}

// errStopped is why an attempt is cancelled.
var errStopped = errors.New("service: the attempt was stopped")

// Handle implements driver.Execution: services are found by their driver's name.
func (a *attempt) Handle() []byte { return nil }

// Wait implements driver.Execution.
func (a *attempt) Wait(ctx context.Context) (driver.End, error) {
	select {
	case <-a.done:
		return a.end, a.err
	case <-ctx.Done():
		return driver.End{}, ctx.Err()
	}
}

// Stop implements driver.Execution: the service is told that nobody wants the answer. With
// force a program that runs for this request alone is killed; one that serves others too
// has its grace.
func (a *attempt) Stop(_ context.Context, force bool) error {
	a.cancel(errStopped)
	if force {
		a.hurry.Do(func() { close(a.force) })
	}
	return nil
}

// run invokes the service and notes how that ended.
func (a *attempt) run(d *Driver) {
	defer close(a.done)
	defer a.cancel(nil)
	ctx := a.ctx
	if timeout := a.task.Spec.Timeout; timeout > 0 {
		// The runner has the same timeout; the service is told of it beforehand.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	answer, err := d.invoke(ctx, a)
	if err == nil {
		if a.task.Stdout != nil && len(answer) > 0 {
			_, _ = a.task.Stdout.Write(answer) // whoever gives it up knows
		}
		return
	}
	a.end.Refusal, a.err = a.verdict(ctx, err)
}

// verdict tells what an error means: a refusal if the attempt has failed, an error else.
func (a *attempt) verdict(ctx context.Context, err error) (*driver.Refusal, error) {
	failure, failed := errors.AsType[*Failure](err)
	refusal, refused := errors.AsType[*driver.Refusal](err)
	switch {
	case failed && failure.Final:
		return &driver.Refusal{Reason: navvy.ReasonRefused, Message: navvy.Shorten(failure.Message)}, nil
	case failed:
		return &driver.Refusal{Reason: navvy.ReasonService, Message: navvy.Shorten(failure.Message)}, nil
	case a.ctx.Err() != nil:
		return &driver.Refusal{Reason: navvy.ReasonStopped, Message: "stopped"}, nil
	case ctx.Err() != nil:
		return &driver.Refusal{Reason: navvy.ReasonTimeout, Message: fmt.Sprintf("ran longer than %s", a.task.Spec.Timeout)}, nil
	case refused:
		return refusal, nil
	}
	return nil, err
}

// invoke finds the service of an attempt, or opens it, and has it answer.
func (d *Driver) invoke(ctx context.Context, a *attempt) ([]byte, error) {
	key := d.keyOf(&a.task)
	for {
		i, err := d.pool.take(ctx, key, a.task.Owner, func(ctx context.Context) (Service, error) { return d.open(ctx, &a.task) })
		if err != nil {
			return nil, err
		}
		answer, err := d.ask(ctx, i.service, &a.request)
		d.pool.give(i)
		if !errors.Is(err, errClosed) {
			return answer, err
		}
	}
}

// Pauses between tries of a service that says itself that it is away.
const (
	firstAway   = 100 * time.Millisecond
	longestAway = 5 * time.Second
)

// ask has an instance answer, and waits a while for one that is away.
func (d *Driver) ask(ctx context.Context, s Service, r *Request) ([]byte, error) {
	answer, err := s.Invoke(ctx, r)
	if !errors.Is(err, navvy.ErrUnavailable) {
		return answer, err
	}
	pauses := pause.Series{First: firstAway, Longest: longestAway}
	waiting, cancel := context.WithTimeout(ctx, d.opts.Patience)
	defer cancel()
	for errors.Is(err, navvy.ErrUnavailable) {
		why := pauses.Wait(waiting)
		if why == nil {
			why = s.Ready(waiting)
		}
		switch {
		case why == nil:
			answer, err = s.Invoke(ctx, r)
		case errors.Is(why, errClosed):
			return nil, why
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		default:
			return nil, &driver.Away{Message: navvy.Shorten(err.Error())}
		}
	}
	return answer, err
}
