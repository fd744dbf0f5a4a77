package manager

import (
	"math"
	"slices"
)

// local is for workers in this process. A job's cap is its own number of slots, as
// if it ran alone; detached jobs share one pool as wide as the widest of them, in
// their order. Those whose attempts run elsewhere, and may wait there for long, have a
// pool of their own, so that they keep nothing from running here. A task goes to the
// worker that runs the fewest.
type local struct {
	shared, far int      // how many more tasks of detached jobs may run: here, elsewhere
	kinds       []string // those that run elsewhere
}

// farAtOnce is how many tasks of detached jobs run elsewhere at once, at least: they cost
// this machine next to nothing.
const farAtOnce = 64

func (p *local) begin(m *Manager) {
	p.kinds = m.farKindsLocked()
	p.shared, p.far = m.sharedRoomLocked(p)
}

func (*local) fair() bool { return false }

// pool is the room that a detached job shares.
func (p *local) pool(j *job) *int {
	if slices.Contains(p.kinds, j.Spec.Kind()) {
		return &p.far
	}
	return &p.shared
}

func (p *local) room(j *job) int {
	if j.Detached {
		return *p.pool(j)
	}
	return math.MaxInt
}

func (p *local) started(j *job) {
	if j.Detached {
		*p.pool(j)--
	}
}

func (*local) choose(m *Manager, j *job) *Session {
	return m.bestLocked(j, (*Session).any, func(s, o *Session) bool { return s.running < o.running })
}

// sharedRoomLocked is how many more tasks of detached jobs may run, here and elsewhere.
func (m *Manager) sharedRoomLocked(p *local) (here, far int) {
	widest, running := 0, 0
	widestFar, runningFar := farAtOnce, 0
	for _, j := range m.order {
		if !j.Detached {
			continue
		}
		wide, run := &widest, &running
		if p.pool(j) == &p.far {
			wide, run = &widestFar, &runningFar
		}
		*run += len(j.running)
		if j.startable() || len(j.running) > 0 {
			*wide = max(*wide, j.limit(m.opts.Parallelism))
		}
	}
	return widest - running, widestFar - runningFar
}

// farKindsLocked are the kinds of work whose attempts may wait for something that is not on
// this machine, as their workers tell of.
func (m *Manager) farKindsLocked() []string {
	var kinds []string
	for _, s := range m.sessions {
		for i := range s.info.Abilities {
			if a := &s.info.Abilities[i]; a.Explains && !slices.Contains(kinds, a.Kind) {
				kinds = append(kinds, a.Kind)
			}
		}
	}
	return kinds
}
