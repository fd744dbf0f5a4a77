package manager

import "math"

// local is for workers in this process. A job's cap is its own number of slots, as
// if it ran alone; detached jobs share one pool as wide as the widest of them, in
// their order. A task goes to the worker that runs the fewest.
type local struct {
	shared int // how many more tasks of detached jobs may run
}

func (p *local) begin(m *Manager) { p.shared = m.sharedRoomLocked() }

func (*local) fair() bool { return false }

func (p *local) room(j *job) int {
	if j.Detached {
		return p.shared
	}
	return math.MaxInt
}

func (p *local) started(j *job) {
	if j.Detached {
		p.shared--
	}
}

func (*local) choose(m *Manager, j *job) *Session {
	return m.bestLocked(j, (*Session).any, func(s, o *Session) bool { return s.running < o.running })
}

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
