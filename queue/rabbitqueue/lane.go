package rabbitqueue

import (
	"context"
	"fmt"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
)

// lane is a channel that messages come over. RabbitMQ closes a channel with all that it
// holds when one delivery on it was not settled for too long (consumer_timeout). So a lane
// whose oldest delivery is getting old gets no more: the next ones come over a new lane,
// and only what was delivered within its first minute can be lost with a late one.
type lane struct {
	b  *inbox
	ch *amqp.Channel

	lost context.Context //nolint:containedctx // of the leases: ends with the channel
	lose context.CancelCauseFunc

	// order has settlements reach the broker in the order in which they were noted, since
	// one may speak for all before it. It is taken before the inbox's mutex.
	order sync.Mutex

	// What follows is the inbox's mutex's.

	first     uint64 // the delivery tag of entries[0]
	entries   []entry
	unsettled int
	consumer  *consumer // who takes messages; nil while nobody does
	dead      bool
}

// consumer is what the broker sends to.
type consumer struct {
	tag       string
	prefetch  int // how many are sent ahead of their settlement, at most
	unsettled int
	over      chan struct{} // closed when all that was sent is in the inbox
}

// entry is what became of a delivery.
type entry struct {
	at    time.Time // when it came; zero if it has not
	from  *consumer
	state state
}

type state uint8

const (
	unsettled state = iota // not settled
	now                    // being settled just now
	settled                // and the broker was told
)

// held is a delivery, and what it takes to settle it.
type held struct {
	driver.Delivery
	lane *lane
	raw  amqp.Delivery
}

// entry gives the entry of a delivery tag; they come nearly in order. mu must be held.
func (l *lane) entry(tag uint64) *entry {
	if tag < l.first {
		return nil
	}
	for uint64(len(l.entries)) <= tag-l.first {
		l.entries = append(l.entries, entry{})
	}
	return &l.entries[tag-l.first]
}

// oldest is when the oldest delivery came that is not settled; zero if there is none. mu
// must be held.
func (l *lane) oldest() time.Time {
	if len(l.entries) == 0 {
		return time.Time{}
	}
	return l.entries[0].at
}

// settle takes deliveries off the lane with tell, which may be told of several at once if
// together is set. It gives errors as of driver.Queue.Ack.
func (l *lane) settle(ds []*held, together bool, tell func(tag uint64, multiple bool) error) []error {
	l.order.Lock()
	defer l.order.Unlock()
	upTo, errs := l.note(ds)
	var failed error
	if upTo > 0 && together {
		failed = tell(upTo, true)
	}
	for i, d := range ds {
		if (d.raw.DeliveryTag <= upTo && together) || (errs != nil && errs[i] != nil) {
			continue
		}
		if failed == nil {
			failed = tell(d.raw.DeliveryTag, false)
		}
	}
	if failed != nil { // nothing else can go wrong
		return driver.Each(len(ds), l.b.gone("its channel is closed"))
	}
	return errs
}

// note notes deliveries as settled. All up to upTo are settled now, and upTo is one of them.
func (l *lane) note(ds []*held) (upTo uint64, errs []error) {
	b := l.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if l.dead {
		return 0, driver.Each(len(ds), context.Cause(l.lost))
	}
	for i, d := range ds {
		e := l.entry(d.raw.DeliveryTag)
		if e == nil || e.state != unsettled {
			if errs == nil {
				errs = make([]error, len(ds))
			}
			errs[i] = b.gone("it was settled before")
			continue
		}
		e.state = now
		e.from.unsettled--
		l.unsettled--
		b.held--
	}
	for len(l.entries) > 0 && l.entries[0].state != unsettled {
		if l.entries[0].state == now {
			upTo = l.first
		}
		l.entries = l.entries[1:]
		l.first++
	}
	for _, d := range ds {
		if e := l.entry(d.raw.DeliveryTag); e != nil {
			e.state = settled
		}
	}
	b.tookNow(len(ds))
	if b.waiting > 0 {
		b.notify() // there is room for others
	}
	l.leave()
	return upTo, errs
}

// leave closes the channel if nothing is on it and nothing comes any more; mu must be held.
func (l *lane) leave() {
	if l.unsettled > 0 || l.consumer != nil || l.b.current == l {
		return
	}
	l.b.spawn(func() {
		l.order.Lock() // what has settled the last one says so first
		defer l.order.Unlock()
		_ = l.ch.Close() // one that is lost is closed
	})
}

// watch waits until the channel is closed, and ends the leases of what was on it.
func (l *lane) watch(closed <-chan *amqp.Error) {
	why := "the connection is closed"
	if said := <-closed; said != nil {
		why = said.Reason
	}
	b := l.b
	cause := b.gone(why)
	if lost := b.c.lost(); lost != nil {
		cause = fmt.Errorf("%w: %w", lost, navvy.ErrLeaseLost)
	}
	l.lose(cause)
	b.mu.Lock()
	defer b.mu.Unlock()
	l.dead = true
	delete(b.lanes, l)
	if b.current == l {
		b.current = nil
	}
	b.held -= l.unsettled
	b.ready = dropped(b.ready, l)
	b.notify()
}

// dropped is what is left without the deliveries of a lane.
func dropped(list []*held, l *lane) []*held {
	var left []*held
	for _, d := range list {
		if d.lane != l {
			left = append(left, d)
		}
	}
	return left
}
