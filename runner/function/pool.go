package function

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/navvy-run/navvy"
)

// pool is the hosts of a driver. At most so many as it has room for live at once: idle
// ones of others are ended for a call that finds none of its own.
type pool struct {
	room int
	rest time.Duration // how long a host may be idle

	mu      sync.Mutex
	busy    int     // that serve a call, or are being started for one
	idle    []*host // the one that served last is the last
	waiting []*waiter
	timer   *time.Timer // while it runs, some host is idle
	closed  bool
	live    map[*host]bool
	all     sync.WaitGroup // of what serves them
}

// waiter is a call that waits for its turn.
type waiter struct {
	key    string
	id     string // of its function
	turn   chan turn
	passed int // how many that came later went before it
}

// turn is what a call gets: a host, or leave to start one if that is nil, or why it gets
// neither. A leave counts among what serves hosts, so that the end waits for it.
type turn struct {
	host *host
	err  error
}

// errClosed says that no host serves any more.
var errClosed = fmt.Errorf("function: the worker ends: %w", navvy.ErrClosed)

// maxPassed is how many calls may go before one that waits longer, because a host of
// theirs was free: to end it and start another takes as long as many calls.
const maxPassed = 64

// take waits for the turn of a call. Whoever is told to start a host, and does not,
// gives the turn back by failed.
func (p *pool) take(ctx context.Context, key, id string) (turn, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return turn{}, errClosed
	}
	if len(p.waiting) == 0 {
		if t, ok := p.serveLocked(key, id); ok {
			p.mu.Unlock()
			return t, nil
		}
	}
	w := &waiter{key: key, id: id, turn: make(chan turn, 1)}
	p.waiting = append(p.waiting, w)
	p.mu.Unlock()
	select {
	case t := <-w.turn:
		return t, t.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	if i := slices.Index(p.waiting, w); i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
		p.mu.Unlock()
		return turn{}, ctx.Err()
	}
	p.mu.Unlock()
	// It came at the same moment.
	switch t := <-w.turn; {
	case t.host != nil:
		p.give(t.host, true)
	case t.err == nil:
		p.failed()
	}
	return turn{}, ctx.Err()
}

// serveLocked finds a call a host, or leave to start one, if there is room.
func (p *pool) serveLocked(key, id string) (turn, bool) {
	if p.busy >= p.room {
		return turn{}, false
	}
	found := -1
	for i, h := range slices.Backward(p.idle) {
		if h.key != key {
			continue
		}
		if h.has(id) {
			found = i
			break
		}
		found = max(found, i)
	}
	p.busy++
	if found >= 0 {
		h := p.idle[found]
		p.idle = slices.Delete(p.idle, found, found+1)
		return turn{host: h}, true
	}
	if p.busy+len(p.idle) > p.room {
		p.idle[0].kill()
		p.idle = slices.Delete(p.idle, 0, 1)
	}
	p.all.Add(1)
	return turn{}, true
}

// give takes back a host that served a call; one that is not good for more is ended.
func (p *pool) give(h *host, good bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !good || p.closed || h.doomed.Load() {
		h.kill()
		p.busy--
		p.nextLocked()
		return
	}
	if w := p.likeLocked(h.key); w != nil {
		w.turn <- turn{host: h}
		return
	}
	p.busy--
	h.since = time.Now()
	p.idle = append(p.idle, h)
	p.nextLocked()
	if p.timer == nil && len(p.idle) > 0 {
		p.timer = time.AfterFunc(p.rest, p.tidy)
	}
}

// likeLocked takes the first waiter out of the line that a host of this key can serve.
func (p *pool) likeLocked(key string) *waiter {
	for i, w := range p.waiting {
		if w.key != key {
			continue
		}
		if i > 0 {
			if p.waiting[0].passed >= maxPassed {
				return nil
			}
			p.waiting[0].passed++
		}
		p.waiting = slices.Delete(p.waiting, i, i+1)
		return w
	}
	return nil
}

// nextLocked serves those who wait, as far as there is room. After the end nobody waits.
func (p *pool) nextLocked() {
	for len(p.waiting) > 0 {
		w := p.waiting[0]
		t, ok := p.serveLocked(w.key, w.id)
		if !ok {
			return
		}
		p.waiting = slices.Delete(p.waiting, 0, 1)
		w.turn <- t
	}
}

// failed gives back a turn of which no host came.
func (p *pool) failed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all.Done()
	p.busy--
	p.nextLocked()
}

// came is told that a leave has led to a host that is ready.
func (p *pool) came() { p.all.Done() }

// born is told of a host that has begun. One that comes too late is ended.
func (p *pool) born(h *host) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live == nil {
		p.live = make(map[*host]bool)
	}
	p.live[h] = true
	p.all.Add(2) // who reads from it, and who waits for it
	if p.closed {
		h.kill()
	}
}

// gone is told of a host that has ended. It may have been idle.
func (p *pool) gone(h *host) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.live, h)
	if i := slices.Index(p.idle, h); i >= 0 {
		p.idle = slices.Delete(p.idle, i, i+1)
	}
}

// tidy ends those that have been idle for long.
func (p *pool) tidy() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = nil
	now := time.Now()
	for len(p.idle) > 0 {
		left := p.idle[0].since.Add(p.rest).Sub(now)
		if left > 0 {
			p.timer = time.AfterFunc(left, p.tidy)
			return
		}
		p.idle[0].kill()
		p.idle = slices.Delete(p.idle, 0, 1)
	}
}

// vacate ends the hosts of all owners but one, and returns those that are not yet gone.
// None of them serves a call.
func (p *pool) vacate(owner string) []*host {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = slices.DeleteFunc(p.idle, func(h *host) bool { return h.owner != owner })
	var ending []*host
	for h := range p.live {
		if h.owner != owner {
			h.kill()
			ending = append(ending, h)
		}
	}
	return ending
}

// close ends all hosts, and the wait of those who wait for one.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.timer != nil {
		p.timer.Stop()
	}
	for h := range p.live {
		h.kill()
	}
	p.idle = nil
	for _, w := range p.waiting {
		w.turn <- turn{err: errClosed}
	}
	p.waiting = nil
}
