// Package memqueue keeps queues in memory: for tests, for trying out, and as the oracle of
// the conformance suite. It does all that a broker can do, and forgets everything when the
// process ends.
package memqueue

import (
	"container/heap"
	"context"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
)

// DeadSuffix is what the name of a queue's dead letters has behind the queue's own.
const DeadSuffix = ".dead"

const (
	maxBody  = 64 << 20
	maxBatch = 1000
)

// Broker keeps queues by name. The zero value is ready; all its methods may be called at once.
type Broker struct {
	mu    sync.Mutex
	lines map[string]*line
	conns map[*conn]bool
	down  bool
}

// Driver reads URLs of the form mem://QUEUE. They have no options.
func (b *Broker) Driver(u *url.URL, o *driver.Options) (driver.Dial, error) {
	if _, err := driver.Query(u); err != nil {
		return nil, err
	}
	if u.Host == "" || u.Path != "" || u.User != nil {
		return nil, fmt.Errorf("queue %s: the form is mem://QUEUE: %w", u.Redacted(), navvy.ErrInvalid)
	}
	return func(context.Context) (driver.Queue, error) { return b.dial(u.Host, o) }, nil
}

func (b *Broker) dial(name string, o *driver.Options) (driver.Queue, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down {
		return nil, fmt.Errorf("memqueue: %s: the broker is down: %w", name, navvy.ErrUnavailable)
	}
	if b.lines[name] == nil {
		if !o.Create {
			return nil, fmt.Errorf("memqueue: there is no queue %s: %w", name, navvy.ErrNotFound)
		}
		b.make(name)
	}
	if o.Create && b.lines[name+DeadSuffix] == nil {
		b.make(name + DeadSuffix)
	}
	c := &conn{broker: b, line: b.lines[name], name: name, lease: o.Lease, gone: make(chan struct{})}
	if b.conns == nil {
		b.conns = map[*conn]bool{}
	}
	b.conns[c] = true
	return c, nil
}

func (b *Broker) make(name string) {
	if b.lines == nil {
		b.lines = map[string]*line{}
	}
	b.lines[name] = &line{changed: make(chan struct{})}
}

// Kill cuts all connections and takes no new ones until Restart. What was sent, and who
// has a lease, stays.
func (b *Broker) Kill() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = true
	for c := range b.conns {
		c.cut()
	}
	clear(b.conns)
}

// Restart takes connections again.
func (b *Broker) Restart() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = false
}

// line is one queue.
type line struct {
	mu      sync.Mutex
	ready   byOrder
	waiting byTime        // leased, or held back
	order   int64         // of the last message
	leases  int64         // how many were given
	changed chan struct{} // closed when something may be received that could not be before
}

// entry is a message that is not acknowledged.
type entry struct {
	driver.Delivery
	order int64
	lease int64     // the last one given; 0 for none
	at    time.Time // while it waits: when that is over
	index int       // among those that wait; -1 if it does not
}

func (l *line) put(m *driver.Message, reason string, tried int, enqueued time.Time) {
	l.order++
	e := &entry{order: l.order, index: -1}
	e.Delivery = driver.Delivery{ID: m.ID, Correlation: m.Correlation, Reason: reason, Tried: tried, Enqueued: enqueued, Body: append([]byte(nil), m.Body...)}
	heap.Push(&l.ready, e)
	l.notify()
}

func (l *line) notify() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// take gives what can be leased now; none, and until when that stays so unless something changes.
func (l *line) take(most int, lease time.Duration) (ds []*driver.Delivery, next time.Time, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for len(l.waiting) > 0 && !l.waiting[0].at.After(now) {
		heap.Push(&l.ready, heap.Pop(&l.waiting))
	}
	for len(ds) < most && len(l.ready) > 0 {
		e, _ := heap.Pop(&l.ready).(*entry)
		l.leases++
		e.lease, e.at = l.leases, now.Add(lease)
		e.Attempt++
		heap.Push(&l.waiting, e)
		d := e.Delivery
		d.Body, d.Until, d.Token = append([]byte(nil), e.Body...), e.at, token{e, e.lease}
		ds = append(ds, &d)
	}
	if len(l.waiting) > 0 {
		next = l.waiting[0].at
	}
	return ds, next, l.changed
}

// token is a lease.
type token struct {
	entry *entry
	lease int64
}

// held gives the entry of a delivery whose lease is not over; mu must be held.
func (l *line) held(d *driver.Delivery) (*entry, error) {
	t, _ := d.Token.(token)
	if t.entry == nil || t.entry.index < 0 || t.entry.lease != t.lease || !t.entry.at.After(time.Now()) {
		return nil, fmt.Errorf("memqueue: message %s is no longer leased to this receiver: %w", d.ID, navvy.ErrLeaseLost)
	}
	return t.entry, nil
}

func (l *line) ack(d *driver.Delivery) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, err := l.held(d)
	if err == nil {
		heap.Remove(&l.waiting, e.index)
	}
	return err
}

func (l *line) renew(d *driver.Delivery, lease time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, err := l.held(d)
	if err != nil {
		return err
	}
	e.at = time.Now().Add(lease)
	heap.Fix(&l.waiting, e.index)
	d.Until = e.at
	return nil
}

func (l *line) nack(d *driver.Delivery, delay time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, err := l.held(d)
	if err != nil {
		return err
	}
	e.lease = 0
	e.at = time.Now().Add(delay)
	heap.Fix(&l.waiting, e.index)
	l.notify()
	return nil
}
