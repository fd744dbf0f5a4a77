package manager

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/navvy-run/navvy"
)

// Worker is how a worker introduces itself.
type Worker struct {
	Name  string
	Kinds []string // the kinds of work that it runs
	Slots int      // how many attempts it takes at once; 0 leaves it to the manager
	Keeps bool     // it keeps reports until they are settled; otherwise it is told only of refused ones
	// Abilities are what its host enforces for each kind; a kind that is not named enforces nothing.
	Abilities []navvy.KindAbilities
}

// Session is a connected worker. Its methods may be called at once.
type Session struct {
	m       *Manager
	info    Worker
	host    host
	running int // attempts that it runs
	// unsettled are its attempts whose reports are not on disk; the bound keeps
	// a full disk from filling memory.
	unsettled, unsettledBytes int
	closed                    bool
	work                      Work
	ready                     chan struct{} // work is waiting
}

// Bounds of what one worker may have reported and not yet settled.
const (
	maxUnsettled      = 10_000
	maxUnsettledBytes = 16 << 20
)

// maxReason is longer than any reason that is one.
const maxReason = 64

// Ref names an attempt.
type Ref struct {
	Task    navvy.TaskID
	Attempt navvy.AttemptID
}

// Assignment is an attempt that a worker is to run.
type Assignment struct {
	Job     *navvy.Job
	Index   int64
	Attempt navvy.AttemptID
	Slot    int
	Input   []byte
	Watch   bool // stream its output from the start
}

// Stop asks a worker to end an attempt.
type Stop struct {
	Ref
	Force bool // do not wait for the grace to pass
}

// Settled tells a worker that it may forget an attempt. Refused says why it is
// not the task's answer; empty if it is, or if it will be tried again.
type Settled struct {
	Ref
	Refused string
}

// Work is what a worker is to do, in the order of the fields.
type Work struct {
	Settled     []Settled
	Assignments []Assignment
	Watch       []Ref
	Stops       []Stop
}

func (w *Work) empty() bool {
	return len(w.Settled)+len(w.Assignments)+len(w.Watch)+len(w.Stops) == 0
}

// Attach begins a worker's session; Close ends it.
func (m *Manager) Attach(info Worker) *Session {
	s := &Session{m: m, info: info, host: newHost(info.Name, info.Kinds, info.Abilities), ready: make(chan struct{}, 1)}
	m.mu.Lock()
	m.sessions = append(m.sessions, s)
	m.otherWorkersLocked()
	m.mu.Unlock()
	m.poke()
	return s
}

// Next waits until there is something to do, and puts it into work, whose memory
// it takes over for what comes next. It returns ErrClosed after Close, and the
// manager's failure if it has ended. It is for one goroutine at a time.
func (s *Session) Next(ctx context.Context, work *Work) error {
	work.reset()
	for {
		s.m.mu.Lock()
		s.work, *work = *work, s.work
		closed, failure := s.closed, s.m.failure
		s.m.mu.Unlock()
		switch {
		case failure != nil:
			return failure
		case closed:
			return fmt.Errorf("worker %s: the session is over: %w", s.info.Name, navvy.ErrClosed)
		case !work.empty():
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.ready:
		}
	}
}

// reset empties the work and keeps its memory.
func (w *Work) reset() {
	clear(w.Assignments)
	clear(w.Settled)
	w.Assignments, w.Settled = w.Assignments[:0], w.Settled[:0]
	w.Watch, w.Stops = w.Watch[:0], w.Stops[:0]
}

func (s *Session) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

func (s *Session) takesLocked(j *job) bool {
	return s.host.fits(j.kind, j.needs) &&
		(s.info.Slots == 0 || s.running < s.info.Slots) &&
		s.unsettled < maxUnsettled && s.unsettledBytes < maxUnsettledBytes
}

func (s *Session) assignLocked(a *attempt) {
	s.running++
	s.work.Assignments = append(s.work.Assignments, Assignment{
		Job: a.job.Job, Index: a.index, Attempt: a.id, Slot: a.slot, Input: a.input, Watch: a.watch,
	})
	s.wake()
}

func (a *attempt) ref() Ref { return Ref{Task: a.task(), Attempt: a.id} }

// stopLocked tells the worker to end an attempt, once.
func (a *attempt) stopLocked() {
	if a.stopped {
		return
	}
	a.stopped = true
	a.session.work.Stops = append(a.session.work.Stops, Stop{Ref: a.ref()})
	a.session.wake()
}

// Alive renews the leases of attempts that run. Those that the manager does not
// know, or no longer, it tells the worker to end.
func (s *Session) Alive(refs []Ref) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	now := s.m.opts.Clock()
	for _, ref := range refs {
		if a := s.m.attemptLocked(ref, s); a != nil {
			if s.m.opts.Lease > 0 {
				a.expires = now.Add(s.m.opts.Lease)
			}
			continue
		}
		s.work.Stops = append(s.work.Stops, Stop{Ref: ref, Force: true})
		s.wake()
	}
}

// attemptLocked gives a running attempt of the session that holds its lease, nil
// if there is none.
func (m *Manager) attemptLocked(ref Ref, s *Session) *attempt {
	a := m.runningLocked(ref.Task)
	if a == nil || a.id != ref.Attempt || a.session != s || m.overdue(a) {
		return nil
	}
	return a
}

// overdue tells whether the lease of an attempt has run out, noticed or not.
func (m *Manager) overdue(a *attempt) bool {
	return !a.expires.IsZero() && !a.expires.After(m.opts.Clock())
}

// Done reports attempts that have ended, which are the manager's from then on.
// Their slots are free at once; the reports are on disk when Next says that they
// are settled.
func (s *Session) Done(ctx context.Context, attempts []Finished) error {
	s.m.mu.Lock()
	for i := range attempts {
		f := &attempts[i]
		s.m.finishLocked(s, f, s.m.attemptLocked(Ref{f.Task, f.Attempt.ID}, s))
	}
	s.m.mu.Unlock()
	select {
	case s.m.reported <- struct{}{}:
	default:
	}
	return s.m.pump(ctx)
}

// Finished is an attempt that has ended, as its worker reports it.
type Finished struct {
	Task    navvy.TaskID
	Attempt navvy.Attempt
}

// report is a Finished on its way to disk.
type report struct {
	*Finished
	session *Session
	known   *attempt // nil if the manager gave no such attempt, or took it back
	bytes   int
}

// finishLocked takes a report; a is the attempt if it ran until now.
func (m *Manager) finishLocked(s *Session, f *Finished, a *attempt) {
	f.Attempt.Message = navvy.Shorten(f.Attempt.Message)
	f.Attempt.Reason = f.Attempt.Reason[:min(len(f.Attempt.Reason), maxReason)]
	r := report{Finished: f, session: s, bytes: len(f.Attempt.Output.Inline) + len(f.Attempt.Message) + 256}
	r.Attempt.Worker = s.info.Name
	if a != nil {
		r.known = a
		r.Attempt.Slot = a.slot
		m.releaseLocked(a)
		a.job.settling[a.index] = a
		if a.failing = m.finalLocked(&r) && r.Attempt.Outcome != navvy.OutcomeSucceeded; a.failing {
			a.job.failing++
		}
	}
	s.unsettled++
	s.unsettledBytes += r.bytes
	m.reports = append(m.reports, r)
}

// releaseLocked frees what an attempt held while it ran.
func (m *Manager) releaseLocked(a *attempt) {
	delete(a.job.running, a.index)
	a.job.slots.give(a.slot)
	a.session.running--
}

// Close ends the session. Attempts that it still ran are lost.
func (s *Session) Close() {
	s.m.mu.Lock()
	s.closed = true
	s.m.sessions = slices.DeleteFunc(s.m.sessions, func(o *Session) bool { return o == s })
	s.m.otherWorkersLocked()
	for _, j := range s.m.order {
		for _, a := range j.inOrder(func(a *attempt) bool { return a.session == s }) {
			s.m.loseLocked(a, "its worker left")
		}
	}
	s.wake()
	s.m.mu.Unlock()
	s.m.poke()
}

// expireLeases takes back attempts whose lease has run out.
func (m *Manager) expireLeases() {
	if m.opts.Lease == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, j := range m.order {
		for _, a := range j.inOrder(m.overdue) {
			a.stopLocked()
			m.loseLocked(a, "its lease ran out")
		}
	}
}

// inOrder gives the running attempts that fit, in the order of their tasks.
func (j *job) inOrder(fits func(*attempt) bool) []*attempt {
	var list []*attempt
	for _, a := range j.running {
		if fits(a) {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, func(a, b *attempt) int { return cmp.Compare(a.index, b.index) })
	return list
}

// loseLocked ends an attempt on the manager's own account.
func (m *Manager) loseLocked(a *attempt, why string) {
	lost := Finished{Task: a.task(), Attempt: navvy.Attempt{
		ID: a.id, Outcome: navvy.OutcomeLost, Reason: navvy.ReasonLost, Message: why,
		Started: a.started, Finished: m.opts.Clock(),
	}}
	m.finishLocked(a.session, &lost, a)
	select {
	case m.reported <- struct{}{}:
	default:
	}
}

// Lease is how long an attempt lives without a heartbeat; 0 if as long as its session.
func (m *Manager) Lease() time.Duration { return m.opts.Lease }

// WorkerStatus is a connected worker at a glance.
type WorkerStatus struct {
	Worker
	Running int
}

// Workers gives the connected workers.
func (m *Manager) Workers() []WorkerStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]WorkerStatus, len(m.sessions))
	for i, s := range m.sessions {
		list[i] = WorkerStatus{Worker: s.info, Running: s.running}
	}
	return list
}
