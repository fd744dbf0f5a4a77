package manager

// roundRobin gives tasks to the workers that have a free slot in turn.
type roundRobin struct{ unbounded }

func (roundRobin) choose(m *Manager, j *job) *Session {
	return m.bestLocked(j, (*Session).any, func(s, o *Session) bool { return s.turn < o.turn })
}
