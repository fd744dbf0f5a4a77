// Package errand does what is left to do behind attempts, such as removing what they have begun
// once their results are kept: a few errands at once, and each as often as it takes.
package errand

import (
	"context"
	"sync"
	"time"

	"github.com/navvy-run/navvy/internal/pause"
)

// Queue is errands in the order in which they came. All methods may be called at once.
type Queue struct {
	do     func(ctx context.Context, key string) error
	most   int
	pauses pause.Series

	ctx  context.Context //nolint:containedctx // the life of errands, which outlive who adds them
	stop context.CancelFunc
	all  sync.WaitGroup // one for each errand that is not done

	mu     sync.Mutex
	ready  []*errand
	paused map[*errand]*time.Timer // those that failed, until they are done again
	busy   int
	closed bool
}

// errand is one of a queue.
type errand struct {
	key   string
	again pause.Series
}

// New returns an empty queue, of which at most so many errands are done at once. One that fails is
// done again, after pauses, until Close, and keeps no other from being done meanwhile; to tell of
// it is for do.
func New(most int, pauses pause.Series, do func(ctx context.Context, key string) error) *Queue {
	q := &Queue{do: do, most: most, pauses: pauses, paused: map[*errand]*time.Timer{}}
	q.ctx, q.stop = context.WithCancel(context.Background())
	return q
}

// Add has an errand done, and returns at once. After Close it does nothing.
func (q *Queue) Add(key string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	q.all.Add(1)
	q.readyLocked(&errand{key, q.pauses})
}

// readyLocked puts an errand behind the others, and has somebody do it.
func (q *Queue) readyLocked(e *errand) {
	q.ready = append(q.ready, e)
	if q.busy < q.most {
		q.busy++
		go q.work()
	}
}

// work works the queue off.
func (q *Queue) work() {
	for e := q.next(); e != nil; e = q.next() {
		if err := q.do(q.ctx, e.key); err == nil || !q.later(e) {
			q.all.Done()
		}
	}
}

// next takes the next errand; whoever gets none is busy no longer.
func (q *Queue) next() *errand {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.ready) == 0 {
		q.busy--
		return nil
	}
	e := q.ready[0]
	q.ready = q.ready[1:]
	return e
}

// later has an errand done again after a pause; false if there is no later.
func (q *Queue) later(e *errand) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ctx.Err() != nil {
		return false
	}
	q.paused[e] = time.AfterFunc(e.again.Next(), func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.paused[e] != nil { // or it was given up
			delete(q.paused, e)
			q.readyLocked(e)
		}
	})
	return true
}

// giveUp ends the context of errands, and forgets those that are not under way.
func (q *Queue) giveUp() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stop()
	for e, timer := range q.paused {
		timer.Stop()
		delete(q.paused, e)
		q.all.Done()
	}
	for range q.ready {
		q.all.Done()
	}
	q.ready = nil
}

// Close takes no more, and waits until all errands are done, but no longer than patience: then
// the context of those ends that are not. It returns when none is under way.
func (q *Queue) Close(patience time.Duration) {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	defer time.AfterFunc(patience, q.giveUp).Stop()
	q.all.Wait()
	q.giveUp()
}
