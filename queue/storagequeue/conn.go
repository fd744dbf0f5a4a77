package storagequeue

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azqueue/v2"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
)

// conn is a client of one queue.
type conn struct {
	*settings
	client, dead *azqueue.QueueClient // dead is nil where there are no dead letters
	transport    *http.Transport
	idle         chan struct{} // held by the one who asks an empty queue again and again

	life  context.Context //nolint:containedctx // of the connection: ends with Close
	cut   context.CancelCauseFunc
	calls sync.RWMutex // read by each call, written by Close
}

// token is what a lease is known by.
type token struct {
	text    string // as it came: to lend a message for longer is to write it again
	receipt string
	deleted bool // a call to delete it was sent, and perhaps heard
	copied  bool // it is where it is moved to
}

var errClosed = fmt.Errorf("storagequeue: the connection is closed: %w", navvy.ErrUnavailable)

// enter begins a call, whose context ends with the connection.
func (c *conn) enter(ctx context.Context) (context.Context, func(), error) {
	c.calls.RLock()
	if c.life.Err() != nil {
		c.calls.RUnlock()
		return nil, nil, errClosed
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.life, func() { cancel(errClosed) })
	return ctx, func() {
		stop()
		cancel(nil)
		c.calls.RUnlock()
	}, nil
}

// Capabilities implements driver.Queue.
func (c *conn) Capabilities() driver.Capabilities {
	can := driver.Capabilities{Attempts: true, Delay: true, Detects: true, Peek: maxReceive, MaxBody: maxText, MaxBatch: maxBatch}
	if c.base64 {
		can.Binary, can.MaxBody = true, maxText/4*3
	}
	return can
}

// each does something for each of n, several at once. Those that have not begun when the
// service cannot be reached are not tried.
func (c *conn) each(ctx context.Context, n int, do func(context.Context, int) error) []error {
	ctx, leave, err := c.enter(ctx)
	if err != nil {
		return driver.Each(n, err)
	}
	defer leave()
	errs := make([]error, n)
	var next atomic.Int64
	var lost atomic.Pointer[error]
	var failed atomic.Bool
	work := func() {
		for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
			if why := lost.Load(); why != nil {
				errs[i] = *why
				continue
			}
			if errs[i] = do(ctx, i); errs[i] == nil {
				continue
			}
			failed.Store(true)
			if errors.Is(errs[i], navvy.ErrUnavailable) {
				lost.Store(&errs[i])
			}
		}
	}
	var all sync.WaitGroup
	for range min(n, parallel) - 1 {
		all.Go(work)
	}
	work()
	all.Wait()
	if !failed.Load() {
		return nil
	}
	return errs
}

// Send implements driver.Queue. The messages are for whoever asks, at once and for ever.
func (c *conn) Send(ctx context.Context, ms []*driver.Message) []error {
	forever, now := int32(-1), int32(0)
	o := &azqueue.EnqueueMessageOptions{TimeToLive: &forever, VisibilityTimeout: &now}
	return c.each(ctx, len(ms), func(ctx context.Context, i int) error {
		text := c.encode(ms[i].Body)
		if len(text) > maxText {
			return fmt.Errorf("storagequeue: %s: a message of %d bytes, and the most is %d: %w", c.name, len(text), maxText, navvy.ErrInvalid)
		}
		_, err := c.client.EnqueueMessage(ctx, text, o)
		return c.failed(ctx, "send", err)
	})
}

// Receive implements driver.Queue. Of those who wait one asks the empty queue, so that many
// who wait ask no more often.
func (c *conn) Receive(ctx context.Context, most int) ([]*driver.Delivery, error) {
	ds, err := c.ask(ctx, most)
	if len(ds) > 0 || err != nil {
		return ds, err
	}
	now, ok := c.turn(ctx)
	if !ok {
		return nil, c.over()
	}
	defer func() { <-c.idle }()
	tick := time.NewTicker(c.interval)
	defer tick.Stop()
	for {
		if !now && !c.pause(ctx, tick.C) {
			return nil, c.over()
		}
		now = false
		if ds, err := c.ask(ctx, most); len(ds) > 0 || err != nil {
			return ds, err
		}
	}
}

// turn waits until no one else asks again and again. Who has waited asks at once: the one
// before has got something, and there may be more.
func (c *conn) turn(ctx context.Context) (waited, ok bool) {
	select {
	case c.idle <- struct{}{}:
		return false, true
	default:
	}
	select {
	case c.idle <- struct{}{}:
		return true, true
	case <-ctx.Done():
	case <-c.life.Done():
	}
	return true, false
}

// pause waits for the next tick; it tells false if there is nothing more to wait for.
func (c *conn) pause(ctx context.Context, tick <-chan time.Time) bool {
	select {
	case <-tick:
		return true
	case <-ctx.Done():
	case <-c.life.Done():
	}
	return false
}

// over is the error of a wait that came to nothing.
func (c *conn) over() error {
	if c.life.Err() != nil {
		return errClosed
	}
	return nil
}

// ask asks for messages once. A question that was sent is not taken back when ctx or the
// connection ends: its answer may be messages, which nobody else gets for as long as a
// lease. They are given to who asked, or back if the connection is closed.
func (c *conn) ask(ctx context.Context, most int) ([]*driver.Delivery, error) {
	c.calls.RLock()
	defer c.calls.RUnlock()
	if c.life.Err() != nil {
		return nil, errClosed
	}
	if ctx.Err() != nil {
		return nil, nil
	}
	call, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	for _, end := range []context.Context{ctx, c.life} {
		defer context.AfterFunc(end, func() { endSoon(call, cancel) })()
	}
	begun := time.Now()
	n := int32(min(most, maxReceive))
	answer, err := c.client.DequeueMessages(call, &azqueue.DequeueMessagesOptions{NumberOfMessages: &n, VisibilityTimeout: &c.lease})
	if err != nil {
		if ctx.Err() != nil {
			return nil, nil
		}
		return nil, c.failed(call, "receive", err)
	}
	ds := make([]*driver.Delivery, len(answer.Messages))
	for i, m := range answer.Messages {
		ds[i] = c.delivery(m, begun)
	}
	if c.life.Err() != nil {
		for _, d := range ds {
			_, _ = c.update(call, d, 0) // else it comes when its lease is over
		}
		return nil, errClosed
	}
	return ds, nil
}

// endSoon ends a call that nobody waits for any more, unless it ends by itself.
func endSoon(call context.Context, cancel context.CancelFunc) {
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-call.Done():
	case <-timer.C:
		cancel()
	}
}

// delivery makes a delivery of a message that was asked for at begun.
func (c *conn) delivery(m *azqueue.DequeuedMessage, begun time.Time) *driver.Delivery {
	t := &token{text: value(m.MessageText), receipt: value(m.PopReceipt)}
	return &driver.Delivery{
		ID: value(m.MessageID), Body: c.decode(t.text), Attempt: int(value(m.DequeueCount)), Enqueued: value(m.InsertionTime),
		Until: begun.Add(time.Duration(c.lease) * time.Second), Token: t,
	}
}

// value is what p points to, or nothing: the service leaves out what is empty.
func value[T any](p *T) T {
	var v T
	if p != nil {
		v = *p
	}
	return v
}

func (c *conn) token(d *driver.Delivery) *token {
	t, _ := d.Token.(*token)
	return t
}

// update hides a message for so many seconds from now, for which there is a new receipt.
func (c *conn) update(ctx context.Context, d *driver.Delivery, seconds int32) (until time.Time, err error) {
	t, begun := c.token(d), time.Now()
	answer, err := c.client.UpdateMessage(ctx, d.ID, t.receipt, t.text, &azqueue.UpdateMessageOptions{VisibilityTimeout: &seconds})
	if err != nil {
		return time.Time{}, err
	}
	t.receipt = value(answer.PopReceipt)
	return begun.Add(time.Duration(seconds) * time.Second), nil
}

// Ack implements driver.Queue.
func (c *conn) Ack(ctx context.Context, ds []*driver.Delivery) []error {
	return c.each(ctx, len(ds), func(ctx context.Context, i int) error { return c.remove(ctx, ds[i]) })
}

// remove deletes a message. One that is not found because a call before, whose answer was
// lost, did delete it, is well: nobody else can have it while its lease lasts.
func (c *conn) remove(ctx context.Context, d *driver.Delivery) error {
	t := c.token(d)
	_, err := c.client.DeleteMessage(ctx, d.ID, t.receipt, nil)
	if t.deleted && code(err) == "MessageNotFound" && time.Now().Before(d.Until) {
		return nil
	}
	t.deleted = true
	return c.failed(ctx, "delete", err)
}

// Renew implements driver.Queue.
func (c *conn) Renew(ctx context.Context, ds []*driver.Delivery) []error {
	return c.each(ctx, len(ds), func(ctx context.Context, i int) error { return c.renew(ctx, ds[i]) })
}

func (c *conn) renew(ctx context.Context, d *driver.Delivery) error {
	until, err := c.update(ctx, d, c.lease)
	if err == nil {
		d.Until = until
	}
	return c.failed(ctx, "renew", err)
}

// Nack implements driver.Queue. A delay is at most a week.
func (c *conn) Nack(ctx context.Context, d *driver.Delivery, delay time.Duration) error {
	ctx, leave, err := c.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	_, err = c.update(ctx, d, wholeSeconds(delay))
	return c.failed(ctx, "give back", err)
}

// DeadLetter implements driver.Queue. Dead letters of QUEUE are in QUEUE-dead.
func (c *conn) DeadLetter(ctx context.Context, d *driver.Delivery, _ string) error {
	if c.dead == nil {
		return fmt.Errorf("storagequeue: %s holds dead letters, which have none of their own: give the message back, or delete it: %w", c.name, navvy.ErrUnsupported)
	}
	ctx, leave, err := c.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if t := c.token(d); !t.copied {
		// Whoever has lost the lease must not copy what somebody else works on.
		if err := c.renew(ctx, d); err != nil {
			return err
		}
		forever := int32(-1)
		if _, err := c.dead.EnqueueMessage(ctx, t.text, &azqueue.EnqueueMessageOptions{TimeToLive: &forever}); err != nil {
			return c.failed(ctx, "send to "+c.name+DeadSuffix, err)
		}
		t.copied = true
	}
	return c.remove(ctx, d)
}

// Close implements driver.Queue.
func (c *conn) Close() error {
	c.cut(errClosed)
	c.calls.Lock()
	defer c.calls.Unlock()
	c.transport.CloseIdleConnections()
	return nil
}
