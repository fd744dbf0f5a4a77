package manager

import (
	"context"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/navvy-run/navvy"
)

var errDraining = fmt.Errorf("this navvy is about to end: %w", navvy.ErrUnavailable)

func (m *Manager) signalLocked(id navvy.JobID) *signal {
	s := m.signals[id]
	if s == nil {
		if len(m.signals) >= m.signalsBound {
			m.shedSignalsLocked()
		}
		s = &signal{}
		m.signals[id] = s
	}
	return s
}

// fireLocked wakes who waits for a job, and who wants to know how much there is to do.
func (m *Manager) fireLocked(id navvy.JobID) {
	m.wanted.fire()
	if s := m.signals[id]; s != nil {
		s.fire()
	}
}

// minSignals is how many signals are kept before any is forgotten.
const minSignals = 1024

// shedSignalsLocked forgets the signals of jobs that are not served, most of
// which nobody waits for any more. Who does looks again.
func (m *Manager) shedSignalsLocked() {
	for id, s := range m.signals {
		if m.jobs[id] == nil && len(s.callers) == 0 { // a caller's stay with what it adopted
			s.fire()
			delete(m.signals, id)
		}
	}
	m.signalsBound = max(minSignals, 2*len(m.signals))
}

// Changes gives a channel that is closed at the job's next change: a result, a
// step, a start. Take it before looking at the job. It is closed at once if the
// manager has failed.
func (m *Manager) Changes(id navvy.JobID) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failure != nil {
		done := make(chan struct{})
		close(done)
		return done
	}
	return m.signalLocked(id).wait()
}

// Failure is why the manager has ended; nil while it works.
func (m *Manager) Failure() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failure
}

// Status tells where a job stands.
func (m *Manager) Status(ctx context.Context, id navvy.JobID) (navvy.Status, error) {
	_, st, err := m.Job(ctx, id)
	return st, err
}

// Job gives a job and where it stands.
func (m *Manager) Job(ctx context.Context, id navvy.JobID) (*navvy.Job, navvy.Status, error) {
	m.mu.Lock()
	running := int64(0)
	if j := m.jobs[id]; j != nil && !j.state.Removed {
		running = int64(len(j.running))
		if !j.stale {
			defer m.mu.Unlock()
			st := j.state.Status(m.eng.Epoch(), running)
			m.waitsLocked(&st, j.Job, &j.demand)
			return j.Job, st, m.failure
		}
	}
	failure := m.failure
	m.mu.Unlock()
	if failure != nil {
		return nil, navvy.Status{}, failure
	}
	job, state, err := m.eng.Job(ctx, id)
	if err != nil {
		return nil, navvy.Status{}, err
	}
	st := state.Status(m.eng.Epoch(), running)
	m.mu.Lock()
	defer m.mu.Unlock()
	d := demandOf(job)
	m.waitsLocked(&st, job, &d)
	return job, st, nil
}

// waitsLocked says what keeps a job from going on that nothing but another worker, or
// whoever paused its queue, can change.
func (m *Manager) waitsLocked(st *navvy.Status, j *navvy.Job, d *demand) {
	if st.Held || st.State().Final() {
		return
	}
	if d.picky {
		st.Waiting = m.unfitLocked(d)
	}
	if st.Waiting == "" && st.Counts.Queued > 0 {
		st.Waiting = m.nobodyWhyLocked(d)
	}
	if q := m.queues[j.Queue]; st.Waiting == "" && q != nil && q.Paused {
		st.Waiting = q.why(m.opts.Clock())
	}
}

// Settled tells whether nothing of the job goes on or will: it has ended, or is
// held, and no attempt of it runs.
func (m *Manager) Settled(ctx context.Context, id navvy.JobID) (navvy.Status, bool, error) {
	st, err := m.Status(ctx, id)
	if err != nil {
		return st, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	j := m.jobs[id]
	resting := st.State().Final() && !st.Open || st.Held
	return st, resting && (j == nil || !j.busy()), nil
}

// Await returns when nothing of the job goes on; with ended, when it has ended.
func (m *Manager) Await(ctx context.Context, id navvy.JobID, ended bool) error {
	for {
		changed := m.Changes(id)
		st, settled, err := m.Settled(ctx, id)
		if err != nil || settled && (!ended || !st.Held) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
}

// AnsweredSince gives the tasks of a job that have a result and are not in seen;
// ok is false if the job is not being served, so that only the engine knows.
func (m *Manager) AnsweredSince(id navvy.JobID, seen *roaring.Bitmap) (fresh *roaring.Bitmap, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	j := m.jobs[id]
	if j == nil || j.stale {
		return nil, false
	}
	return roaring.AndNot(j.answered, seen), true
}
