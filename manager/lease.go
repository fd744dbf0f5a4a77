package manager

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/navvy-run/navvy"
)

// silentLocked tells whether the worker has said nothing for so long that it may be gone.
// Of one that has attempts their leases tell earlier.
func (s *Session) silentLocked() bool {
	silence := s.m.Silence()
	return silence > 0 && !s.heard.Add(silence).After(s.m.opts.Clock())
}

// idleLeases is how many leases a worker without attempts may be silent.
const idleLeases = 5

// Silence is how long a worker without attempts may say nothing before it gets no more;
// 0 if for ever.
func (m *Manager) Silence() time.Duration { return idleLeases * m.opts.Lease }

// heardLocked notes that the worker is there.
func (s *Session) heardLocked() {
	if s.silentLocked() {
		s.m.poke()
	}
	s.heard = s.m.opts.Clock()
}

// overdue tells whether the lease of an attempt has run out, noticed or not.
func (m *Manager) overdue(a *attempt) bool {
	return !a.expires.IsZero() && !a.expires.After(m.opts.Clock())
}

// loseAllLocked ends what a session still runs on the manager's own account.
func (m *Manager) loseAllLocked(s *Session, why string) {
	for _, j := range m.order {
		for _, a := range j.inOrder(func(a *attempt) bool { return a.session == s }) {
			m.loseLocked(a, why)
		}
	}
}

// expireLeases takes back attempts whose lease has run out. Leases only become
// longer: before the earliest end that it saw the last time there is nothing to do.
func (m *Manager) expireLeases() {
	if m.opts.Lease == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.opts.Clock()
	if m.leaseEnd.After(now) {
		return
	}
	m.leaseEnd = now.Add(m.opts.Lease) // no new one ends earlier
	defer m.forgetPartedLocked()
	for _, j := range m.order {
		for _, a := range j.inOrder(m.overdue) {
			a.stopLocked()
			a.session.heard = time.Time{} // it gets nothing more before it says something
			m.loseLocked(a, "its lease ran out")
			m.meters.Expired.Add(1)
		}
		for _, a := range j.running {
			if a.expires.Before(m.leaseEnd) {
				m.leaseEnd = a.expires
			}
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
	m.reports[len(m.reports)-1].own = true
	select {
	case m.reported <- struct{}{}:
	default:
	}
}

// Lease is how long an attempt lives without a heartbeat; 0 if as long as its session.
func (m *Manager) Lease() time.Duration { return m.opts.Lease }

// Leased tells whose task an attempt is that is leased to the worker of that name, or
// to any if it is empty, and gives a channel that is closed when the lease is over: the
// attempt has ended, or its worker has lost it. ErrLeaseLost if it is over already, or
// there is no such attempt.
func (m *Manager) Leased(worker string, ref Ref) (owner string, over <-chan struct{}, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.leasedLocked(worker, ref)
	if a == nil {
		return "", nil, fmt.Errorf("task %s, attempt %s: %w", ref.Task, ref.Attempt, navvy.ErrLeaseLost)
	}
	if a.over == nil {
		a.over = make(chan struct{})
	}
	return a.job.Owner, a.over, nil
}

// leasedLocked gives an attempt that is leased to the worker of that name, or to any if
// it is empty; nil if there is none.
func (m *Manager) leasedLocked(worker string, ref Ref) *attempt {
	a := m.runningLocked(ref.Task)
	if a == nil || a.id != ref.Attempt || worker != "" && a.session.info.Name != worker || m.overdue(a) {
		return nil
	}
	return a
}
