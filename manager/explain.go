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
	ctx, cancel := context.WithTimeout(ctx, explainTime)
	defer cancel()
	m.mu.Lock()
	a := m.runningLocked(task)
	if a == nil || !a.session.explains(a.job.Spec.Kind()) {
		m.mu.Unlock()
		return ""
	}
	told := make(chan string, 1)
	a.askers = append(a.askers, told)
	a.session.work.Explain = append(a.session.work.Explain, a.ref())
	a.session.wake()
	m.mu.Unlock()
	select {
	case why := <-told:
		return why
	case <-ctx.Done():
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	a.askers = slices.DeleteFunc(a.askers, func(c chan<- string) bool { return c == told })
	return ""
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
