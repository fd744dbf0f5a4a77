package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/internal/pause"
)

// instance is one life of a service: from when it is ready until it serves no more.
type instance interface {
	// gone is closed when it serves no more; why says then how that came.
	gone() <-chan struct{}
	why() error
	// unfit says why it must not be invoked just now although it lives; nil if it may be.
	// The channel is closed when the answer changes.
	unfit() (<-chan struct{}, error)
	// end ends it, kindly as long as ctx lasts, and waits until nothing of it is left.
	// It is called once, also after gone.
	end(ctx context.Context) error
}

// Pauses between the lives of a service that dies: none after one that lasted.
const (
	firstPause   = 100 * time.Millisecond
	longestPause = 30 * time.Second
	longLife     = 10 * time.Second
)

// keeper keeps one instance of a service up.
type keeper[I instance] struct {
	start func(ctx context.Context) (I, error) // comes back when it is ready
	opts  *Options
	log   *slog.Logger
	quit  context.CancelFunc
	over  chan struct{} // closed when run has returned
	err   error         // then: what did not end

	gate gate // of invocations

	mu      sync.Mutex
	now     I
	up      bool
	closed  bool
	cause   error         // why it is not up
	changed chan struct{} // closed when any of that changes

	kind context.Context // of Close: how long it is kind
}

// newKeeper starts the first instance, and keeps it up from then on.
func newKeeper[I instance](ctx context.Context, o *Options, start func(context.Context) (I, error)) (*keeper[I], error) {
	k := &keeper[I]{start: start, opts: o, log: o.Logger, over: make(chan struct{}), changed: make(chan struct{})}
	bounded, cancel := context.WithTimeout(ctx, o.StartTimeout)
	defer cancel()
	first, err := start(bounded)
	switch {
	case errors.Is(err, navvy.ErrInvalid), errors.Is(err, navvy.ErrUnsupported):
		return nil, err
	case err != nil:
		return nil, away(err)
	}
	k.now, k.up = first, true
	running, quit := context.WithCancel(context.WithoutCancel(ctx)) //nolint:gosec // Close calls it
	k.quit = quit
	go k.run(running)
	return k, nil
}

// set tells those who wait what there is now.
func (k *keeper[I]) set(now I, up bool, cause error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.now, k.up, k.cause = now, up, cause
	close(k.changed)
	k.changed = make(chan struct{})
}

// run replaces the instance when it is gone, until the end.
func (k *keeper[I]) run(ctx context.Context) {
	defer close(k.over)
	pauses := pause.Series{First: firstPause, Longest: longestPause}
	began := time.Now()
	for {
		now := k.now
		select {
		case <-ctx.Done():
			k.err = now.end(k.kind)
			return
		case <-now.gone():
		}
		k.log.Warn("the service is gone and is started again", "err", now.why())
		var none I
		k.set(none, false, now.why())
		if err := now.end(ctx); err != nil {
			k.log.Warn("something of the service is left", "err", err)
		}
		if time.Since(began) >= longLife {
			pauses.Reset()
		} else if pauses.Wait(ctx) != nil {
			return
		}
		if !k.again(ctx, &pauses) {
			return
		}
		began = time.Now()
	}
}

// again starts the next instance, however often that takes. It tells whether there is one.
func (k *keeper[I]) again(ctx context.Context, pauses *pause.Series) bool {
	for {
		bounded, cancel := context.WithTimeout(ctx, k.opts.StartTimeout)
		next, err := k.start(bounded)
		cancel()
		if err == nil {
			k.log.Info("the service is up again")
			k.set(next, true, nil)
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		k.log.Warn("the service does not come up", "err", err)
		var none I
		k.set(none, false, err)
		if pauses.Wait(ctx) != nil {
			return false
		}
	}
}

// look gives the instance, or why there is none to be invoked, with a channel that is
// closed when that may have changed.
func (k *keeper[I]) look() (now I, changed, other <-chan struct{}, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.closed:
		return now, nil, nil, errClosed
	case !k.up:
		return now, k.changed, nil, k.cause
	}
	select {
	case <-k.now.gone(): // and about to be replaced
		return k.now, k.changed, nil, k.now.why()
	default:
	}
	other, err = k.now.unfit()
	return k.now, k.changed, other, err
}

// get waits for an instance for so long; for 0 as long as it takes.
func (k *keeper[I]) get(ctx context.Context, patience time.Duration) (I, error) {
	var timeout <-chan time.Time
	for {
		now, changed, other, err := k.look()
		switch {
		case err == nil && ctx.Err() == nil, changed == nil:
			return now, err
		case timeout == nil && patience > 0:
			timer := time.NewTimer(patience)
			defer timer.Stop() // it is set once
			timeout = timer.C
		}
		select {
		case <-ctx.Done():
			return now, context.Cause(ctx)
		case <-timeout:
			return now, fmt.Errorf("the service is away: %w", away(err))
		case <-changed:
		case <-other:
		}
	}
}

// errGone says that an instance takes no more requests, and has not begun this one.
var errGone = fmt.Errorf("the service is being started again: %w", navvy.ErrUnavailable)

// aloneFor is how long a request that is tried alone waits for a service that is away: if it
// gave up it would come back among others.
const aloneFor = longestPause + 10*time.Second

// try does something with the instance. What fails because the service died with several
// requests at work is done once more, alone: one of them may be to blame, and the others
// are not.
func (k *keeper[I]) try(ctx context.Context, do func(I) error) error {
	err := k.turn(ctx, k.opts.Patience, false, do)
	failure, ok := errors.AsType[*Failure](err)
	if !ok || failure.crowd < 2 {
		return err
	}
	k.log.Warn("a request was beside others when the service died, and is tried once more, alone", "beside", failure.crowd-1)
	return k.turn(ctx, max(k.opts.Patience, aloneFor), true, do)
}

// turn does something with the instance, alone or not. With errGone it is done again with
// the next one, as long as there is patience.
func (k *keeper[I]) turn(ctx context.Context, patience time.Duration, alone bool, do func(I) error) error {
	if err := k.gate.enter(ctx, alone); err != nil {
		return err
	}
	defer k.gate.leave()
	for began := time.Now(); ; {
		now, err := k.get(ctx, patience)
		if err != nil {
			return err
		}
		err = do(now)
		switch {
		case err == nil:
			return nil
		case ctx.Err() == nil && k.isClosed():
			return errClosed
		case !errors.Is(err, errGone), time.Since(began) >= patience:
			return err
		}
	}
}

// Ready is that of a Service.
func (k *keeper[I]) Ready(ctx context.Context) error {
	_, err := k.get(ctx, 0)
	return err
}

// Close is that of a Service.
func (k *keeper[I]) Close(ctx context.Context) error {
	k.mu.Lock()
	if !k.closed {
		k.closed, k.kind = true, ctx
		close(k.changed)
		k.changed = make(chan struct{})
		k.quit()
	}
	k.mu.Unlock()
	<-k.over
	return k.err
}

// isClosed tells whether Close was called.
func (k *keeper[I]) isClosed() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.closed
}
