package manager

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/navvy-run/navvy"
)

// Held is an attempt that a worker brings along from an earlier session: it runs, or
// has ended and the worker does not know what became of its report.
type Held struct {
	Ref
	Slot int
}

// Return begins the session of a worker that may have been here before, also with
// an earlier manager of the same engine. An earlier session of the same name is over;
// but if it is another process's, which is there, the error wraps navvy.ErrExists.
// Held attempts that still have their lease go on under their ids, as do those that
// an earlier manager gave out, if their tasks are open: their leases begin anew. The
// others the worker is told to end. What was assigned to it and is not held is lost.
func (m *Manager) Return(ctx context.Context, info Worker, held []Held) (*Session, error) {
	done, err := m.aloneAs(ctx, info.Name)
	if err != nil {
		return nil, err
	}
	defer done()
	s := m.newSession(info)
	m.mu.Lock()
	if m.otherProcessLocked(&info) {
		m.mu.Unlock()
		return nil, fmt.Errorf("worker %s is connected from another process: a certificate, and a directory of a worker, are for one at a time: %w", info.Name, navvy.ErrExists)
	}
	before := m.supersedeLocked(info.Name)
	m.mu.Unlock()
	for i := range held {
		if err := m.takeUp(ctx, s, before, &held[i]); err != nil {
			s.Close()
			m.mu.Lock()
			m.parted[info.Name] = append(m.parted[info.Name], before...)
			m.mu.Unlock()
			return nil, err
		}
	}
	m.mu.Lock()
	for _, old := range before {
		m.loseAllLocked(old, "its worker came back without it")
	}
	delete(m.awaited, info.Name)
	m.joinLocked(s)
	m.mu.Unlock()
	m.poke()
	return s, nil
}

// aloneAs waits until no other session of that name is just beginning: it would find
// neither what the worker had nor what it is being given.
func (m *Manager) aloneAs(ctx context.Context, name string) (done func(), err error) {
	over := make(chan struct{})
	for {
		m.mu.Lock()
		other := m.returning[name]
		if other == nil {
			m.returning[name] = over
			m.mu.Unlock()
			break
		}
		m.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-other:
		}
	}
	return func() {
		m.mu.Lock()
		delete(m.returning, name)
		m.mu.Unlock()
		close(over)
	}, nil
}

// otherProcessLocked tells whether another process is there under the worker's name. One
// that has not been heard of for as long as it may be silent gives way: it was killed,
// most likely, on a machine that could not say so.
func (m *Manager) otherProcessLocked(info *Worker) bool {
	now := m.opts.Clock()
	return slices.ContainsFunc(m.sessions, func(o *Session) bool {
		silence := m.Silence()
		if o.running > 0 {
			silence = m.opts.Lease
		}
		return o.info.Name == info.Name && o.info.Process != info.Process && o.info.Process != "" && info.Process != "" && o.heard.Add(silence).After(now)
	})
}

// supersedeLocked ends the sessions that a worker has, and gives those whose
// attempts it may take up.
func (m *Manager) supersedeLocked(name string) []*Session {
	for _, old := range slices.Clone(m.sessions) {
		if old.info.Name == name && old.info.Returns {
			m.closeLocked(old)
		}
	}
	before := m.parted[name]
	delete(m.parted, name)
	return before
}

// partLocked keeps a closed session as long as it has attempts for which its worker may return.
func (m *Manager) partLocked(s *Session) {
	name := s.info.Name
	m.parted[name] = append(slices.DeleteFunc(m.parted[name], func(o *Session) bool { return o.running == 0 }), s)
}

// forgetPartedLocked drops what is known of workers that have nothing to return for.
func (m *Manager) forgetPartedLocked() {
	for name, list := range m.parted {
		if !slices.ContainsFunc(list, func(s *Session) bool { return s.running > 0 }) {
			delete(m.parted, name)
		}
	}
}

// takeUp lets an attempt go on in a session, or tells its worker to end it.
func (m *Manager) takeUp(ctx context.Context, s *Session, before []*Session, h *Held) error {
	m.mu.Lock()
	known := m.takeUpKnownLocked(s, before, h)
	m.mu.Unlock()
	if known {
		return nil
	}
	if h.Attempt.Epoch < m.eng.Epoch() {
		adopted, err := m.adopt(ctx, s, h)
		if adopted || err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s.work.Stops = append(s.work.Stops, Stop{Ref: h.Ref, Force: true})
	s.wake()
	return nil
}

// takeUpKnownLocked moves an attempt from an earlier session to s, if it still has
// its lease, or is being settled.
func (m *Manager) takeUpKnownLocked(s *Session, before []*Session, h *Held) bool {
	if a := m.settlingLocked(h.Ref); a != nil {
		a.session = s
		return true
	}
	a := m.runningLocked(h.Task)
	if a == nil || a.id != h.Attempt || !slices.Contains(before, a.session) || m.overdue(a) {
		return false
	}
	a.session.giveLocked(a.job)
	a.session = s
	s.takeLocked(a.job)
	m.leaseLocked(a, m.opts.Clock())
	if a.stopped {
		s.work.Stops = append(s.work.Stops, Stop{Ref: h.Ref}) // the first one may not have come through
	}
	if a.watch {
		a.watchLocked()
	}
	s.wake()
	return true
}

// settlingLocked gives the attempt if its report is on its way to disk.
func (m *Manager) settlingLocked(ref Ref) *attempt {
	if j := m.jobs[ref.Task.Job]; j != nil {
		if a := j.settling[ref.Task.Index]; a != nil && a.id == ref.Attempt {
			return a
		}
	}
	return nil
}

// leaseLocked begins the lease of an attempt, or begins it anew.
func (m *Manager) leaseLocked(a *attempt, now time.Time) {
	if m.opts.Lease > 0 {
		a.expires = now.Add(m.opts.Lease)
	}
}

// adopt takes over an attempt that an earlier manager gave out, unless its task is
// answered, stopped, or already running, or the attempt is on record as ended.
func (m *Manager) adopt(ctx context.Context, s *Session, h *Held) (bool, error) {
	job, _, err := m.eng.Job(ctx, h.Task.Job)
	if err != nil {
		return false, ignoreLost(err)
	}
	m.mu.Lock()
	j := m.jobs[job.ID]
	m.mu.Unlock()
	if j == nil {
		state, err := m.eng.State(ctx, job.ID)
		if err != nil {
			return false, ignoreLost(err)
		}
		fresh := newJob(job, state, m.eng.Epoch())
		fresh.stale = true
		m.mu.Lock()
		j = m.addLocked(fresh)
		m.mu.Unlock()
	}
	adopted, err := m.adoptIn(ctx, j, s, h)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dropLocked(j)
	return adopted, ignoreLost(err)
}

// ignoreLost forgives that there is nothing any more to adopt an attempt of.
func ignoreLost(err error) error {
	if errors.Is(err, navvy.ErrCorrupt) {
		return nil
	}
	return ignoreGone(err)
}

// adoptIn is adopt for a job in memory, whose state is read after it got there: what
// befalls it from then on is not missed.
func (m *Manager) adoptIn(ctx context.Context, j *job, s *Session, h *Held) (bool, error) {
	m.settling.Lock() // no result comes in meanwhile, and no retry
	defer m.settling.Unlock()
	state, err := m.eng.State(ctx, j.ID)
	if err != nil {
		return false, err
	}
	if _, err := m.eng.Result(ctx, h.Task); !errors.Is(err, navvy.ErrNotFound) {
		return false, err
	}
	tried, ended, err := m.triesOf(ctx, h.Ref)
	if err != nil || ended {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	j.update(state, m.eng.Epoch())
	index := h.Task.Index
	if m.jobs[j.ID] != j || j.state.Ended() || index < 0 || index >= j.state.Total || j.taken(index) {
		return false, nil
	}
	if j.stale {
		j.tried(index, tried)
	}
	a := &attempt{
		job: j, index: index, id: h.Attempt, slot: j.slots.claim(h.Slot), started: m.opts.Clock(), session: s,
		watch: m.watchedLocked(h.Task),
	}
	m.leaseLocked(a, m.opts.Clock())
	j.running[index] = a
	s.takeLocked(j)
	if a.watch {
		a.watchLocked()
	}
	m.fireLocked(j.ID)
	return true, nil
}

// triesOf reads the attempts of a task that left a record, and tells whether the one
// of the reference is among them.
func (m *Manager) triesOf(ctx context.Context, ref Ref) (t tries, ended bool, err error) {
	err = m.eng.History(ctx, ref.Task, func(r *navvy.Result) error {
		ended = ended || r.ID == ref.Attempt // it was retried by hand since
		if r.Task.Index == ref.Task.Index && r.ID.Number > r.Round+1 {
			t.before, t.last = max(t.before, r.ID.Number), max(t.last, r.ID.Number)
		}
		return nil
	})
	if err != nil {
		return t, ended, err
	}
	err = m.eng.Attempts(ctx, ref.Task.Job, ref.Task.Index, func(_ navvy.TaskID, a *navvy.Attempt) error {
		t.count(a)
		ended = ended || a.ID == ref.Attempt
		return nil
	})
	return t, ended, err
}

// awaitingLocked tells whether a worker of an earlier manager may still come back
// with what it runs.
func (m *Manager) awaitingLocked(now time.Time) bool {
	return len(m.awaited) > 0 && m.awaitUntil.After(now)
}

// maxClaim is more than any job runs at once.
const maxClaim = 1 << 20

// claim takes a certain number, or if somebody has it any other.
func (s *slots) claim(n int) int {
	if n > maxClaim {
		return s.take()
	}
	for n > 0 && s.next < n {
		s.next++
		s.give(s.next)
	}
	at := slices.Index(s.free, n)
	if at < 0 {
		return s.take()
	}
	heap.Remove((*intHeap)(&s.free), at)
	return n
}
