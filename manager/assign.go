package manager

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/navvy-run/navvy"
)

// halfJitter draws a pause between half of the longest one and all of it.
func halfJitter(longest time.Duration) time.Duration {
	return longest/2 + rand.N(longest/2+1)
}

// pump starts all that can be started. Whatever has to be read from the engine
// for that is read outside the lock. Only one goroutine pumps at a time; others
// leave word that something has changed.
func (m *Manager) pump(ctx context.Context) error {
	m.mu.Lock()
	if m.pumping {
		m.again = true
		m.mu.Unlock()
		return nil
	}
	m.pumping = true
	for {
		m.again = false
		read := m.assignLocked()
		if read == nil && !m.again {
			m.pumping = false
			m.mu.Unlock()
			return nil
		}
		if read != nil {
			m.mu.Unlock()
			err := read(context.WithoutCancel(ctx)) // others rely on it
			m.mu.Lock()
			if err != nil {
				m.pumping = false
				m.mu.Unlock()
				m.poke() // who left word meanwhile is not forgotten
				return err
			}
		}
	}
}

// assignLocked hands tasks to workers until there is no room, or nothing to
// start, or something must be read first: it then returns how.
func (m *Manager) assignLocked() func(context.Context) error {
	if m.draining || m.failure != nil || len(m.sessions) == 0 || m.opts.Full() {
		return nil
	}
	if m.more && m.startableLocked() < window {
		return m.refill
	}
	now := m.opts.Clock()
	shared := m.sharedRoomLocked()
	for _, j := range slices.Clone(m.order) {
		room := j.limit(m.opts.Parallelism) - len(j.running)
		if j.Detached {
			room = min(room, shared)
		}
		started, read := m.assignJobLocked(j, room, now)
		if read != nil {
			return read
		}
		if j.Detached {
			shared -= started
		}
	}
	return nil
}

// assignJobLocked starts at most room tasks of one job, and tells how many; or
// what must be read first.
func (m *Manager) assignJobLocked(j *job, room int, now time.Time) (started int, read func(context.Context) error) {
	for ; started < room && j.startable() && !j.earliest.After(now); started++ {
		s := m.chooseLocked(j)
		if s == nil {
			break
		}
		if j.stale {
			return started, func(ctx context.Context) error { return m.orHold(ctx, j, m.reread(ctx, j)) }
		}
		index, ok := j.nextTask(now)
		if !ok {
			break
		}
		input, ok := j.chunk.Get(index)
		if !ok {
			j.putBack(index)
			return started, func(ctx context.Context) error { return m.orHold(ctx, j, m.readInputs(ctx, j, index)) }
		}
		m.startLocked(j, s, index, input, now)
	}
	return started, nil
}

// orHold holds a job whose data cannot be read, so that others go on.
func (m *Manager) orHold(ctx context.Context, j *job, err error) error {
	if !errors.Is(err, navvy.ErrCorrupt) {
		return err
	}
	m.opts.Logger.Error("a job is held: its data are damaged", "job", j.ID, "error", err)
	state, holdErr := m.eng.Hold(ctx, j.ID, "its data are damaged (navvy verify says where): "+err.Error())
	if errors.Is(holdErr, navvy.ErrCorrupt) {
		m.mu.Lock()
		defer m.mu.Unlock()
		j.held = true // as long as this process lives
		m.dropLocked(j)
		return nil
	}
	if holdErr == nil {
		m.took(j.ID, state, nil)
	}
	return ignoreGone(holdErr)
}

// readInputs brings the inputs around index into memory.
func (m *Manager) readInputs(ctx context.Context, j *job, index int64) error {
	chunk, err := m.eng.Inputs(ctx, j.ID, index)
	if errors.Is(err, navvy.ErrNotFound) {
		// The job was removed in between, or its inputs are not what its state says.
		if _, gone := m.eng.State(ctx, j.ID); errors.Is(gone, navvy.ErrNotFound) {
			return m.reread(ctx, j)
		}
		return fmt.Errorf("manager: job %s has no input %d: %w", j.ID, index, navvy.ErrCorrupt)
	} else if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	j.chunk = chunk
	return nil
}

// nextTask takes the next task off the job: one whose pause is over, else a new one.
func (j *job) nextTask(now time.Time) (int64, bool) {
	if index, ok := j.due(now); ok {
		return index, true
	}
	for {
		index, ok := j.cursor.peek(j.state.Total)
		if !ok {
			return 0, false
		}
		j.cursor.advance()
		if !j.taken(index) {
			return index, true
		}
	}
}

// putBack undoes nextTask: the task is the next one again, before all that wait,
// or tasks of different chunks would push each other's inputs out for ever.
func (j *job) putBack(index int64) { j.runAgain(index, time.Time{}) }

// startLocked makes an attempt of the task and gives it to the worker.
func (m *Manager) startLocked(j *job, s *Session, index int64, input []byte, now time.Time) {
	t := j.tries[index]
	a := &attempt{
		job: j, index: index, id: navvy.AttemptID{Number: max(t.last, j.state.Round) + 1, Epoch: m.eng.Epoch()},
		slot: j.slots.take(), started: now, session: s, input: input,
	}
	if m.opts.Lease > 0 {
		a.expires = now.Add(m.opts.Lease)
	}
	a.watch = m.watchedLocked(a.task())
	j.running[index] = a
	j.earliest = now.Add(j.Delay)
	m.signalLocked(j.ID).fire() // who waits for its output, or shows how many run
	s.assignLocked(a)
}

// dueLocked gives the instants at which something will be due.
func (m *Manager) dueLocked() []time.Time {
	var due []time.Time
	now := m.opts.Clock()
	for _, j := range m.order {
		if j.startable() && j.earliest.After(now) {
			due = append(due, j.earliest)
		} else if j.serveable() && len(j.again) > 0 && j.again[0].at.After(now) {
			due = append(due, j.again[0].at) // what was due before waits for room, not for time
		}
		if m.opts.Lease > 0 {
			for _, a := range j.running {
				due = append(due, a.expires)
			}
		}
	}
	return due
}
