package queue

import (
	"context"
	"errors"
	"sync"
)

// batcher does things together that are asked for at once: what comes while some are being
// done waits, and goes together. A lone one is done at once.
type batcher[T any] struct {
	most    int // at once
	flights int // how many batches are on their way at once; 0 for one
	do      func([]T) []error
	work    *sync.WaitGroup // counts the goroutine that does them

	mu      sync.Mutex
	waiting []*request[T]
	running int           // batches that are on their way
	closed  error         // why nothing more is taken; nil while things are
	done    chan struct{} // closed when nothing is left to do; nil if nothing is
}

// request is what one call asks for.
type request[T any] struct {
	items []T
	errs  []error
	left  int
	done  chan struct{}
}

// add does the items and tells how that went, or the cause of ctx's end if that comes first.
func (b *batcher[T]) add(ctx context.Context, items []T) error {
	if len(items) == 0 {
		return nil
	}
	r := &request[T]{items: items, left: len(items), done: make(chan struct{})}
	b.mu.Lock()
	if b.closed != nil {
		b.mu.Unlock()
		return b.closed
	}
	b.waiting = append(b.waiting, r)
	if b.done == nil {
		b.done = make(chan struct{})
	}
	if b.running < max(b.flights, 1) {
		b.running++
		b.work.Go(b.run)
	}
	b.mu.Unlock()
	select {
	case <-r.done:
		return errors.Join(r.errs...)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// run does what waits until nothing does.
func (b *batcher[T]) run() {
	for {
		items, whose := b.next()
		if len(items) == 0 {
			return
		}
		b.tell(whose, b.do(items))
	}
}

// tell tells whoever asked how it went.
func (b *batcher[T]) tell(whose []*request[T], errs []error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, r := range whose {
		if errs != nil && errs[i] != nil {
			r.errs = append(r.errs, errs[i])
		}
		if r.left--; r.left == 0 {
			close(r.done)
		}
	}
}

// next takes as many items as go together, and whose they are. What is left of a call of
// which some are on their way waits for them, so that they keep their order.
func (b *batcher[T]) next() (items []T, whose []*request[T]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.waiting) > 0 && len(items) < b.most {
		r := b.waiting[0]
		if r.left > len(r.items) {
			break
		}
		n := min(len(r.items), b.most-len(items))
		items = append(items, r.items[:n]...)
		for range n {
			whose = append(whose, r)
		}
		if r.items = r.items[n:]; len(r.items) == 0 {
			b.waiting[0] = nil
			b.waiting = b.waiting[1:]
		}
	}
	if len(items) > 0 {
		return items, whose
	}
	if b.running--; b.running == 0 {
		close(b.done)
		b.done = nil
	}
	return items, whose
}

// close takes nothing more. What waits is still done.
func (b *batcher[T]) close(why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = why
}

// idle waits until nothing is left to do, as long as ctx lasts.
func (b *batcher[T]) idle(ctx context.Context) error {
	b.mu.Lock()
	done := b.done
	b.mu.Unlock()
	if done == nil {
		return nil
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
