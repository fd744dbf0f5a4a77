package queue_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/memqueue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// faults are what goes wrong with a broker in memory.
type faults struct {
	memqueue.Broker

	held    bool                             // leases are of a connection
	noDelay bool                             // it cannot wait
	small   int                              // how long bodies may be; 0 for as long as memory's
	sent    func([]*driver.Message) []error  // what it says when it has sent
	acked   func()                           // before it acknowledges
	send    func([]*driver.Message) []error  // before it sends
	renew   func([]*driver.Delivery) []error // instead of it; nil to do it
	closed  error                            // what it says when it is closed
	dials   atomic.Int32
	renewed atomic.Int32
}

func (f *faults) driver(u *url.URL, o *driver.Options) (driver.Dial, error) {
	dial, err := f.Driver(u, o)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (driver.Queue, error) {
		f.dials.Add(1)
		q, err := dial(ctx)
		return &faulty{q, f}, err
	}, nil
}

type faulty struct {
	driver.Queue
	*faults
}

func (q *faulty) Capabilities() driver.Capabilities {
	c := q.Queue.Capabilities()
	c.Held, c.Delay = q.held, !q.noDelay
	if q.small > 0 {
		c.MaxBody = q.small
	}
	return c
}

func (q *faulty) Send(ctx context.Context, ms []*driver.Message) []error {
	if q.send != nil {
		if errs := q.send(ms); errs != nil {
			return errs
		}
	}
	errs := q.Queue.Send(ctx, ms)
	if q.sent != nil && errs == nil {
		return q.sent(ms)
	}
	return errs
}

func (q *faulty) Ack(ctx context.Context, ds []*driver.Delivery) []error {
	if q.acked != nil {
		q.acked()
	}
	return q.Queue.Ack(ctx, ds)
}

func (q *faulty) Close() error { return errors.Join(q.Queue.Close(), q.closed) }

func (q *faulty) Renew(ctx context.Context, ds []*driver.Delivery) []error {
	q.renewed.Add(1)
	if q.renew != nil {
		if errs := q.renew(ds); errs != nil {
			return errs
		}
	}
	return q.Queue.Renew(ctx, ds)
}

var (
	errAway      = fmt.Errorf("the line is cut: %w", navvy.ErrUnavailable)
	errThrottled = fmt.Errorf("too fast: %w", navvy.ErrExhausted)
)

// inBubble runs a test with a queue on a broker with faults, and a clock that jumps.
func inBubble(t *testing.T, f *faults, o *queue.Options, test func(*testing.T, *queue.Queue)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, err := queue.Open(t.Context(), "mem://q", map[string]driver.Driver{"mem": f.driver}, o)
		if err != nil {
			t.Fatal(err)
		}
		test(t, q)
		if err := q.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

func one(t *testing.T, q *queue.Queue) *queue.Lease {
	t.Helper()
	leases, err := q.Receive(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	return leases[0]
}
