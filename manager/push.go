package manager

// push gives a task to the worker with the smallest share of its slots in use; of
// those that are alike, to the one whose last task is longest ago.
type push struct{ unbounded }

func (push) choose(m *Manager, j *job) *Session {
	return m.bestLocked(j, (*Session).any, func(s, o *Session) bool {
		mine, other := s.running*max(1, o.info.Slots), o.running*max(1, s.info.Slots)
		return mine < other || mine == other && s.turn < o.turn
	})
}

// any is for policies that ask nothing more of a worker than that it can take a task.
func (*Session) any() bool { return true }

// bestLocked gives the worker that could take a task of the job, may have it, and comes
// before all others.
func (m *Manager) bestLocked(j *job, may func(*Session) bool, before func(s, o *Session) bool) *Session {
	var best *Session
	open := m.open[:0]
	for _, s := range m.open {
		if s.fullLocked() {
			continue // it has become so just now
		}
		open = append(open, s)
		if may(s) && s.takesLocked(j) && (best == nil || before(s, best)) {
			best = s
		}
	}
	m.open = open
	return best
}
