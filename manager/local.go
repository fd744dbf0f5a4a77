package manager

// The local policy: workers in this process. A job's cap is its own number of
// slots, as if it ran alone; detached jobs share one pool as wide as the widest
// of them, in their order. A task goes to the worker that runs the fewest.

// sharedRoomLocked is how many more tasks of detached jobs may run.
func (m *Manager) sharedRoomLocked() int {
	widest, running := 0, 0
	for _, j := range m.order {
		if !j.Detached {
			continue
		}
		running += len(j.running)
		if j.startable() || len(j.running) > 0 {
			widest = max(widest, j.limit(m.opts.Parallelism))
		}
	}
	return widest - running
}

// chooseLocked gives the worker that a task of the job goes to, nil if there is none.
func (m *Manager) chooseLocked(j *job) *Session {
	var best *Session
	for _, s := range m.sessions {
		if s.takesLocked(j) && (best == nil || s.running < best.running) {
			best = s
		}
	}
	return best
}
