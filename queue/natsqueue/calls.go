package natsqueue

import (
	"context"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
)

// calls are messages that are answered: many are sent at once, and then waited for.
type calls struct {
	prefix string

	mu    sync.Mutex
	last  uint64
	waits map[uint64]*call
	err   error // why there will be no more answers
}

// call is one of several.
type call struct {
	group *group
	at    int
}

// group are calls that are waited for together.
type group struct {
	mu      sync.Mutex
	replies []*nats.Msg
	left    int
	err     error
	done    chan struct{}
}

func (g *group) answer(at int, m *nats.Msg) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.replies[at] != nil || g.left == 0 {
		return
	}
	g.replies[at] = m
	if g.left--; g.left == 0 {
		close(g.done)
	}
}

func (g *group) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.left > 0 {
		g.err, g.left = err, 0
		close(g.done)
	}
}

// listen begins to take answers. The subscription ends with the connection.
func (c *calls) listen(nc *nats.Conn) error {
	c.prefix = nats.NewInbox() + "."
	s, err := nc.Subscribe(c.prefix+"*", c.answer)
	if err != nil {
		return err
	}
	return s.SetPendingLimits(-1, -1)
}

func (c *calls) answer(m *nats.Msg) {
	n, err := strconv.ParseUint(strings.TrimPrefix(m.Subject, c.prefix), 36, 64)
	if err != nil {
		return // nobody was asked that
	}
	c.mu.Lock()
	w := c.waits[n]
	delete(c.waits, n)
	c.mu.Unlock()
	if w != nil {
		w.group.answer(w.at, m)
	}
}

// fail ends all calls that wait, and for good those that come.
func (c *calls) fail(err error, forGood bool) {
	c.mu.Lock()
	waits := c.waits
	c.waits = map[uint64]*call{}
	if forGood && c.err == nil {
		c.err = err
	}
	c.mu.Unlock()
	for _, w := range waits {
		w.group.fail(err)
	}
}

// do sends messages and waits for all replies. What has none by the time that ctx ends, or
// the connection, is nil, and the error says why.
func (c *calls) do(ctx context.Context, nc *nats.Conn, ms []*nats.Msg) ([]*nats.Msg, error) {
	g := &group{replies: make([]*nats.Msg, len(ms)), left: len(ms), done: make(chan struct{})}
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return g.replies, c.err
	}
	first := c.last + 1
	c.last += uint64(len(ms))
	for i := range ms {
		c.waits[first+uint64(i)] = &call{group: g, at: i}
	}
	c.mu.Unlock()
	defer c.forget(first, len(ms))
	for i, m := range ms {
		m.Reply = c.prefix + strconv.FormatUint(first+uint64(i), 36)
		if err := nc.PublishMsg(m); err != nil {
			return g.replies, err
		}
	}
	var err error
	select {
	case <-g.done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left = 0 // what still comes is too late
	if err == nil {
		err = g.err
	}
	return g.replies, err
}

// forget forgets calls that nobody waits for any longer.
func (c *calls) forget(first uint64, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range n {
		delete(c.waits, first+uint64(i))
	}
}
