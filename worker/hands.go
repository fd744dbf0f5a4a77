package worker

import "sync"

// hands are the goroutines that carry out attempts. Whoever is free takes the
// next attempt from the queue; as long as there is one, another hand is on its
// way to it, so that none waits behind an attempt that takes its time. Attempts
// of microseconds are thus done by few hands one after the other, without a
// goroutine made, woken and its stack grown for each.
type hands struct {
	mu     sync.Mutex
	queue  []doable
	next   int             // where the queue begins
	coming bool            // a hand was called, and has not arrived
	idle   []chan struct{} // hands that wait; the one that worked last comes first
	over   bool
	all    sync.WaitGroup
}

// doable is something to be done.
type doable interface{ do() }

// maxIdle is how many hands are kept while there is nothing to do.
const maxIdle = 64

// give has the attempts done, now.
func (h *hands) give(attempts ...doable) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.queue = append(h.queue, attempts...)
	h.callLocked()
}

// callLocked sees that a hand comes if there is something to do.
func (h *hands) callLocked() {
	if h.coming || h.next == len(h.queue) {
		return
	}
	h.coming = true
	if last := len(h.idle) - 1; last >= 0 {
		h.idle[last] <- struct{}{}
		h.idle = h.idle[:last]
		return
	}
	h.all.Go(h.work)
}

// work is the life of a hand, from its first call on.
func (h *hands) work() {
	called := make(chan struct{}, 1)
	for open := true; open; _, open = <-called {
		h.mu.Lock()
		h.coming = false
		for a := h.takeLocked(); a != nil; a = h.takeLocked() {
			h.callLocked()
			h.mu.Unlock()
			a.do()
			h.mu.Lock()
		}
		if h.over || len(h.idle) == maxIdle {
			h.mu.Unlock()
			return
		}
		h.idle = append(h.idle, called)
		h.mu.Unlock()
	}
}

// takeLocked takes the next attempt off the queue; nil if there is none.
func (h *hands) takeLocked() doable {
	if h.next == len(h.queue) {
		h.queue, h.next = h.queue[:0], 0
		return nil
	}
	a := h.queue[h.next]
	h.queue[h.next] = nil
	h.next++
	return a
}

// end waits until all attempts are done. None may be given any more.
func (h *hands) end() {
	h.mu.Lock()
	h.over = true
	for _, called := range h.idle {
		close(called)
	}
	h.idle = nil
	h.mu.Unlock()
	h.all.Wait()
}
