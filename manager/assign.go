package manager

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/navvy-run/navvy"
)

// halfJitter draws a pause between half of the longest one and all of it.
func halfJitter(longest time.Duration) time.Duration {
	return longest/2 + rand.N(longest/2+1)
}

// longestPump is how long a caller reads for others; then Run goes on. Who reports, or
// settles, has other things to do, and leases that depend on them.
const longestPump = 5 * time.Millisecond

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
	begun := time.Now()
	for {
		m.again = false
		read := m.assignLocked()
		if read == nil && !m.again {
			m.pumping = false
			m.wakeForLocked()
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
			if time.Since(begun) > longestPump {
				m.pumping = false
				m.mu.Unlock()
				m.poke()
				return nil
			}
		}
	}
}

// wakeForLocked wakes Run if something is due now before it would wake by itself.
func (m *Manager) wakeForLocked() {
	for _, at := range m.dueLocked() {
		if at.Before(m.wakes) {
			m.wakes = at
			m.poke()
		}
	}
}

// assignLocked hands tasks to workers until there is no room, or nothing to
// start, or something must be read first: it then returns how.
func (m *Manager) assignLocked() func(context.Context) error {
	if m.draining || m.failure != nil || len(m.sessions) == 0 || m.opts.Full() {
		return nil
	}
	if !m.linesKnown {
		return m.readLines
	}
	if name, ok := m.unreadLocked(); ok {
		return func(ctx context.Context) error { return m.refill(ctx, name) }
	}
	now := m.opts.Clock()
	if m.openLocked(); len(m.open) == 0 {
		return nil
	}
	m.policy.begin(m)
	jobs := m.candidatesLocked(now)
	if m.policy.fair() {
		return m.assignFairlyLocked(jobs, now)
	}
	for _, j := range jobs {
		if _, read := m.assignJobLocked(j, math.MaxInt, now); read != nil {
			return read
		}
	}
	return nil
}

// openLocked looks which workers take tasks. Most do not, when there is much to do.
func (m *Manager) openLocked() {
	m.open = m.open[:0]
	for _, s := range m.sessions {
		if s.openLocked() {
			m.open = append(m.open, s)
		}
	}
}

// candidatesLocked are the jobs of which tasks may start now, in order of service.
func (m *Manager) candidatesLocked(now time.Time) []*job {
	awaiting := m.awaitingLocked(now)
	jobs := m.candidates[:0]
	for _, j := range m.order {
		if j.startable() && !j.earliest.After(now) && !(awaiting && j.Accepted.Before(m.began)) && j.queue.room(now) > 0 {
			jobs = append(jobs, j)
		}
	}
	m.candidates = jobs
	return jobs
}

// assignFairlyLocked starts tasks of the jobs in turn, as their shares say.
func (m *Manager) assignFairlyLocked(jobs []*job, now time.Time) func(context.Context) error {
	if len(jobs) == 0 {
		return nil
	}
	running := map[string]int{}
	for _, j := range m.order {
		running[j.Owner] += len(j.running)
	}
	s := newShares(jobs, running)
	for j := s.next(); j != nil; j = s.next() {
		most := 1
		if s.alone() {
			most = math.MaxInt
		}
		started, read := m.assignJobLocked(j, most, now)
		switch {
		case read != nil:
			return read
		case started == 1 && most == 1:
			s.ran()
		default:
			s.drop()
		}
	}
	return nil
}

// assignJobLocked starts at most so many tasks of one job as may run, and tells how
// many it has started, or what must be read first.
func (m *Manager) assignJobLocked(j *job, most int, now time.Time) (started int, read func(context.Context) error) {
	way := m.policyLocked(j)
	room := min(most, j.limit(m.opts.Parallelism)-len(j.running), way.room(j), j.queue.room(now))
	for ; started < room && j.startable() && !j.earliest.After(now); started++ {
		s := way.choose(m, j)
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
		if where := j.tries[index].where; where == s.info.Name && where != "" {
			if s = m.elsewhereLocked(j, s, index, now); s == nil {
				started-- // it waits, another one may start
				continue
			}
		}
		m.startLocked(j, s, index, input, now)
		way.started(j)
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
	m.leaseLocked(a, now)
	a.watch = m.watchedLocked(a.task())
	j.running[index] = a
	j.earliest = now.Add(j.Delay)
	j.queue.started(now)
	m.meters.started(j, now)
	m.fireLocked(j.ID) // who waits for its output, or shows how many run
	m.turn++
	s.turn, s.wanted = m.turn, max(0, s.wanted-1)
	s.assignLocked(a)
}

// dueLocked gives the instants at which something will be due.
func (m *Manager) dueLocked() []time.Time {
	var due []time.Time
	now := m.opts.Clock()
	leased := false
	for _, j := range m.order {
		if j.startable() && j.earliest.After(now) {
			due = append(due, j.earliest)
		} else if j.serveable() && len(j.again) > 0 && j.again[0].at.After(now) {
			due = append(due, j.again[0].at) // what was due before waits for room, not for time
		}
		leased = leased || len(j.running) > 0
	}
	if leased && m.opts.Lease > 0 {
		due = append(due, m.leaseEnd)
	}
	for _, c := range m.conducts {
		if c.pause > 0 && c.until.After(now) {
			due = append(due, c.until)
		}
	}
	if m.awaitingLocked(now) {
		due = append(due, m.awaitUntil)
	}
	return m.queuesDueLocked(due, now)
}
