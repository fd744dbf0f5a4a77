package queue

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/internal/pause"
	"github.com/navvy-run/navvy/queue/driver"
)

// renewal is where a lease stands with the renewals; the mutex of renewals guards it.
type renewal struct {
	due   time.Time
	index int           // in the heap; -1 while it is not in it
	busy  chan struct{} // closed when the renewal that is on its way is over; nil if none is
	gone  bool
	tries pause.Series
}

// renewals renews the leases of a queue before half of their time is over. One that cannot
// be renewed is tried again until its time is over, and then lost.
type renewals struct {
	q *Queue

	mu   sync.Mutex
	due  byDue
	wake chan struct{} // holds one if the next to be due has changed
}

func newRenewals(q *Queue) *renewals {
	return &renewals{q: q, wake: make(chan struct{}, 1)}
}

// next is when a lease is to be renewed: when two fifths of what is left are over.
func next(d *driver.Delivery, now time.Time) time.Time {
	return now.Add(d.Until.Sub(now) * 2 / 5)
}

func (r *renewals) add(leases []*Lease) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for _, l := range leases {
		l.renew = renewal{due: next(l.d, now), tries: newTries()}
		heap.Push(&r.due, l)
	}
	r.alarm()
}

// remove ends the renewals of a lease. One that is on its way is waited for, since what
// settles the message must be the last to touch it.
func (r *renewals) remove(l *Lease) {
	r.mu.Lock()
	l.renew.gone = true
	if l.renew.index >= 0 {
		heap.Remove(&r.due, l.renew.index)
	}
	busy := l.renew.busy
	r.mu.Unlock()
	if busy != nil {
		<-busy
	}
}

func (r *renewals) alarm() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run renews what is due until the queue is closed.
func (r *renewals) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		batch, wait := r.take(time.Now())
		if len(batch) > 0 {
			r.renew(batch)
			continue
		}
		timer.Reset(wait)
		select {
		case <-r.q.ctx.Done():
			return
		case <-r.wake:
		case <-timer.C:
		}
	}
}

// take takes what is due, or tells how long nothing is. Who is due soon goes along.
func (r *renewals) take(now time.Time) (batch []*Lease, wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.due) == 0 {
		return nil, time.Hour
	}
	if wait = r.due[0].renew.due.Sub(now); wait > 0 {
		return nil, wait
	}
	soon := now.Add(r.q.opts.Lease / 50)
	busy := make(chan struct{})
	for len(r.due) > 0 && len(batch) < r.q.caps.MaxBatch && r.due[0].renew.due.Before(soon) {
		l, _ := heap.Pop(&r.due).(*Lease)
		l.renew.busy = busy
		batch = append(batch, l)
	}
	return batch, 0
}

// renew renews leases together, and decides what becomes of each.
func (r *renewals) renew(batch []*Lease) {
	ctx, cancel := context.WithTimeout(r.q.ctx, r.q.opts.Lease/4)
	defer cancel()
	c, err := r.q.link.get(ctx)
	errs := driver.Each(len(batch), err)
	if err == nil {
		ds := make([]*driver.Delivery, len(batch))
		for i, l := range batch {
			ds[i] = l.d
		}
		errs = c.Renew(ctx, ds)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	busy := batch[0].renew.busy
	for i, l := range batch {
		var err error
		if errs != nil {
			err = errs[i]
		}
		if errors.Is(err, navvy.ErrUnavailable) && c != nil {
			r.q.link.lose(c, err)
		}
		r.settle(l, err, now)
		l.renew.busy = nil
	}
	close(busy)
}

// settle puts a lease back for its next renewal, or lets go of it; mu must be held.
func (r *renewals) settle(l *Lease, err error, now time.Time) {
	switch {
	case l.renew.gone:
		return
	case err == nil:
		l.renew.tries.Reset()
		l.renew.due = next(l.d, now)
	case errors.Is(err, navvy.ErrLeaseLost):
		l.end(err)
		return
	case !now.Before(l.d.Until):
		l.end(fmt.Errorf("queue %s: message %s: its lease could not be renewed: %w: %w", r.q.name, l.id, err, navvy.ErrLeaseLost))
		return
	default:
		l.renew.due = now.Add(l.renew.tries.Next())
		if l.renew.due.After(l.d.Until) {
			l.renew.due = l.d.Until
		}
	}
	heap.Push(&r.due, l)
}

// byDue is a heap of leases: the next to be renewed first.
type byDue []*Lease

func (h byDue) Len() int           { return len(h) }
func (h byDue) Less(i, j int) bool { return h[i].renew.due.Before(h[j].renew.due) }

func (h byDue) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].renew.index, h[j].renew.index = i, j
}

func (h *byDue) Push(x any) {
	l, _ := x.(*Lease)
	l.renew.index = len(*h)
	*h = append(*h, l)
}

func (h *byDue) Pop() any {
	last := len(*h) - 1
	l := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	l.renew.index = -1
	return l
}
