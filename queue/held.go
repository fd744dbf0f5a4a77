package queue

import (
	"context"
	"sync"
	"time"
)

// heldBack are messages that are given back later, for brokers that cannot wait.
type heldBack struct {
	mu     sync.Mutex
	timers map[*Lease]*time.Timer
	closed bool
	work   sync.WaitGroup // those that are being given back
}

// hold gives the message back after the delay. Its lease is renewed until then.
func (l *Lease) hold(delay time.Duration) error {
	l.mu.Lock()
	settled := l.settled
	l.mu.Unlock()
	if settled {
		return l.settle("give back") // which says so
	}
	h := &l.q.held
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		delay = 0
	}
	if h.timers == nil {
		h.timers = map[*Lease]*time.Timer{}
	}
	h.work.Add(1)
	h.timers[l] = time.AfterFunc(delay, func() { h.giveBack(l) })
	return nil
}

// giveBack gives one back. A lease that was lost meanwhile is somebody else's.
func (h *heldBack) giveBack(l *Lease) {
	defer h.work.Done()
	h.mu.Lock()
	delete(h.timers, l)
	h.mu.Unlock()
	_ = l.single(l.q.ctx, "give back", func(c *conn) error { return c.Nack(l.q.ctx, l.d, 0) }) // else it comes again by itself
}

// release gives back all at once, and from now on.
func (h *heldBack) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, t := range h.timers {
		if t.Stop() { // else it is being given back just now
			t.Reset(0)
		}
	}
}

// wait waits until all are given back, as long as ctx lasts.
func (h *heldBack) wait(ctx context.Context) error { return waitFor(ctx, &h.work) }

func waitFor(ctx context.Context, work *sync.WaitGroup) error {
	done := make(chan struct{})
	go func() {
		work.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
