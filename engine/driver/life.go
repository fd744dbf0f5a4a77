package driver

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/navvy-run/navvy"
)

// Life is what a store with goroutines of its own needs to end well: it admits
// calls, keeps why the store has failed, and has it wound up once. Its methods
// may be called at once.
type Life struct {
	place  string
	windUp func()

	mu      sync.RWMutex // guards ended
	ended   bool         // no new call may begin
	calls   sync.WaitGroup
	cause   atomic.Pointer[error] // why the store has failed
	closing atomic.Bool
	ending  sync.Once
	gone    chan struct{} // closed when everything is released
}

// NewLife begins the life of the store in a place. windUp releases everything:
// it is called once, in a goroutine of its own, when no new call may begin any
// more, and waits with AwaitCalls for those under way.
func NewLife(place string, windUp func()) *Life {
	return &Life{place: place, windUp: windUp, gone: make(chan struct{})}
}

// Begin admits one call, which must end with Done.
func (l *Life) Begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", navvy.ErrUnavailable, err)
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.ended {
		return l.Over()
	}
	l.calls.Add(1)
	return nil
}

// Done ends a call that Begin has admitted.
func (l *Life) Done() { l.calls.Done() }

// Go runs fn as a further call, within one that Begin has admitted.
func (l *Life) Go(fn func()) { l.calls.Go(fn) }

// AwaitCalls returns when all calls have ended.
func (l *Life) AwaitCalls() { l.calls.Wait() }

// Over tells why the store takes no calls, ErrClosed or its failure; nil if it does.
func (l *Life) Over() error {
	if l.closing.Load() {
		return navvy.ErrClosed
	}
	return l.Failure()
}

// Failure is the error of a failed store, which wraps ErrUnavailable; else nil.
func (l *Life) Failure() error {
	if cause := l.Cause(); cause != nil {
		return fmt.Errorf("store in %s has failed: %w: %w", l.place, navvy.ErrUnavailable, cause)
	}
	return nil
}

// Cause is why the store has failed; nil if it has not.
func (l *Life) Cause() error {
	if cause := l.cause.Load(); cause != nil {
		return *cause
	}
	return nil
}

// Fail keeps why the store has failed, and tells whether this is the first cause.
func (l *Life) Fail(cause error) bool { return l.cause.CompareAndSwap(nil, &cause) }

// Closing tells whether somebody closes the store.
func (l *Life) Closing() bool { return l.closing.Load() }

// Close notes that somebody closes the store; false if somebody did before.
func (l *Life) Close() bool { return !l.closing.Swap(true) }

// End lets no further call begin, and winds the store up behind the caller's back.
func (l *Life) End() {
	l.ending.Do(func() {
		l.mu.Lock()
		l.ended = true
		l.mu.Unlock()
		go func() {
			defer close(l.gone)
			l.windUp()
		}()
	})
}

// AwaitEnd returns when the store is wound up.
func (l *Life) AwaitEnd() { <-l.gone }
