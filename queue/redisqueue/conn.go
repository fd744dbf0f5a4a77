package redisqueue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
)

// conn is a connection to one queue: some sockets, in two pools, and a consumer.
type conn struct {
	keys     keys
	lease    time.Duration
	consumer string

	commands *redis.Client
	waits    *redis.Client // those that are blocked

	ctx    context.Context //nolint:containedctx // of the connection
	cancel context.CancelCauseFunc

	mu      sync.Mutex
	closed  bool
	seen    sight
	waiters []*waiter      // those that nobody uses now
	busy    sync.WaitGroup // who receives
}

// Capabilities implements driver.Queue.
func (c *conn) Capabilities() driver.Capabilities {
	return driver.Capabilities{
		Correlation: true, Reason: true, Attempts: true, Delay: true, Binary: true, Detects: true,
		Peek: maxPeek, Waiting: true, MaxBody: maxBody, MaxBatch: maxBatch,
	}
}

// Send implements driver.Queue.
func (c *conn) Send(ctx context.Context, ms []*driver.Message) []error {
	var errs []error
	fail := func(i int, err error) {
		if errs == nil {
			errs = make([]error, len(ms))
		}
		errs[i] = err
	}
	pipe := c.commands.Pipeline()
	sent := make([]*redis.StringCmd, len(ms))
	for i, m := range ms {
		if len(m.Body) > maxBody {
			fail(i, fmt.Errorf("redisqueue: %s: a body of %d bytes, and the most is %d: %w", c.keys.name, len(m.Body), maxBody, navvy.ErrInvalid))
			continue
		}
		sent[i] = pipe.XAdd(ctx, &redis.XAddArgs{Stream: c.keys.stream, Values: fields(m)})
	}
	_, _ = pipe.Exec(ctx) // each command has its error
	for i, cmd := range sent {
		if cmd != nil && cmd.Err() != nil {
			fail(i, c.wrap("send", cmd.Err()))
		}
	}
	return errs
}

// Ack implements driver.Queue.
func (c *conn) Ack(ctx context.Context, ds []*driver.Delivery) []error {
	args := make([]any, 0, 2*len(ds))
	return c.settle(ctx, ackScript, "acknowledge", args, ds, func(*driver.Delivery) {})
}

// Renew implements driver.Queue.
func (c *conn) Renew(ctx context.Context, ds []*driver.Delivery) []error {
	args := make([]any, 0, 1+2*len(ds))
	args = append(args, c.lease.Milliseconds())
	until := time.Now().Add(c.lease)
	return c.settle(ctx, renewScript, "renew", args, ds, func(d *driver.Delivery) { d.Until = until })
}

// settle runs a script on deliveries, which tells of each whether it still was ours.
func (c *conn) settle(ctx context.Context, s *redis.Script, what string, args []any, ds []*driver.Delivery, good func(*driver.Delivery)) []error {
	if len(ds) == 0 {
		return nil
	}
	for _, d := range ds {
		t, _ := d.Token.(token)
		args = append(args, t.entry, t.count)
	}
	told, err := s.EvalSha(ctx, c.commands, c.keys.all(), args...).Int64Slice()
	if err == nil && len(told) != len(ds) {
		err = fmt.Errorf("the script told of %d entries, not of %d", len(told), len(ds))
	}
	if err != nil {
		return driver.Each(len(ds), c.wrap(what, err))
	}
	var errs []error
	for i, d := range ds {
		if told[i] == 1 {
			good(d)
			continue
		}
		if errs == nil {
			errs = make([]error, len(ds))
		}
		t, _ := d.Token.(token)
		errs[i] = c.lost(t)
	}
	return errs
}

// Nack implements driver.Queue.
func (c *conn) Nack(ctx context.Context, d *driver.Delivery, delay time.Duration) error {
	t, _ := d.Token.(token)
	return c.single(ctx, nackScript, "give back", t, c.keys.all(), delay.Milliseconds())
}

// DeadLetter implements driver.Queue.
func (c *conn) DeadLetter(ctx context.Context, d *driver.Delivery, reason string) error {
	t, _ := d.Token.(token)
	return c.single(ctx, deadScript, "move to the dead letters", t, append(c.keys.all(), c.keys.dead), reason)
}

func (c *conn) single(ctx context.Context, s *redis.Script, what string, t token, keys []string, arg any) error {
	mine, err := s.EvalSha(ctx, c.commands, keys, arg, t.entry, t.count).Bool()
	if err != nil {
		return c.wrap(what, err)
	}
	if !mine {
		return c.lost(t)
	}
	return nil
}

// Close implements driver.Queue. Leases last until their time is over; the consumer is
// removed if it has none, and else by whoever receives once it has none.
func (c *conn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel(errGone)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	idle := make(chan struct{})
	go func() {
		c.busy.Wait()
		close(idle)
	}()
	select {
	case <-idle:
		_ = leaveScript.EvalSha(ctx, c.commands, c.keys.all(), c.consumer).Err() // else others remove it
	case <-ctx.Done(): // the broker does not answer
	}
	err := c.closeClients()
	<-idle
	return err
}

func (c *conn) closeClients() error {
	c.mu.Lock()
	waiters := c.waiters
	c.waiters = nil
	c.mu.Unlock()
	for _, w := range waiters {
		_ = w.conn.Close() // which gives it back to its pool
	}
	if err := errors.Join(c.waits.Close(), c.commands.Close()); err != nil {
		return fmt.Errorf("redisqueue: %s: close: %w", c.keys.name, err)
	}
	return nil
}
