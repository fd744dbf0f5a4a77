package rabbitqueue

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
)

const (
	// aging is after how long a delivery makes its lane too old for others, at most.
	aging = time.Minute
	// maxLanes bounds the channels of a connection; a broker allows some 2000.
	maxLanes = 200
	// restAfter is how long nobody receives before the broker is told to send nothing more.
	restAfter = time.Second
)

// inbox is what came and was not yet received. The broker sends by itself, but only as
// long as somebody receives: what is sent ahead to somebody who does not is kept from
// others.
type inbox struct {
	c     *conn
	aging time.Duration
	in    *wire // conn.wires guards it

	mu       sync.Mutex
	ready    []*held
	lanes    map[*lane]bool
	current  *lane // the newest; nil if there is none
	held     int   // deliveries that are not settled, also those that are ready
	waiting  int   // how many wait in Receive
	watching int   // how many wait for changed
	changed  chan struct{}
	changing bool  // somebody is starting or ending a consumer
	failed   error // why none could be started; for one who waits
	ended    bool
	serial   int // of consumers

	settled   int       // without a second's pause between them
	settledAt time.Time // the last of these

	idle *time.Timer // runs while nobody receives
	last time.Time   // when somebody did
	runs bool        // whether idle runs
}

func newInbox(c *conn) *inbox {
	b := &inbox{c: c, aging: min(aging, c.opts.Lease), lanes: map[*lane]bool{}, changed: make(chan struct{})}
	b.idle = time.AfterFunc(math.MaxInt64, b.rest)
	return b
}

// Receive implements driver.Queue.
func (c *conn) Receive(ctx context.Context, most int) ([]*driver.Delivery, error) {
	b := c.inbox
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting++
	defer b.leave()
	for {
		if ctx.Err() != nil {
			if b.waiting == 1 {
				b.halt()
			}
			return nil, nil
		}
		if c.ctx.Err() != nil {
			return nil, c.lost()
		}
		if ds := b.take(most); ds != nil {
			return ds, nil
		}
		if err := b.failed; err != nil {
			b.failed = nil
			return nil, err
		}
		b.await(ctx, b.consume())
	}
}

// leave notes that somebody has received; mu must be held.
func (b *inbox) leave() {
	b.waiting--
	b.last = time.Now()
	if !b.runs && !b.ended && b.waiting == 0 {
		b.runs = true
		b.idle.Reset(restAfter)
	}
}

// take gives what has come, at most so many; mu must be held.
func (b *inbox) take(most int) []*driver.Delivery {
	n := min(most, len(b.ready))
	if n == 0 {
		return nil
	}
	ds := make([]*driver.Delivery, n)
	for i, d := range b.ready[:n] {
		ds[i], b.ready[i] = &d.Delivery, nil
	}
	b.ready = b.ready[n:]
	if len(b.ready) > 0 {
		b.notify() // there is something for the next, too
	}
	return ds
}

// await waits until something changes, ctx or the connection ends, or for d if that is not
// 0. mu must be held; meanwhile it is not.
func (b *inbox) await(ctx context.Context, d time.Duration) {
	b.watching++
	changed := b.changed
	b.mu.Unlock()
	var late <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-changed:
	case <-late:
	case <-ctx.Done():
	case <-b.c.ctx.Done():
	}
	b.mu.Lock()
	b.watching--
}

// notify wakes who waits; mu must be held.
func (b *inbox) notify() {
	if b.watching > 0 {
		close(b.changed)
		b.changed = make(chan struct{})
	}
}

// spawn runs something for as long as the connection lasts; mu must be held.
func (b *inbox) spawn(do func()) {
	if !b.ended {
		b.c.work.Go(do)
	}
}

// change starts or ends a consumer, one at a time; mu must be held.
func (b *inbox) change(do func() error) {
	if b.changing || b.ended {
		return
	}
	b.changing = true
	b.spawn(func() {
		err := do()
		b.mu.Lock()
		defer b.mu.Unlock()
		b.changing = false
		if b.waiting > 0 {
			b.failed = err
		}
		b.notify()
	})
}

// consume sees that the broker sends, and as much as may be held. It gives after how long
// that is to be looked at again; 0 for when something changes. mu must be held.
func (b *inbox) consume() time.Duration {
	l, room := b.current, b.c.opts.Outstanding-b.held
	if room <= 0 {
		return 0
	}
	if l == nil || l.consumer == nil {
		b.change(b.restart)
		return 0
	}
	old, left := b.old(l)
	free := l.consumer.prefetch - l.consumer.unsettled
	if old || free < room-free { // little of what there is room for is asked for
		b.change(b.restart)
		return 0
	}
	return left
}

// old tells whether a lane should get no more messages, or after how long it will be so;
// 0 for never. mu must be held.
func (b *inbox) old(l *lane) (bool, time.Duration) {
	oldest := l.oldest()
	if oldest.IsZero() || len(b.lanes) >= maxLanes {
		return false, 0
	}
	left := b.aging - time.Since(oldest)
	return left <= 0, left
}

// halt tells the broker to send nothing more; what it sent already comes. mu must be held.
func (b *inbox) halt() {
	if b.current != nil && b.current.consumer != nil {
		b.change(b.stop)
	}
}

// stop ends the consumer, and returns when what it was sent has come.
func (b *inbox) stop() error {
	b.mu.Lock()
	l := b.current
	if l == nil || l.consumer == nil {
		b.mu.Unlock()
		return nil
	}
	consumer := l.consumer
	b.mu.Unlock()
	err := l.ch.Cancel(consumer.tag, false)
	<-consumer.over
	if err != nil {
		return b.c.fault("stop receiving", err)
	}
	return nil
}

// restart starts a consumer in the place of the one there is, on a new lane if that one is
// old.
func (b *inbox) restart() error {
	w, err := b.c.wire(b.c.ctx, &b.in)
	if err != nil {
		return err
	}
	if err := b.stop(); err != nil {
		return err
	}
	b.mu.Lock()
	l, room := b.current, min(b.c.opts.Outstanding-b.held, math.MaxUint16)
	if l != nil {
		if old, _ := b.old(l); old {
			l = nil
		}
	}
	b.serial++
	consumer := &consumer{tag: fmt.Sprint("navvy-", b.serial), prefetch: room, over: make(chan struct{})}
	b.mu.Unlock()
	if room <= 0 {
		return nil
	}
	if l == nil {
		if l, err = b.open(w); err != nil {
			return b.c.fault("receive", err)
		}
	}
	if err = b.start(l, consumer); err != nil {
		return b.c.fault("receive", err)
	}
	return nil
}

// gone is what a lease ends with that is lost alone.
func (b *inbox) gone(why string) error {
	return fmt.Errorf("rabbitqueue: queue %s: the broker has taken the message back: %s: %w", b.c.address.queue, why, navvy.ErrLeaseLost)
}

// rest is called when nobody has received for a while: first the broker is told to send no
// more, and later what has come goes back for others.
func (b *inbox) rest() {
	b.mu.Lock()
	b.runs = false
	quiet := time.Since(b.last)
	var back []*held
	switch {
	case b.ended || b.waiting > 0:
	case quiet < restAfter:
		b.again(restAfter - quiet)
	case b.changing:
		b.again(restAfter)
	case b.current != nil && b.current.consumer != nil:
		b.halt()
		b.again(restAfter)
	case len(b.ready) == 0:
	case quiet < b.c.opts.Lease/2:
		b.again(b.c.opts.Lease/2 - quiet)
	default:
		back, b.ready = b.ready, nil
	}
	b.mu.Unlock()
	for _, d := range back {
		_ = d.giveBack() // what is lost went back
	}
}

// again has rest be called later; mu must be held.
func (b *inbox) again(d time.Duration) {
	b.runs = true
	b.idle.Reset(d)
}

// Acknowledgements are not confirmed. A quorum queue takes some at once (RabbitMQ's
// quorum_commands_soft_limit, 32); further ones wait in the broker's channel, and what waits
// there when the connection ends is forgotten: those messages would come again.
const (
	takenAtOnce = 32
	taking      = time.Second // what the broker gets to take the others, after the last one
)

// tookNow notes that deliveries were settled; mu must be held.
func (b *inbox) tookNow(n int) {
	now := time.Now()
	if now.Sub(b.settledAt) > taking {
		b.settled = 0
	}
	b.settled, b.settledAt = b.settled+n, now
}

// untaken is how long the broker still gets to take what was acknowledged.
func (b *inbox) untaken() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.c.kind != quorum || b.settled <= takenAtOnce {
		return 0
	}
	return taking - time.Since(b.settledAt)
}

// close ends the connection for who waits.
func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	b.idle.Stop()
	b.c.end(errClosed)
}
