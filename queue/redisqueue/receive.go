package redisqueue

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/navvy-run/navvy/queue/driver"
)

// Receive implements driver.Queue.
func (c *conn) Receive(ctx context.Context, most int) ([]*driver.Delivery, error) {
	if !c.begin() {
		return nil, c.wrap("receive", errGone)
	}
	defer c.busy.Done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.ctx, func() { cancel(context.Cause(c.ctx)) })()
	most = min(most, maxBatch)
	for ctx.Err() == nil {
		look := c.sight()
		ds, err := c.next(ctx, most, look)
		if len(ds) > 0 {
			return ds, nil
		}
		if err != nil && ctx.Err() == nil {
			return nil, c.wrap("receive", err)
		}
	}
	return nil, context.Cause(c.ctx)
}

// sight is what was seen when somebody last looked for entries that others may have again:
// there are none for a while, unless one is woken.
type sight struct {
	until time.Time // zero for look now
	due   bool      // there is one then
	wakes []any     // entries of the stream of wake-ups that are to be acknowledged
}

func (c *conn) sight() sight {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.seen
	c.seen.wakes = nil
	return s
}

func (c *conn) saw(s sight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.until.IsZero() { // and all who were woken meanwhile
		s.wakes = append(s.wakes, c.seen.wakes...)
	}
	c.seen = s
}

// next looks for entries, or waits for new ones while there are no others.
func (c *conn) next(ctx context.Context, most int, look sight) ([]*driver.Delivery, error) {
	if block := time.Until(look.until); len(look.wakes) == 0 && block > 0 {
		return c.wait(ctx, most, look.due, max(block, time.Millisecond))
	}
	return c.take(ctx, most, look.wakes)
}

// begin counts one who receives, unless the connection is closed.
func (c *conn) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.busy.Add(1)
	return true
}

// take takes what can be had at once, or sees how long there will be nothing unless
// something comes. What was read from the stream of wake-ups is acknowledged with it. It
// does not end with ctx: what the broker gives must come to somebody.
func (c *conn) take(ctx context.Context, most int, wakes []any) ([]*driver.Delivery, error) {
	args := append([]any{c.consumer, most}, wakes...)
	begun := time.Now()
	list, err := takeScript.EvalSha(context.WithoutCancel(ctx), c.commands, c.keys.all(), args...).Slice()
	if err != nil {
		return nil, err
	}
	r, err := readReply(list)
	if err != nil {
		return nil, err
	}
	c.saw(sight{until: begun.Add(r.block), due: r.due})
	ds := make([]*driver.Delivery, len(r.entries))
	for i, raw := range r.entries {
		t, values, err := readEntry(raw)
		if err != nil {
			return nil, err
		}
		ds[i] = delivery(t, values, begun.Add(c.lease))
	}
	return ds, nil
}

// waiter is a socket that is blocked in the broker, and the name by which that can be ended.
type waiter struct {
	conn *redis.Conn
	id   int64
}

// getWaiter gives one that nobody uses.
func (c *conn) getWaiter(ctx context.Context) (*waiter, error) {
	c.mu.Lock()
	if last := len(c.waiters) - 1; last >= 0 {
		w := c.waiters[last]
		c.waiters = c.waiters[:last]
		c.mu.Unlock()
		return w, nil
	}
	c.mu.Unlock()
	w := &waiter{conn: c.waits.Conn()}
	var err error
	if w.id, err = w.conn.ClientID(ctx).Result(); err != nil {
		return nil, errors.Join(err, w.conn.Close())
	}
	return w, nil
}

// putWaiter takes it back; after an error it is of no use.
func (c *conn) putWaiter(w *waiter, err error) {
	if err != nil && !errors.Is(err, redis.Nil) {
		_ = w.conn.Close() // it is broken
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiters = append(c.waiters, w)
}

// wait is blocked in the broker until something comes, it is woken, the time is over or ctx
// ends. What it is given is leased by that; due tells that there is something else when the
// time is over.
func (c *conn) wait(ctx context.Context, most int, due bool, block time.Duration) ([]*driver.Delivery, error) {
	w, err := c.getWaiter(ctx)
	if err != nil {
		return nil, err
	}
	over, ended := make(chan struct{}), make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		c.unblock(w, over)
	})
	until := time.Now().Add(c.lease) // rather too early: the lease begins when something comes
	streams, err := w.conn.XReadGroup(context.WithoutCancel(ctx), &redis.XReadGroupArgs{
		Group: group, Consumer: c.consumer, Streams: []string{c.keys.stream, c.keys.wake, ">", ">"},
		Count: int64(most), Block: block,
	}).Result()
	close(over)
	if !stop() {
		<-ended // it must not unblock who uses the socket next
	}
	c.putWaiter(w, err)
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, err
	}
	ds := c.given(streams, until)
	if len(ds) > 0 && due { // and who is given something may not come back soon
		_ = passScript.EvalSha(context.WithoutCancel(ctx), c.commands, c.keys.all()).Err() // else others look a little later
	}
	return ds, nil
}

// given are the entries that came to one who waited. Who was woken looks next time.
func (c *conn) given(streams []redis.XStream, until time.Time) (ds []*driver.Delivery) {
	var woken sight
	for _, s := range streams {
		for i := range s.Messages {
			if m := &s.Messages[i]; s.Stream == c.keys.stream {
				ds = append(ds, delivery(token{entry: m.ID, count: 1}, strung(m), until))
			} else {
				woken.wakes = append(woken.wakes, m.ID)
			}
		}
	}
	if len(woken.wakes) > 0 {
		c.saw(woken)
	}
	return ds
}

// unblock ends the wait of a socket. It may come to the broker before the wait does, and is
// then repeated.
func (c *conn) unblock(w *waiter, over <-chan struct{}) {
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for {
		ctx, cancel := context.WithTimeout(context.Background(), ioTimeout)
		n, err := c.commands.ClientUnblock(ctx, w.id).Result()
		cancel()
		if err != nil || n == 1 {
			return // who waits is lost with the broker, or waits until its time is over
		}
		select {
		case <-over:
			return
		case <-again.C:
		}
	}
}
