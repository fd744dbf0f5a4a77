package manager

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
)

// Want says which tasks Wanted counts.
type Want struct {
	// Queue is that of their jobs. Empty for all.
	Queue string
	// Kind is that of their work. Empty for all.
	Kind string
	// Labels are those of the workers that are meant: tasks that ask for others are not
	// counted. Nil for all tasks.
	Labels map[string]string
}

// fits tells whether tasks of a job are meant.
func (w *Want) fits(j *navvy.Job) bool {
	if w.Queue != "" && w.Queue != j.Queue || w.Kind != "" && w.Kind != j.Spec.Kind() {
		return false
	}
	if w.Labels == nil {
		return true
	}
	for name, value := range j.Spec.Labels {
		if have, ok := w.Labels[name]; !ok || have != value {
			return false
		}
	}
	return true
}

// Wanted are tasks that workers are wanted for.
type Wanted struct {
	// Waiting could start now if there were workers enough: more than a job or a queue lets
	// run at once are not counted, nor is what is held or in a queue that is paused.
	Waiting int64
	// Running have an attempt, or one whose report is on its way to disk.
	Running int64
}

// Total is all of them.
func (w Wanted) Total() int64 { return w.Waiting + w.Running }

// WantQueues gives the queues in which there are jobs that wait or run, each once.
func (m *Manager) WantQueues() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := map[string]struct{}{}
	for _, j := range m.order {
		names[j.Queue] = struct{}{}
	}
	for name, l := range m.lines {
		if l.more {
			names[name.Queue] = struct{}{}
		}
	}
	return slices.Collect(maps.Keys(names))
}

// maxBehind is how many jobs behind the window of a line are looked at to count their tasks.
const maxBehind = 1000

// ofQueue counts the tasks of one queue.
type ofQueue struct {
	Wanted
	room int64 // how many more the queue lets run; negative for any number
}

// Wanted counts tasks. Of each line of jobs it looks at those being served and at the first
// thousand behind them; it asks the store only if there are any.
func (m *Manager) Wanted(ctx context.Context, w *Want) (Wanted, error) {
	queues := map[string]*ofQueue{}
	lines := m.countServed(w, queues)
	for _, l := range lines {
		if err := m.countBehind(ctx, w, l, queues); err != nil {
			return Wanted{}, err
		}
	}
	var all Wanted
	for _, q := range queues {
		if q.room >= 0 {
			q.Waiting = min(q.Waiting, q.room)
		}
		all.Waiting += q.Waiting
		all.Running += q.Running
	}
	return all, nil
}

// unread is a line that has jobs behind its window.
type unread struct {
	name   engine.Line
	behind []byte
}

// countServed counts the tasks of the jobs in memory, and gives the lines that have more.
func (m *Manager) countServed(w *Want, queues map[string]*ofQueue) []unread {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, j := range m.order {
		if !w.fits(j.Job) {
			continue
		}
		q := m.ofQueueLocked(queues, j.Queue)
		running := int64(len(j.running) + len(j.settling))
		q.Running += running
		if j.serveable() {
			q.Waiting += waiting(j.state.Pending(), int64(j.limit(m.opts.Parallelism)), running)
		}
	}
	var lines []unread
	for name, l := range m.lines {
		if l.more && (w.Queue == "" || w.Queue == name.Queue) {
			m.ofQueueLocked(queues, name.Queue)
			lines = append(lines, unread{name, slices.Clone(l.behind)})
		}
	}
	return lines
}

// waiting is how many tasks of a job could start, of so many without a result.
func waiting(pending, limit, running int64) int64 {
	return max(0, min(pending, limit)-running)
}

func (m *Manager) ofQueueLocked(queues map[string]*ofQueue, name string) *ofQueue {
	if q := queues[name]; q != nil {
		return q
	}
	q := &ofQueue{room: -1}
	if known := m.queues[name]; known != nil {
		switch {
		case known.Paused:
			q.room = 0
		case known.Concurrency > 0:
			q.room = int64(max(0, known.Concurrency-known.running))
		}
	}
	queues[name] = q
	return q
}

// countBehind counts the tasks of jobs that are not in memory.
func (m *Manager) countBehind(ctx context.Context, w *Want, l unread, queues map[string]*ofQueue) error {
	q := queues[l.name.Queue]
	if q.room >= 0 && q.Waiting >= q.room {
		return nil
	}
	ids, _, err := m.eng.QueuedAfter(ctx, l.name, l.behind, maxBehind)
	if err != nil {
		return fmt.Errorf("manager: count what waits: %w", err)
	}
	for _, id := range ids {
		job, state, err := m.eng.Job(ctx, id)
		if errors.Is(err, navvy.ErrNotFound) || errors.Is(err, navvy.ErrCorrupt) {
			continue // removed in between, or never served
		} else if err != nil {
			return fmt.Errorf("manager: count what waits: %w", err)
		}
		if !w.fits(job) || state.HeldIn(m.eng.Epoch()) || state.Ended() || m.served(id) {
			continue
		}
		j := newJob(job, state, m.eng.Epoch())
		q.Waiting += waiting(state.Pending(), int64(j.limit(m.opts.Parallelism)), 0)
	}
	return nil
}

// served tells whether a job is in memory, where it was counted.
func (m *Manager) served(id navvy.JobID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.jobs[id] != nil
}

// WantedChanged gives a channel that is closed at the next change of what Wanted may say. It
// may be closed without one.
func (m *Manager) WantedChanged() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.wanted.wait()
}
