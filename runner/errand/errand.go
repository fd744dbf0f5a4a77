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

	mu     sync.Mutex
	keys   []string
	busy   int
	closed bool
	all    sync.WaitGroup
}

// New returns an empty queue, of which at most so many errands are done at once. One that fails is
// done again, after pauses, until Close; to tell of it is for do.
func New(most int, pauses pause.Series, do func(ctx context.Context, key string) error) *Queue {
	q := &Queue{do: do, most: most, pauses: pauses}
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
	q.keys = append(q.keys, key)
	if q.busy < q.most {
		q.busy++
		q.all.Go(q.work)
	}
}

// work works the queue off.
func (q *Queue) work() {
	for {
		key, ok := q.next()
		if !ok {
			return
		}
		for again := q.pauses; q.do(q.ctx, key) != nil; {
			if again.Wait(q.ctx) != nil {
				break
			}
		}
	}
}

// next takes the next errand; whoever gets none is busy no longer.
func (q *Queue) next() (string, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.keys) == 0 || q.ctx.Err() != nil {
		q.busy--
		return "", false
	}
	key := q.keys[0]
	q.keys = q.keys[1:]
	return key, true
}

// Close takes no more, and waits until all errands are done, but no longer than patience: then
// the context of those ends that are not. It returns when none is under way.
func (q *Queue) Close(patience time.Duration) {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	defer time.AfterFunc(patience, q.stop).Stop()
	q.all.Wait()
	q.stop()
}
