package manager

import (
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
	Keeps bool     // it keeps reports until they are settled; otherwise it is told only of refused ones, and of attempts that outlive it
	// Returns says that its attempts outlive its session, as long as their leases last:
	// it may come back for them, see Manager.Return.
	Returns bool
	Version string // for people
	// Abilities are what its host enforces for each kind; a kind that is not named enforces nothing.
	Abilities []navvy.KindAbilities
	// Offer is what it has for the tasks that it runs; it is not given more at once.
	Offer navvy.Offer
	// Process tells two processes under one name apart. Defaults to nothing, which is
	// like any other.
	Process string
	// SingleOwner is the one owner whose tasks it runs. Defaults to all.
	SingleOwner string
}

// Session is a connected worker. Its methods may be called at once.
type Session struct {
	m       *Manager
	info    Worker
	host    host
	running int            // attempts that it runs
	room    navvy.Room     // what they have of its offer
	mixes   bool           // processes of different owners could do something to each other on its host
	owners  map[string]int // whose processes run, and how many
	// unsettled are its attempts whose reports are not on disk; the bound keeps
	// a full disk from filling memory.
	unsettled, unsettledBytes int
	heard                     time.Time // when it last said that it is there
	wanted                    int       // how many further attempts it has asked for
	turn                      int64     // its last start, among those of all: where it stands when workers take turns
	leaving                   bool      // it takes no further attempts
	shunned                   bool      // it is passed over, just now
	conduct                   *conduct  // nil: nothing is held against its worker
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
	// Round is how often the job was retried by hand, Failed how many of the task's
	// attempts have failed in this round.
	Round, Failed uint32
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
	Explain     []Ref // tell what they wait for
	Stops       []Stop
	Drain       bool // leave, once nothing runs any more
}

func (w *Work) empty() bool {
	return len(w.Settled)+len(w.Assignments)+len(w.Watch)+len(w.Explain)+len(w.Stops) == 0 && !w.Drain
}

// Attach begins a worker's session; Close ends it.
func (m *Manager) Attach(info Worker) *Session {
	s := m.newSession(info)
	m.mu.Lock()
	m.joinLocked(s)
	m.mu.Unlock()
	m.poke()
	return s
}

func (m *Manager) newSession(info Worker) *Session {
	s := &Session{m: m, info: info, ready: make(chan struct{}, 1), heard: m.opts.Clock()}
	s.knowLocked() // it is nobody else's yet
	s.owners = map[string]int{}
	s.room.Offer = &s.info.Offer
	return s
}

func (m *Manager) joinLocked(s *Session) {
	m.sessions = append(m.sessions, s)
	s.conduct = m.conducts[s.info.Name]
	if m.drained[s.info.Name] {
		s.leaving, s.work.Drain = true, true // its last connection broke before it heard
		s.wake()
	}
	m.otherWorkersLocked()
}

// Offers says anew what the worker runs, in place of what Attach or Return was told. What it runs
// already goes on.
func (s *Session) Offers(kinds []string, abilities []navvy.KindAbilities) {
	m := s.m
	m.own.forget() // it may be of this process
	m.mu.Lock()
	s.info.Kinds, s.info.Abilities = kinds, abilities
	s.knowLocked()
	m.otherWorkersLocked()
	m.mu.Unlock()
	m.poke()
}

// knowLocked makes of what the worker says what it can be given.
func (s *Session) knowLocked() {
	s.host = newHost(s.info.Name, s.info.Kinds, s.info.Abilities, &s.info.Offer)
	s.host.only = s.info.SingleOwner
	s.mixes = s.m.opts.Local == nil && s.host.mixes()
}

// Name is what the worker is called.
func (s *Session) Name() string { return s.info.Name }

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
	w.Watch, w.Explain, w.Stops, w.Drain = w.Watch[:0], w.Explain[:0], w.Stops[:0], false
}

func (s *Session) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// takesLocked tells whether a worker that is open could take a task of the job.
func (s *Session) takesLocked(j *job) bool {
	return !s.shunned && s.host.fits(&j.demand) && s.hasRoomLocked(&j.demand)
}

// openLocked tells whether the worker takes tasks, of whatever job.
func (s *Session) openLocked() bool {
	return !s.fullLocked() && !s.leaving && s.unsettled < maxUnsettled && s.unsettledBytes < maxUnsettledBytes && !s.silentLocked()
}

// fullLocked tells whether what the worker runs leaves no place for more.
func (s *Session) fullLocked() bool {
	return s.info.Slots > 0 && s.running >= s.info.Slots || !s.trustedLocked()
}

// Leave gives the worker no further attempts; those that it has run on.
func (s *Session) Leave() {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.leaving = true
	delete(s.m.drained, s.info.Name)
	s.m.otherWorkersLocked()
}

// Left tells whether the worker has said that it leaves, and has nothing any more; it
// has not if it is back.
func (s *Session) Left() bool {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	back := slices.ContainsFunc(s.m.sessions, func(o *Session) bool { return o != s && o.info.Name == s.info.Name })
	return s.leaving && s.running == 0 && !back
}

// DrainWorker tells the worker of that name to leave; false if it is not connected, or
// is one of the server's own process, which ends with it.
func (m *Manager) DrainWorker(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := false
	for _, s := range m.sessions {
		if s.info.Name == name && s.info.Returns {
			found, s.leaving, s.work.Drain = true, true, true
			m.drained[name] = true
			s.wake()
		}
	}
	if found {
		m.otherWorkersLocked()
	}
	return found
}

// RemoveWorker ends the sessions of the worker of that name, and gives what it runs to
// others at once. Who sees to it that it does not come back is the caller.
func (m *Manager) RemoveWorker(name, why string) {
	m.mu.Lock()
	for _, s := range slices.Clone(m.sessions) {
		if s.info.Name == name {
			m.closeLocked(s)
			m.loseAllLocked(s, why)
		}
	}
	for _, s := range m.parted[name] {
		m.loseAllLocked(s, why)
	}
	delete(m.parted, name)
	delete(m.awaited, name)
	delete(m.drained, name)
	m.mu.Unlock()
	m.poke()
}

func (s *Session) assignLocked(a *attempt) {
	s.takeLocked(a.job)
	s.work.Assignments = append(s.work.Assignments, Assignment{
		Job: s.host.given(a.job), Index: a.index, Attempt: a.id, Slot: a.slot, Input: a.input, Watch: a.watch,
		Round: a.job.state.Round, Failed: a.job.tries[a.index].failed,
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

// watchLocked has the worker stream the output of an attempt.
func (a *attempt) watchLocked() {
	a.session.work.Watch = append(a.session.work.Watch, a.ref())
	a.session.wake()
}

// Alive says that the worker is there, and renews the leases of attempts that run.
// Those that the manager does not know, or no longer, it tells the worker to end.
func (s *Session) Alive(refs []Ref) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.heardLocked()
	now := s.m.opts.Clock()
	for _, ref := range refs {
		if a := s.m.attemptLocked(ref, s); a != nil {
			s.m.leaseLocked(a, now)
			continue
		}
		s.work.Stops = append(s.work.Stops, Stop{Ref: ref, Force: true})
		s.wake()
	}
}

// attemptLocked gives a running attempt of the session that holds its lease, nil
// if there is none.
func (m *Manager) attemptLocked(ref Ref, s *Session) *attempt {
	if a := m.leasedLocked("", ref); a != nil && a.session == s {
		return a
	}
	return nil
}

// Done reports attempts that have ended, which are the manager's from then on.
// Their slots are free at once; the reports are on disk when Next says that they
// are settled.
func (s *Session) Done(ctx context.Context, attempts []Finished) error {
	s.m.mu.Lock()
	s.heardLocked()
	for i := range attempts {
		f := &attempts[i]
		ref := Ref{f.Task, f.Attempt.ID}
		if a := s.m.settlingLocked(ref); a != nil && s.info.Returns {
			a.session = s // reported again, by a worker that has not heard what became of it
			continue
		}
		a := s.m.attemptLocked(ref, s)
		if a != nil {
			s.m.judgeLocked(s, f.Task, &f.Attempt)
		}
		s.m.finishLocked(s, f, a)
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
	own bool // the manager's own: no worker waits for it
	*Finished
	session *Session
	known   *attempt // nil if the manager gave no such attempt, or took it back
	again   bool     // it is the task's result already
	bytes   int
	at      time.Time // when it came in
}

// finishLocked takes a report; a is the attempt if it ran until now.
func (m *Manager) finishLocked(s *Session, f *Finished, a *attempt) {
	f.Attempt.Message = navvy.Shorten(f.Attempt.Message)
	f.Attempt.Reason = f.Attempt.Reason[:min(len(f.Attempt.Reason), maxReason)]
	r := report{Finished: f, session: s, bytes: len(f.Attempt.Output.Inline) + len(f.Attempt.Message) + 256, at: time.Now()}
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
	a.session.giveLocked(a.job)
	a.explainedLocked("")
	if a.over != nil {
		close(a.over)
	}
}

// Close ends the session. Attempts that it still ran are lost, unless the worker
// may return for them.
func (s *Session) Close() {
	s.m.mu.Lock()
	s.m.closeLocked(s)
	s.m.mu.Unlock()
	s.m.poke()
}

func (m *Manager) closeLocked(s *Session) {
	if s.closed {
		return
	}
	s.closed = true
	m.sessions = slices.DeleteFunc(m.sessions, func(o *Session) bool { return o == s })
	m.departLocked(s)
	m.otherWorkersLocked()
	if !s.info.Returns || m.opts.Lease == 0 {
		m.loseAllLocked(s, "its worker left")
	} else if s.running > 0 {
		m.partLocked(s)
	}
	s.wake()
}

// WorkerStatus is a connected worker at a glance.
type WorkerStatus struct {
	Worker
	Running    int
	Used       navvy.Offer // what its attempts have of its offer
	Quarantine string      // why it gets no tasks for a while; empty if it does
	Silent     bool        // its last word is longer ago than a lease
	Leaving    bool        // it takes no further attempts
	Owners     string      // whose tasks it runs, in words; empty if it keeps those of different owners apart
}

// Workers gives the connected workers.
func (m *Manager) Workers() []WorkerStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]WorkerStatus, len(m.sessions))
	for i, s := range m.sessions {
		list[i] = WorkerStatus{
			Worker: s.info, Running: s.running, Used: s.room.Used(), Quarantine: s.quarantineLocked(), Silent: s.silentLocked(),
			Leaving: s.leaving, Owners: s.ownersLocked(),
		}
	}
	return list
}
