// Package meter measures how long things take, from many goroutines at once and
// without a lock. What reads the numbers is elsewhere.
package meter

import (
	"sync/atomic"
	"time"
)

// bounds are the upper bounds of the classes, shortest first.
var bounds = [...]time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second,
	time.Minute, 5 * time.Minute, time.Hour,
}

// Histogram counts durations in classes from 100 µs to an hour. Its zero value is
// ready, and its methods may be called at once.
type Histogram struct {
	classes [len(bounds) + 1]atomic.Uint64
	sum     atomic.Int64
}

// Observe counts a duration; a negative one, from clocks that differ, as nothing.
func (h *Histogram) Observe(d time.Duration) {
	d = max(0, d)
	i := 0
	for i < len(bounds) && d > bounds[i] {
		i++
	}
	h.classes[i].Add(1)
	h.sum.Add(int64(d))
}

// Count is how many durations were counted.
func (h *Histogram) Count() uint64 {
	n, _, _ := h.Read()
	return n
}

// Read gives how many durations were counted, their sum, and how many of them
// were at most as long as each bound, in seconds.
func (h *Histogram) Read() (count uint64, sum time.Duration, within map[float64]uint64) {
	within = make(map[float64]uint64, len(bounds))
	sum = time.Duration(h.sum.Load())
	for i := range h.classes {
		count += h.classes[i].Load()
		if i < len(bounds) {
			within[bounds[i].Seconds()] = count
		}
	}
	return count, sum, within
}
