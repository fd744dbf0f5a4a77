package answer

import (
	"sync"

	"github.com/navvy-run/navvy/queue"
)

// maxFailures is of how many requests it is remembered that they failed, where brokers do
// not count; one that is forgotten begins anew.
const maxFailures = 10_000

// failures counts the deliveries of requests to this worker, where the broker does not.
type failures struct {
	count bool

	mu sync.Mutex
	of map[string]int
}

// attempt is the number of a delivery.
func (f *failures) attempt(l *queue.Lease) int {
	if !f.count {
		return l.Attempt()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.of == nil {
		f.of = map[string]int{}
	}
	if _, known := f.of[l.ID()]; !known && len(f.of) >= maxFailures {
		for id := range f.of {
			delete(f.of, id)
			break
		}
	}
	f.of[l.ID()]++
	return f.of[l.ID()]
}

// forget drops a request that will not come again.
func (f *failures) forget(l *queue.Lease) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.of, l.ID())
}
