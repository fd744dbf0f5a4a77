package manager

import "context"

// pull gives tasks to workers that have asked for them; of those to the one whose last
// task is longest ago.
type pull struct{ unbounded }

func (pull) choose(m *Manager, j *job) *Session {
	return m.bestLocked(j, func(s *Session) bool { return s.wanted > 0 }, func(s, o *Session) bool { return s.turn < o.turn })
}

// Want notes that the worker asks for so many further attempts; only Pull waits for that,
// but whoever gives it one gives it one of these.
func (s *Session) Want(ctx context.Context, n int) error {
	s.m.mu.Lock()
	s.heardLocked()
	s.wanted = min(s.wanted+max(0, n), maxWanted)
	s.m.mu.Unlock()
	return s.m.pump(ctx)
}

// maxWanted bounds what a worker can have asked for.
const maxWanted = 1 << 20
