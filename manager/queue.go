package manager

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/navvy-run/navvy"
)

// queue is what the jobs of one queue have in common. The manager's lock guards it.
type queue struct {
	navvy.QueueSettings
	name     string
	jobs     int // in memory
	running  int // attempts of all of them
	bucket   bucket
	policy   policy // nil: the manager's
	answered lately
}

// SetQueue gives a queue other settings, which are valid; the zero value takes them
// away. They hold from the next start on, and as long as this manager lives.
func (m *Manager) SetQueue(name string, s navvy.QueueSettings) {
	m.mu.Lock()
	q := m.queueLocked(name)
	q.QueueSettings = s
	q.bucket.set(s.Rate)
	if q.policy = nil; s.Dispatch != "" {
		q.policy = policyOf(s.Dispatch)
	}
	for _, j := range m.order {
		if j.queue == q {
			m.fireLocked(j.ID) // who waits is told why
		}
	}
	m.wanted.fire()
	m.forgetQueueLocked(q)
	m.mu.Unlock()
	m.poke()
}

// queueLocked gives the queue of that name.
func (m *Manager) queueLocked(name string) *queue {
	q := m.queues[name]
	if q == nil {
		q = &queue{name: name}
		m.queues[name] = q
	}
	return q
}

// forgetQueueLocked drops a queue of which there is nothing to know.
func (m *Manager) forgetQueueLocked(q *queue) {
	if q.jobs == 0 && q.QueueSettings == (navvy.QueueSettings{}) {
		delete(m.queues, q.name)
	}
}

// room is how many more tasks of the queue may start now.
func (q *queue) room(now time.Time) int {
	if q.Paused {
		return 0
	}
	room := math.MaxInt
	if q.Concurrency > 0 {
		room = q.Concurrency - q.running
	}
	if q.Rate > 0 {
		room = min(room, q.bucket.room(now))
	}
	return room
}

// started counts a start.
func (q *queue) started(now time.Time) {
	if q.Rate > 0 {
		q.bucket.take(now)
	}
}

// next is when the rate lets the next task start that it keeps from starting now; zero
// if it keeps none. Tasks that end, and new settings, are told of anyhow.
func (q *queue) next(now time.Time) time.Time {
	if q.Rate == 0 || q.Paused || q.jobs == 0 || q.bucket.room(now) > 0 {
		return time.Time{}
	}
	return q.bucket.next(now)
}

// queuesDueLocked adds the instants of the next tokens to those at which something is due.
func (m *Manager) queuesDueLocked(due []time.Time, now time.Time) []time.Time {
	for _, q := range m.queues {
		if at := q.next(now); at.After(now) {
			due = append(due, at)
		}
	}
	return due
}

// why says what of the queue keeps a task from starting now; empty if nothing does.
func (q *queue) why(now time.Time) string {
	switch {
	case q.Paused:
		return fmt.Sprintf("queue %s is paused", q.name)
	case q.Concurrency > 0 && q.running >= q.Concurrency:
		return fmt.Sprintf("queue %s runs no more than %d tasks at once", q.name, q.Concurrency)
	case q.Rate > 0 && q.bucket.room(now) <= 0:
		return fmt.Sprintf("queue %s starts no more than %s tasks a second", q.name, strconv.FormatFloat(q.Rate, 'g', 6, 64))
	}
	return ""
}

// bucket lets so many through in a time: it holds as many tokens as come in a second,
// and at least one. Instead of tokens it knows when it will be full, which is exact
// and nothing has to be counted up.
type bucket struct {
	every time.Duration // between two tokens
	size  time.Duration // in which it becomes full
	full  time.Time
}

// set gives it another rate, in tokens a second; what was taken stays taken.
func (b *bucket) set(rate float64) {
	if rate == 0 {
		*b = bucket{}
		return
	}
	b.every = time.Duration(float64(time.Second) / rate)
	b.size = b.every * time.Duration(max(1, math.Floor(rate)))
}

// missing is in how much time it will be full. A clock that was set back, or a rate
// that was raised, makes it no longer than from empty on.
func (b *bucket) missing(now time.Time) time.Duration {
	return min(max(0, b.full.Sub(now)), b.size)
}

// room is how many tokens there are.
func (b *bucket) room(now time.Time) int { return int((b.size - b.missing(now)) / b.every) }

// take takes a token, of which there is one.
func (b *bucket) take(now time.Time) { b.full = now.Add(b.missing(now) + b.every) }

// next is when there will be a token, if there is none.
func (b *bucket) next(now time.Time) time.Time {
	return now.Add(b.missing(now) - (b.size - b.every))
}
