package container

import (
	"context"
	"time"
)

// callsAtOnce is how many calls are on their way at once: to make Jobs, and beside these as
// many others. Each that finds no connection dials one of its own: without a bound thousands
// of tasks that start together would dial thousands, and keep the API server busy with
// handshakes; and their calls would time out while they wait for each other.
const callsAtOnce = 64

// callTimeout bounds a call that is no stream, once it is on its way.
const callTimeout = 30 * time.Second

// gate lets so many calls through at once as it has room for.
type gate chan struct{}

func newGate() gate { return make(gate, callsAtOnce) }

// call waits until a call may be made, and bounds it. done is to be called when it is over. The
// error is that of ctx.
func (g gate) call(ctx context.Context) (bounded context.Context, done func(), err error) {
	select {
	case g <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	bounded, cancel := context.WithTimeout(ctx, callTimeout)
	return bounded, func() { cancel(); <-g }, nil
}

// through makes a call that has an answer when there is room for it.
func through[T any](ctx context.Context, g gate, call func(context.Context) (T, error)) (T, error) {
	ctx, done, err := g.call(ctx)
	if err != nil {
		var none T
		return none, err
	}
	defer done()
	return call(ctx)
}
