package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
)

// Lease is the right to work on a message. It is renewed by itself until it is settled by
// Ack, Nack or DeadLetter, once. Its methods may be called at once.
type Lease struct {
	q    *Queue
	d    *driver.Delivery
	conn *conn // that it was received over
	body []byte

	claim    *claim        // for a body that is elsewhere; nil if it is not
	broken   error         // why there is no body
	departed chan struct{} // closed when the body at the claim's place is removed, or will not be

	id, correlation string
	enqueued        time.Time

	mu      sync.Mutex
	settled bool
	over    context.Context //nolint:containedctx // of the lease: ends when it is lost or settled
	end     context.CancelCauseFunc
	renew   renewal
}

// lease makes leases of what was received.
func (q *Queue) lease(c *conn, ds []*driver.Delivery) []*Lease {
	leases := make([]*Lease, len(ds))
	for i, d := range ds {
		l := &Lease{q: q, d: d, conn: c, body: d.Body, id: d.ID, correlation: d.Correlation, enqueued: d.Enqueued}
		if q.envelope {
			l.unwrap()
		}
		parent := context.Background()
		if d.Lost != nil {
			parent = d.Lost
		}
		l.over, l.end = context.WithCancelCause(parent)
		leases[i] = l
	}
	if q.renewals != nil {
		q.renewals.add(leases)
	} else {
		q.watch(c, leases)
	}
	return leases
}

// watch ends leases with their connection.
func (q *Queue) watch(c *conn, leases []*Lease) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		c.held = map[*Lease]bool{}
	}
	for _, l := range leases {
		c.held[l] = true
	}
	select {
	case <-c.gone: // meanwhile
		c.loseAll(q.name)
	default:
	}
}

// loseAll ends the leases of a connection that is gone; mu must be held.
func (c *conn) loseAll(name string) {
	for l := range c.held {
		l.end(fmt.Errorf("queue %s: message %s: %w", name, l.id, errConnectionLost))
	}
	clear(c.held)
}

// ID is that of the sender where the broker keeps it, else the broker's. It is the same at
// each delivery.
func (l *Lease) ID() string { return l.id }

// Correlation is the ID of the request that this message answers; empty for none.
func (l *Lease) Correlation() string { return l.correlation }

// Reason is why the message is among the dead letters; empty where brokers do not tell.
func (l *Lease) Reason() string { return l.d.Reason }

// Body is what was sent, byte for byte. It is the receiver's own.
//
// A body that is too large for the broker is got from Options.Claims, anew with each call,
// and checked; while that place is away it is waited for, until ctx or the queue ends.
// Errors wrap navvy.ErrUnsupported if no place is given, or the body was put into another
// one, or the envelope is of a newer navvy; ErrNotFound if it is not there any more, as of a
// second copy of a message that was acknowledged; ErrCorrupt if it is not what was sent;
// ErrInvalid if the envelope or the claim makes no sense. The lease can be settled whatever the error.
func (l *Lease) Body(ctx context.Context) ([]byte, error) {
	body, err := l.body, l.broken
	if l.claim != nil && err == nil {
		body, err = l.q.fetch(ctx, l.claim)
	}
	if err != nil {
		return nil, fmt.Errorf("queue %s: the body of message %s: %w", l.q.name, l.id, err)
	}
	return body, nil
}

// Claim is the name of the body at Options.Claims; empty if the message carries its body.
// Two leases of one Claim are of one message.
func (l *Lease) Claim() string {
	if l.claim == nil {
		return ""
	}
	return l.claim.Name
}

// Attempt counts deliveries from 1; 0 where the broker does not count.
func (l *Lease) Attempt() int { return l.d.Attempt }

// Enqueued is when the message was sent; zero if nobody knows.
func (l *Lease) Enqueued() time.Time { return l.enqueued }

// Context is a child of parent that ends with the lease: if it is lost the cause wraps
// navvy.ErrLeaseLost, and whoever works on the message must stop. The function frees it.
func (l *Lease) Context(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	stop := context.AfterFunc(l.over, func() { cancel(context.Cause(l.over)) })
	return ctx, func() { stop(); cancel(nil) }
}

// Lost is why the lease is no longer there; nil while it is, and once it is settled.
func (l *Lease) Lost() error {
	if cause := context.Cause(l.over); errors.Is(cause, navvy.ErrLeaseLost) {
		return cause
	}
	return nil
}

// errConnectionLost ends leases that belong to a connection (Capabilities.Held).
var errConnectionLost = fmt.Errorf("the connection that it was received over is lost: %w", navvy.ErrLeaseLost)

// settledOver tells whether the lease can be settled over this connection; nil if it can.
func (l *Lease) settledOver(c *conn) error {
	if l.q.caps.Held && l.conn != c {
		return errConnectionLost
	}
	return nil
}

// errSettled is the cause of the end of what works on a message that is settled.
var errSettled = errors.New("the message is settled")

// settle lets one caller go on to settle, and takes the lease from those to be renewed.
func (l *Lease) settle(what string) error {
	l.mu.Lock()
	settled := l.settled
	l.settled = true
	l.mu.Unlock()
	if settled {
		return fmt.Errorf("queue %s: %s message %s: it is settled: %w", l.q.name, what, l.id, navvy.ErrConflict)
	}
	l.letGo()
	return l.Lost()
}

// letGo ends the renewals of the lease, also one that is on its way.
func (l *Lease) letGo() {
	if l.q.renewals != nil {
		l.q.renewals.remove(l)
		return
	}
	l.conn.mu.Lock()
	delete(l.conn.held, l)
	l.conn.mu.Unlock()
}

// Ack takes the message off the queue for good, and returns when the broker has been told;
// those of calls at once go together. A body at Options.Claims is removed then; one that
// cannot be removed within a few seconds stays there, which is no error. An error that wraps navvy.ErrLeaseLost says that
// somebody else may work on the message.
func (l *Lease) Ack(ctx context.Context) error {
	if err := l.settle("acknowledge"); err != nil {
		return err
	}
	err := l.q.acks.add(ctx, []*Lease{l})
	if err == nil && l.departed != nil && !l.q.caps.Held {
		select {
		case <-l.departed:
		case <-ctx.Done(): // it goes on
		}
	}
	l.end(errSettled)
	if err != nil {
		return fmt.Errorf("queue %s: acknowledge message %s: %w", l.q.name, l.id, err)
	}
	return nil
}

// ackBatch acknowledges leases, each until that goes well or never will.
func (q *Queue) ackBatch(leases []*Lease) []error {
	errs := insist(q.ctx, q.link, leases, func(c *conn, leases []*Lease) []error {
		return c.settleAll(q, leases)
	})
	for i, l := range leases {
		if l.claim != nil && l.broken == nil && q.opts.Claims != nil && (errs == nil || errs[i] == nil) {
			l.departed = make(chan struct{})
			q.departing.Go(func() { q.depart(l.conn, l) })
		}
	}
	return errs
}

// settleAll acknowledges leases over c, but for those that were lost with another connection.
func (c *conn) settleAll(q *Queue, leases []*Lease) []error {
	ds, at := make([]*driver.Delivery, 0, len(leases)), make([]int, 0, len(leases))
	var errs []error
	for i, l := range leases {
		if err := l.settledOver(c); err != nil {
			errs = spread(errs, len(leases), []int{i}, err)
			continue
		}
		ds, at = append(ds, l.d), append(at, i)
	}
	for i, err := range c.Ack(q.ctx, ds) {
		if err != nil {
			errs = spread(errs, len(leases), []int{at[i]}, err)
		}
	}
	return errs
}

// Nack gives the message back, to be delivered again after the delay, or at once for 0.
// Where the broker cannot wait this process holds the message meanwhile, and gives it back
// at once when the queue is closed, or by its death.
func (l *Lease) Nack(ctx context.Context, delay time.Duration) error {
	if delay > 0 && !l.q.caps.Delay {
		return l.hold(delay)
	}
	return l.single(ctx, "give back", func(c *conn) error { return c.Nack(ctx, l.d, delay) })
}

// DeadLetter moves the message to the dead letters of its queue, with a reason that people
// will read.
func (l *Lease) DeadLetter(ctx context.Context, reason string) error {
	return l.single(ctx, "move to the dead letters", func(c *conn) error { return c.DeadLetter(ctx, l.d, reason) })
}

// single settles the lease on its own.
func (l *Lease) single(ctx context.Context, what string, do func(*conn) error) error {
	if err := l.settle(what); err != nil {
		return err
	}
	defer l.end(errSettled)
	errs := insist(ctx, l.q.link, []*Lease{l}, func(c *conn, _ []*Lease) []error {
		if err := l.settledOver(c); err != nil {
			return []error{err}
		}
		return []error{do(c)}
	})
	if errs != nil {
		return fmt.Errorf("queue %s: %s message %s: %w", l.q.name, what, l.id, errs[0])
	}
	return nil
}
