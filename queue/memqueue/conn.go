package memqueue

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
)

// conn is a connection to one queue.
type conn struct {
	broker *Broker
	line   *line
	name   string
	lease  time.Duration

	once sync.Once
	gone chan struct{} // closed when the connection is
}

func (c *conn) cut() { c.once.Do(func() { close(c.gone) }) }

// open tells whether the connection is.
func (c *conn) open() error {
	select {
	case <-c.gone:
		return fmt.Errorf("memqueue: %s: the connection is gone: %w", c.name, navvy.ErrUnavailable)
	default:
		return nil
	}
}

// Capabilities implements driver.Queue.
func (c *conn) Capabilities() driver.Capabilities {
	return driver.Capabilities{
		Correlation: true, Reason: true, Attempts: true, Delay: true, Binary: true, Detects: true,
		Peek: maxPeek, Waiting: true, MaxBody: maxBody, MaxBatch: maxBatch,
	}
}

// Send implements driver.Queue.
func (c *conn) Send(_ context.Context, ms []*driver.Message) []error {
	if err := c.open(); err != nil {
		return driver.Each(len(ms), err)
	}
	c.line.mu.Lock()
	defer c.line.mu.Unlock()
	var errs []error
	for i, m := range ms {
		if len(m.Body) > maxBody {
			if errs == nil {
				errs = make([]error, len(ms))
			}
			errs[i] = fmt.Errorf("memqueue: a body of %d bytes, and the most is %d: %w", len(m.Body), maxBody, navvy.ErrInvalid)
			continue
		}
		c.line.put(m, "", 0, time.Now())
	}
	return errs
}

// Receive implements driver.Queue.
func (c *conn) Receive(ctx context.Context, most int) ([]*driver.Delivery, error) {
	for {
		if err := c.open(); err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, nil
		}
		ds, next, changed := c.line.take(most, c.lease)
		if len(ds) > 0 {
			return ds, nil
		}
		c.wait(ctx, next, changed)
	}
}

// wait waits until there may be something to receive.
func (c *conn) wait(ctx context.Context, next time.Time, changed <-chan struct{}) {
	var due <-chan time.Time
	if !next.IsZero() {
		timer := time.NewTimer(time.Until(next))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
	case <-c.gone:
	case <-changed:
	case <-due:
	}
}

// each does something with each of several deliveries.
func (c *conn) each(ds []*driver.Delivery, do func(*driver.Delivery) error) []error {
	if err := c.open(); err != nil {
		return driver.Each(len(ds), err)
	}
	errs, failed := make([]error, len(ds)), false
	for i, d := range ds {
		errs[i] = do(d)
		failed = failed || errs[i] != nil
	}
	if !failed {
		return nil
	}
	return errs
}

// Ack implements driver.Queue.
func (c *conn) Ack(_ context.Context, ds []*driver.Delivery) []error {
	return c.each(ds, c.line.ack)
}

// Renew implements driver.Queue.
func (c *conn) Renew(_ context.Context, ds []*driver.Delivery) []error {
	return c.each(ds, func(d *driver.Delivery) error { return c.line.renew(d, c.lease) })
}

// Nack implements driver.Queue.
func (c *conn) Nack(_ context.Context, d *driver.Delivery, delay time.Duration) error {
	if err := c.open(); err != nil {
		return err
	}
	return c.line.nack(d, delay)
}

// DeadLetter implements driver.Queue. Dead letters of QUEUE are in QUEUE.dead.
func (c *conn) DeadLetter(_ context.Context, d *driver.Delivery, reason string) error {
	if err := c.open(); err != nil {
		return err
	}
	c.broker.mu.Lock()
	if c.broker.lines[c.name+DeadSuffix] == nil {
		c.broker.make(c.name + DeadSuffix)
	}
	dead := c.broker.lines[c.name+DeadSuffix]
	c.broker.mu.Unlock()
	if err := c.line.ack(d); err != nil {
		return err
	}
	dead.mu.Lock()
	defer dead.mu.Unlock()
	dead.put(&driver.Message{ID: d.ID, Correlation: d.Correlation, Body: d.Body}, reason, d.Attempt, d.Enqueued)
	return nil
}

// Close implements driver.Queue.
func (c *conn) Close() error {
	c.broker.mu.Lock()
	delete(c.broker.conns, c)
	c.broker.mu.Unlock()
	c.cut()
	return nil
}
