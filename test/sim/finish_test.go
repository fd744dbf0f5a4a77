package sim

import (
	"slices"
	"testing/synctest"
	"time"

	"github.com/navvy-run/navvy"
)

// finish brings everything to its end: with a sound machine and willing
// workers, each task must reach its result.
func (s *sim) finish() {
	s.note("finish")
	s.calm = true
	for _, act := range []func(){s.heal, s.sealAll, s.resumeAll} {
		s.since = s.now()
		if s.bad == nil {
			act()
			synctest.Wait()
			s.drain()
			s.recover()
		}
	}
	const rounds = 400
	for n := range rounds {
		s.since = s.now()
		if s.bad != nil || n > 0 && s.finished() {
			break
		}
		s.round()
		s.recover()
	}
	if s.bad == nil && !s.finished() {
		s.violate(ruleAnswered, "there is no end: %s", s.unfinished())
	}
	if s.bad == nil {
		s.look()
		s.complete()
	}
}

// heal makes the machine and the workers sound.
func (s *sim) heal() {
	s.crash(false)
	for _, h := range s.hands {
		h.frozen = false
	}
}

func (s *sim) sealAll() {
	for _, sub := range slices.Clone(s.subs) {
		if s.broken || s.bad != nil {
			return
		}
		s.vanish(sub)
	}
}

// resumeAll lets all jobs go on.
func (s *sim) resumeAll() {
	for _, j := range s.model.jobs {
		if s.broken || s.bad != nil {
			return
		}
		if j.sure.exists && !j.ended {
			s.steer(s.freeing(j))
			s.drain()
		}
	}
}

// round is what well-behaved workers do, and the manager's own loop.
func (s *sim) round() {
	for _, h := range s.hands {
		if h.session == nil {
			s.connect(h)
		}
		for _, r := range slices.Clone(h.runs) {
			if r.frames = len(r.out.ends); r.told {
				s.report(r, navvy.OutcomeInterrupted)
			} else {
				s.report(r, r.plan)
			}
			if s.broken {
				return
			}
		}
	}
	s.drain() // before anybody knows how those ended
	s.settle()
	if s.broken || s.bad != nil {
		return
	}
	s.drain()
	next, err := s.mgr.Tick(s.ctx)
	if !s.read("tick", err) {
		return
	}
	s.drain()
	if s.mgr.Busy() == 0 && !s.finished() {
		// Only time is missing.
		d := min(next.Sub(s.now()), time.Hour)
		time.Sleep(d) //nolint:forbidigo // in a bubble
	}
}

func (s *sim) finished() bool { return len(s.unfinished()) == 0 && s.mgr.Busy() == 0 }

// unfinished lists the jobs that have not ended.
func (s *sim) unfinished() []*job {
	var list []*job
	for _, j := range s.model.jobs {
		if !j.sure.exists {
			continue
		}
		if s.lookAt(j, false); s.broken || s.bad != nil {
			return nil
		}
		if j.sure.exists && !j.ended {
			list = append(list, j)
		}
	}
	return list
}

// complete sees that each task that was accepted has its result, and that
// nothing is left to do.
func (s *sim) complete() {
	for _, j := range s.model.jobs {
		if !j.sure.exists || j.sure.stopped {
			continue
		}
		for i, t := range j.tasks[:j.sure.total] {
			if t.answer == nil {
				s.violate(ruleAnswered, "task %d of %s has no result", i, j)
			}
		}
	}
	for _, h := range s.hands {
		for _, r := range h.runs {
			s.violate(ruleStopped, "%s still runs", r)
		}
	}
	if !s.mgr.Idle() {
		s.violate(ruleAnswered, "everything has ended, and the manager is not idle")
	}
}
