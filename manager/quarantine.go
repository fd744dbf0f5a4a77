package manager

import (
	"fmt"
	"slices"
	"time"

	"github.com/navvy-run/navvy"
)

// A worker on which everything fails at once, for want of a disk or a program, would
// soon have failed all there is to do: it is always free. It is quarantined, but not
// for what is a job's own fault: against it count only tasks that failed there at
// once, nowhere else, and then succeeded on another worker, and only as long as
// nothing succeeds on it; and only tasks of jobs that at least as many workers run
// without such failures as with them.
const (
	// atOnce is how soon an attempt fails that did nothing.
	atOnce = time.Second
	// provenOfMany and provenOfOne are so many tasks, of more than one job or of a
	// single one, which may fail by chance.
	provenOfMany = 5
	provenOfOne  = 10
	// firstQuarantine is how long it lasts; it doubles with each task that is tried
	// afterwards and fails at once, up to maxQuarantine.
	firstQuarantine = 10 * time.Second
	maxQuarantine   = 10 * time.Minute
	// maxSuspects bounds the tasks of one worker that are remembered.
	maxSuspects = 64
)

// conduct is that of a worker on which attempts have failed at once since one
// succeeded last. It outlives the worker's sessions while it is quarantined.
type conduct struct {
	worker   string
	suspects []navvy.TaskID      // failed here at once, and nowhere else so far; the oldest first
	proven   map[navvy.JobID]int // of them, succeeded elsewhere since, by job
	last     string              // how the last one failed
	pause    time.Duration       // 0: it is not quarantined
	until    time.Time
}

// failedAtOnce tells whether an attempt that its worker reports did nothing but fail,
// for a cause that could be the worker's.
func failedAtOnce(a *navvy.Attempt) bool {
	if a.Finished.Sub(a.Started) > atOnce {
		return false
	}
	switch a.Reason {
	case navvy.ReasonExit, navvy.ReasonSignal, navvy.ReasonNotFound, navvy.ReasonPermission, navvy.ReasonStart:
		return a.Outcome == navvy.OutcomeFailed || a.Outcome == navvy.OutcomeLost
	case navvy.ReasonLost:
		return a.Outcome == navvy.OutcomeLost
	default: // the task's own fault, or nobody's
		return false
	}
}

// judgeLocked draws conclusions about the worker from how an attempt ended on it.
func (m *Manager) judgeLocked(s *Session, task navvy.TaskID, a *navvy.Attempt) {
	j := m.jobs[task.Job]
	switch {
	case a.Outcome == navvy.OutcomeSucceeded:
		if j != nil && j.failsOn != nil && !j.failsOn[s.info.Name] {
			j.failsOn[s.info.Name] = false
		}
		if s.conduct != nil {
			m.absolveLocked(s.conduct)
		}
		if c := m.suspected[task]; c != nil {
			m.provenLocked(c, task)
		}
	case failedAtOnce(a):
		if j != nil && j.failsOn == nil {
			j.failsOn = map[string]bool{}
		}
		if j != nil {
			j.failsOn[s.info.Name] = true
		}
		m.suspectLocked(s, task, a)
	case a.Outcome == navvy.OutcomeFailed && !a.Reason.Final() && s.conduct != nil:
		m.absolveLocked(s.conduct) // it does run tasks
	}
}

// suspectLocked notes that a task has failed at once on a worker.
func (m *Manager) suspectLocked(s *Session, task navvy.TaskID, a *navvy.Attempt) {
	now := m.opts.Clock()
	other := m.suspected[task]
	if other != nil && other.worker != s.info.Name {
		// It fails here as well: it is the task. Whom it was held against may try again.
		m.forgetLocked(other, task)
		clear(other.proven)
		other.until = now
		m.poke()
		return
	}
	c := m.conductLocked(s)
	c.last = a.Message
	if c.pause > 0 && !c.until.After(now) {
		m.quarantineForLocked(c, min(2*c.pause, maxQuarantine))
	}
	if other == nil {
		if len(c.suspects) == maxSuspects {
			m.forgetLocked(c, c.suspects[0])
		}
		c.suspects = append(c.suspects, task)
		m.suspected[task] = c
	}
}

// conductLocked gives the conduct of a session's worker.
func (m *Manager) conductLocked(s *Session) *conduct {
	if s.conduct == nil {
		c := &conduct{worker: s.info.Name, proven: map[navvy.JobID]int{}}
		m.conducts[s.info.Name] = c
		for _, o := range m.sessions {
			if o.info.Name == s.info.Name {
				o.conduct = c
			}
		}
		s.conduct = c
	}
	return s.conduct
}

// provenLocked notes that a task has succeeded that failed at once on a worker.
func (m *Manager) provenLocked(c *conduct, task navvy.TaskID) {
	m.forgetLocked(c, task)
	c.proven[task.Job]++
	sum := 0
	for id, n := range c.proven {
		if !m.jobs[id].testifies() {
			delete(c.proven, id)
			continue
		}
		sum += n
	}
	if c.pause == 0 && (sum >= provenOfOne || sum >= provenOfMany && len(c.proven) > 1) {
		m.quarantineForLocked(c, firstQuarantine)
	}
}

// testifies tells whether the job fails at once on few workers only, so that this says
// something about them. One that is over has failed as it did when it was heard.
func (j *job) testifies() bool {
	if j == nil {
		return true
	}
	failing := 0
	for _, fails := range j.failsOn {
		if fails {
			failing++
		}
	}
	return 2*failing <= len(j.failsOn)
}

func (m *Manager) quarantineForLocked(c *conduct, pause time.Duration) {
	c.pause, c.until = pause, m.opts.Clock().Add(pause)
	m.opts.Logger.Warn("a worker is quarantined: attempts fail at once there that succeed elsewhere",
		"worker", c.worker, "for", pause, "last", c.last)
	m.poke() // its end is an instant to wait for
}

// absolveLocked holds nothing against a worker any more.
func (m *Manager) absolveLocked(c *conduct) {
	if c.pause > 0 {
		m.opts.Logger.Info("a worker is out of quarantine", "worker", c.worker)
	}
	for _, task := range c.suspects {
		delete(m.suspected, task)
	}
	delete(m.conducts, c.worker)
	for _, s := range m.sessions {
		if s.conduct == c {
			s.conduct = nil
		}
	}
	c.suspects, c.pause = nil, 0 // also for sessions that are over
}

// forgetLocked holds a task against its worker no more.
func (m *Manager) forgetLocked(c *conduct, task navvy.TaskID) {
	delete(m.suspected, task)
	c.suspects = slices.DeleteFunc(c.suspects, func(t navvy.TaskID) bool { return t == task })
}

// departLocked forgets the conduct of a worker that leaves, unless it is quarantined;
// and those that were, and have not been back for long.
func (m *Manager) departLocked(s *Session) {
	if s.conduct != nil && s.conduct.pause == 0 {
		m.absolveLocked(s.conduct)
	}
	now := m.opts.Clock()
	for _, c := range m.conducts {
		if c.pause > 0 && now.After(c.until.Add(maxQuarantine)) {
			m.absolveLocked(c)
		}
	}
}

// trustedLocked tells whether the worker may be given a task: one that was
// quarantined is given one to try.
func (s *Session) trustedLocked() bool {
	c := s.conduct
	return c == nil || c.pause == 0 || s.running == 0 && !c.until.After(s.m.opts.Clock())
}

// quarantineLocked says why the worker is given no tasks, or one at a time; empty if
// it is given as many as it takes.
func (s *Session) quarantineLocked() string {
	c := s.conduct
	if c == nil || c.pause == 0 {
		return ""
	}
	const why = "attempts failed at once there that succeeded elsewhere, the last one: %.200s"
	if left := c.until.Sub(s.m.opts.Clock()); left > 0 {
		return fmt.Sprintf("%s is quarantined for %s: "+why, &s.host, left.Round(100*time.Millisecond), c.last)
	}
	return fmt.Sprintf("%s was quarantined, and gets one task to try: "+why, &s.host, c.last)
}

// elsewherePause is how long a task waits for another worker than the one that it
// failed on, if there is one that is busy.
const elsewherePause = 100 * time.Millisecond

// elsewhereLocked gives another worker for a task whose last attempt failed on s. If
// others are busy the task waits a little, once: nil. If none could run it, it is s.
func (m *Manager) elsewhereLocked(j *job, s *Session, index int64, now time.Time) *Session {
	s.shunned = true
	other := m.policyLocked(j).choose(m, j)
	s.shunned = false
	if other != nil {
		return other
	}
	t := j.tries[index]
	busy := slices.ContainsFunc(m.sessions, func(o *Session) bool { return o != s && o.host.fits(&j.demand) && !o.silentLocked() && !o.leaving })
	if t.waited || !busy {
		return s
	}
	t.waited = true
	j.tried(index, t)
	j.runAgain(index, now.Add(elsewherePause))
	return nil
}
