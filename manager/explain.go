package manager

import (
	"context"
	"slices"
	"time"

	"github.com/navvy-run/navvy"
)

// explainTime is how long a worker may take to tell what an attempt waits for.
const explainTime = 3 * time.Second

// Explain tells in words what the running attempt of a task waits for, if its worker knows,
// who is asked now; empty for nothing, and if the worker does not answer soon.
func (m *Manager) Explain(ctx context.Context, task navvy.TaskID) string {
	m.mu.Lock()
	a := m.runningLocked(task)
	if a == nil || !a.session.explains(a.job.Spec.Kind()) {
		m.mu.Unlock()
		return ""
	}
	told := a.askLocked()
	m.mu.Unlock()
	why, _ := m.awaitWords(ctx, a, told)
	return why
}

// ExplainJob is Explain for the attempt of a job that has run for longest, and gives its task.
// ok is false if nothing runs of which a worker could tell, or that one does not answer soon.
func (m *Manager) ExplainJob(ctx context.Context, id navvy.JobID) (index int64, why string, ok bool) {
	m.mu.Lock()
	a := m.jobs[id].oldest()
	if a == nil || !a.session.explains(a.job.Spec.Kind()) {
		m.mu.Unlock()
		return 0, "", false
	}
	told := a.askLocked()
	m.mu.Unlock()
	why, ok = m.awaitWords(ctx, a, told)
	return a.index, why, ok
}

// oldest is the attempt that has run for longest; nil if none runs.
func (j *job) oldest() *attempt {
	var first *attempt
	if j == nil {
		return nil
	}
	for _, a := range j.running {
		if first == nil || a.started.Before(first.started) || a.started.Equal(first.started) && a.index < first.index {
			first = a
		}
	}
	return first
}

// askLocked has the worker of an attempt asked, and gives where the answer comes.
func (a *attempt) askLocked() chan string {
	told := make(chan string, 1)
	a.askers = append(a.askers, told)
	a.session.work.Explain = append(a.session.work.Explain, a.ref())
	a.session.wake()
	return told
}

// awaitWords waits for that, and not for long; ok is false if nothing has come.
func (m *Manager) awaitWords(ctx context.Context, a *attempt, told chan string) (why string, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, explainTime)
	defer cancel()
	select {
	case why := <-told:
		return why, true
	case <-ctx.Done():
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	a.askers = slices.DeleteFunc(a.askers, func(c chan<- string) bool { return c == told })
	return "", false
}

// explains tells whether the worker can tell what attempts of a kind wait for.
func (s *Session) explains(kind string) bool {
	return slices.ContainsFunc(s.info.Abilities, func(k navvy.KindAbilities) bool { return k.Kind == kind && k.Explains })
}

// Explained is what a worker tells of an attempt of which it was asked.
func (s *Session) Explained(ref Ref, waiting string) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if a := s.m.attemptLocked(ref, s); a != nil {
		a.explainedLocked(navvy.Shorten(waiting))
	}
}

// explainedLocked answers those who have asked.
func (a *attempt) explainedLocked(waiting string) {
	for _, c := range a.askers {
		c <- waiting // it has room for one, and gets no other
	}
	a.askers = nil
}
