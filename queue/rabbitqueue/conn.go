package rabbitqueue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
)

// conn is what package queue calls a connection: one of AMQP for each direction, since a
// broker that is out of memory or disk stops reading from those who publish, and their
// acknowledgements would wait, too. Each is made when it is needed; the first to be needed
// is the one that was made to find the queue. If one is lost both are given up.
type conn struct {
	address *address
	opts    driver.Options
	kind    string

	ctx  context.Context //nolint:containedctx // of the connection: ends when it is lost or closed
	end  context.CancelCauseFunc
	work sync.WaitGroup

	wires  chan struct{}          // holds one while somebody looks at what follows
	first  *wire                  // not yet used; nil once it is
	out    *wire                  // for publishing
	all    []*wire                // those that are to be closed
	turn   chan struct{}          // holds one while somebody publishes
	sender atomic.Pointer[sender] // a channel of out; nil while there is none

	inbox *inbox
}

func newConn(a *address, o driver.Options, w *wire, kind string) *conn {
	c := &conn{address: a, opts: o, kind: kind, first: w, wires: make(chan struct{}, 1), turn: make(chan struct{}, 1)}
	c.ctx, c.end = context.WithCancelCause(context.Background())
	c.inbox = newInbox(c)
	c.own(w)
	return c
}

// own has the conn end with a wire.
func (c *conn) own(w *wire) {
	c.all = append(c.all, w)
	c.work.Go(func() {
		<-w.gone.Done()
		c.end(w.lost())
	})
}

// wire gives the connection that to points to, and makes it if it is needed for the first time.
func (c *conn) wire(ctx context.Context, to **wire) (*wire, error) {
	select {
	case c.wires <- struct{}{}:
		defer func() { <-c.wires }()
	case <-c.ctx.Done():
		return nil, c.lost()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if c.ctx.Err() != nil {
		return nil, c.lost()
	}
	switch {
	case *to != nil:
	case c.first != nil:
		*to, c.first = c.first, nil
	default:
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		defer context.AfterFunc(c.ctx, func() { cancel(c.lost()) })()
		w, err := dial(ctx, c.address)
		if err != nil {
			return nil, fmt.Errorf("rabbitqueue: %s: %w", c.address.addr, err)
		}
		*to = w
		c.own(w)
	}
	return *to, nil
}

// lost is why the conn ended; nil while it has not.
func (c *conn) lost() error { return context.Cause(c.ctx) }

// errClosed is what ends with Close.
var errClosed = fmt.Errorf("rabbitqueue: the connection is closed: %w", navvy.ErrUnavailable)

// Close implements driver.Queue. An error says that acknowledgements may be lost: of the
// connection that messages are published over nothing is left to be known.
func (c *conn) Close() error {
	if wait := c.inbox.untaken(); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.ctx.Done(): // it is lost
		}
	}
	c.inbox.close()
	c.wires <- struct{}{} // who dials has been told to stop
	var all sync.WaitGroup
	var err error
	for _, w := range c.all {
		all.Go(func() {
			if ended := w.close(); w == c.inbox.in {
				err = ended
			}
		})
	}
	all.Wait()
	<-c.wires
	c.work.Wait()
	if lost := c.lost(); !errors.Is(lost, errClosed) {
		return lost
	}
	return err
}

// fault wraps what went wrong on a channel of a wire.
func (c *conn) fault(what string, err error) error {
	if c.ctx.Err() != nil {
		return c.lost()
	}
	if errors.Is(err, navvy.ErrLeaseLost) {
		return err
	}
	return fmt.Errorf("rabbitqueue: queue %s: %s: %w", c.address.queue, what, classify(err))
}
