package manager

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
)

// window is how many jobs with tasks to start are kept in memory.
const window = 64

// add puts a job among those that are served, if it is not there yet.
func (m *Manager) addLocked(j *job) *job {
	if old := m.jobs[j.ID]; old != nil {
		return old
	}
	m.jobs[j.ID] = j
	at, _ := slices.BinarySearchFunc(m.order, j, func(a, b *job) int { return bytes.Compare(a.pos, b.pos) })
	m.order = slices.Insert(m.order, at, j)
	return j
}

// dropLocked forgets a job of which nothing is going on any more, if that is so.
func (m *Manager) dropLocked(j *job) {
	if j.busy() || j.serveable() {
		return
	}
	delete(m.jobs, j.ID)
	m.order = slices.DeleteFunc(m.order, func(o *job) bool { return o == j })
	m.signalLocked(j.ID).fire()
	delete(m.signals, j.ID)
	m.idle.fire()
}

// startableLocked counts the jobs in the window that still have tasks to start.
func (m *Manager) startableLocked() int {
	n := 0
	for _, j := range m.order {
		if j.startable() {
			n++
		}
	}
	return n
}

// accepted takes up a job that has just become visible, or whose tasks have
// become more. A job beyond the window stays on disk and is read in its turn.
func (m *Manager) accepted(j *navvy.Job, state engine.State, first *engine.Chunk) {
	m.mu.Lock()
	defer m.mu.Unlock()
	served := m.jobs[j.ID]
	if served == nil {
		pos := engine.Position(j)
		inWindow := bytes.Compare(pos, m.behind) <= 0
		room := !m.more && m.startableLocked() < window
		if !j.Detached || inWindow || room {
			served = m.addLocked(newJob(j, state, m.eng.Epoch()))
			served.chunk = first
			served.begin()
			if !inWindow && room {
				m.behind = pos
			}
		} else {
			m.more = true
		}
	}
	if served != nil {
		served.update(state, m.eng.Epoch())
		m.signalLocked(j.ID).fire()
	}
}

// update takes a newer state of the job over.
func (j *job) update(state engine.State, epoch uint32) {
	j.state = state
	j.held = state.HeldIn(epoch)
}

// begin puts the cursor at the start.
func (j *job) begin() {
	j.cursor = cursor{}
	if j.Shuffle != 0 {
		j.cursor.shuffled = newShuffle(j.Shuffle, j.state.Total)
	}
}

// refill reads the next queued jobs into the window.
func (m *Manager) refill(ctx context.Context) error {
	m.mu.Lock()
	after := m.behind
	m.mu.Unlock()
	ids, last, err := m.eng.QueuedAfter(ctx, navvy.DefaultQueue, after, window)
	if err != nil {
		return fmt.Errorf("manager: read the queue: %w", err)
	}
	for _, id := range ids {
		if err := m.load(ctx, id); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if bytes.Equal(m.behind, after) {
		m.behind = last
		m.more = len(ids) == window
	}
	if !m.more {
		m.idle.fire()
	}
	return nil
}

// load takes a job up from disk. One whose client died with an earlier process
// is held for good instead.
func (m *Manager) load(ctx context.Context, id navvy.JobID) error {
	m.mu.Lock()
	served := m.jobs[id] != nil
	m.mu.Unlock()
	if served {
		return nil
	}
	job, state, err := m.eng.Job(ctx, id)
	if errors.Is(err, navvy.ErrNotFound) {
		return nil // removed in between
	} else if err != nil {
		return err
	}
	if state.HeldIn(m.eng.Epoch()) {
		_, err := m.eng.Hold(ctx, id, "navvy ended while the job ran")
		return ignoreGone(err)
	}
	j := newJob(job, state, m.eng.Epoch())
	if err := m.read(ctx, j); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if j.serveable() {
		m.addLocked(j)
	}
	return nil
}

// ignoreGone forgives that a job was removed in between.
func ignoreGone(err error) error {
	if errors.Is(err, navvy.ErrNotFound) {
		return nil
	}
	return err
}

// read fills in which tasks of a job are answered and which were tried.
func (m *Manager) read(ctx context.Context, j *job) error {
	answered, tried, err := m.progress(ctx, j.ID, &j.state)
	if err != nil {
		return err
	}
	j.answered, j.tries = answered, tried
	j.begin()
	return nil
}

// reread does the same to a job that is being served, after a retry.
func (m *Manager) reread(ctx context.Context, j *job) error {
	m.settling.Lock() // no result comes in meanwhile
	defer m.settling.Unlock()
	state, err := m.eng.State(ctx, j.ID)
	if errors.Is(err, navvy.ErrNotFound) {
		state, err = engine.State{Stopped: true, Removed: true}, nil
	}
	if err != nil {
		return err
	}
	answered, tried, err := m.progress(ctx, j.ID, &state)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	j.update(state, m.eng.Epoch())
	j.answered, j.tries, j.stale, j.warned = answered, tried, false, false
	j.begin()
	m.dropLocked(j)
	return nil
}

func (m *Manager) progress(ctx context.Context, id navvy.JobID, state *engine.State) (*roaring.Bitmap, map[int64]tries, error) {
	answered := roaring.New()
	if state.Succeeded+state.Failed > 0 {
		if err := m.eng.Answered(ctx, id, func(index int64) error {
			answered.Add(uint32(index))
			return nil
		}); err != nil {
			return nil, nil, fmt.Errorf("manager: read what is answered of job %s: %w", id, err)
		}
		answered.RunOptimize()
	}
	tried := map[int64]tries{}
	err := m.eng.Attempts(ctx, id, -1, func(task navvy.TaskID, a *navvy.Attempt) error {
		if !answered.Contains(uint32(task.Index)) {
			t := tried[task.Index]
			t.count(a)
			tried[task.Index] = t
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("manager: read the attempts of job %s: %w", id, err)
	}
	return answered, tried, nil
}

// count adds an attempt that left a record.
func (t *tries) count(a *navvy.Attempt) {
	t.last = max(t.last, a.ID.Number)
	switch a.Outcome {
	case navvy.OutcomeFailed:
		t.failed++
	case navvy.OutcomeLost:
		t.lost++
	default: // the others do not count
	}
}
