package manager

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
)

// countFailsLocked lets no further task of a job start of which too many have
// failed, and has it stopped.
func (m *Manager) countFailsLocked(j *job) {
	if !j.warned && !j.state.Ended() && j.MaxFails.Exceeded(j.state.Failed, j.total()) {
		j.warned = true
		m.stopSoon = append(m.stopSoon, j.ID)
		m.poke()
	}
}

// stopFailing stops a job of which too many tasks have failed, unless a retry
// has taken that back.
func (m *Manager) stopFailing(ctx context.Context, id navvy.JobID) error {
	job, state, err := m.eng.Job(ctx, id)
	if errors.Is(err, navvy.ErrCorrupt) {
		m.opts.Logger.Error("a job is passed over: its data are damaged", "job", id, "error", err)
		return nil
	} else if err != nil {
		return ignoreGone(err)
	}
	total := state.Total
	if state.Open {
		total = -1
	}
	if job.MaxFails.Exceeded(state.Failed, total) {
		_, err := m.Stop(ctx, id, fmt.Sprintf("failed tasks: %d, more than --max-fails allows", state.Failed))
		return ignoreGone(err)
	}
	m.mu.Lock()
	if j := m.jobs[id]; j != nil {
		j.warned = false
	}
	m.mu.Unlock()
	return m.load(ctx, id)
}

// took takes a job's new state over, after a step of the engine, and tells everybody.
func (m *Manager) took(id navvy.JobID, state engine.State, also func(*job)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if known, ok := m.coming[id]; ok && state.Seq >= known.Seq {
		m.coming[id] = state
	}
	if j := m.jobs[id]; j != nil {
		j.update(state, m.eng.Epoch())
		if also != nil {
			also(j)
		}
		m.dropLocked(j)
	}
	answered := state.Total > 0 && state.Pending() == 0 && !state.Stopped // whoever settles the answer gives it
	if !answered && (state.Ended() || state.HeldIn(m.eng.Epoch())) {
		m.calledLocked(id, nil, &state)
	}
	m.fireLocked(id)
	if m.jobs[id] == nil {
		delete(m.signals, id)
	}
	m.idle.fire()
}

func (j *job) stopAll() {
	for _, a := range j.running {
		a.stopLocked()
	}
}

// Hold lets no further task of the job start, until Resume. With interrupt, what
// runs is ended as well, and will run again.
func (m *Manager) Hold(ctx context.Context, id navvy.JobID, why string, interrupt bool) (navvy.Status, error) {
	state, err := m.eng.Hold(ctx, id, why)
	if err != nil {
		return navvy.Status{}, err
	}
	m.took(id, state, func(j *job) {
		if interrupt {
			j.stopAll()
		}
	})
	return m.Status(ctx, id)
}

// Resume frees the job.
func (m *Manager) Resume(ctx context.Context, id navvy.JobID, o engine.ResumeOptions) (navvy.Status, error) {
	state, err := m.eng.Resume(ctx, id, o)
	if err != nil {
		return navvy.Status{}, err
	}
	m.took(id, state, nil)
	if !state.Ended() {
		if err := m.load(ctx, id); err != nil {
			return navvy.Status{}, err
		}
	}
	if err := m.pump(ctx); err != nil {
		return navvy.Status{}, err
	}
	return m.Status(ctx, id)
}

// Stop ends the job: what has no result is stopped, what runs is ended.
func (m *Manager) Stop(ctx context.Context, id navvy.JobID, why string) (navvy.Status, error) {
	state, err := m.eng.Stop(ctx, id, why)
	if err != nil {
		return navvy.Status{}, err
	}
	m.took(id, state, (*job).stopAll)
	return m.Status(ctx, id)
}

// Discard ends a job of messages; see engine.Discard. What runs of it is ended.
func (m *Manager) Discard(ctx context.Context, id navvy.JobID, why string) (messages int64, err error) {
	messages, state, err := m.eng.Discard(ctx, id, why)
	if err != nil {
		return 0, err
	}
	m.took(id, state, (*job).stopAll)
	m.ExpireSoon()
	return messages, nil
}

// Retry makes tasks pending again; see engine.Retry.
func (m *Manager) Retry(ctx context.Context, id navvy.JobID, sel engine.RetrySelection) (int64, navvy.Status, error) {
	m.settling.Lock()
	n, state, err := m.eng.Retry(ctx, id, sel)
	m.settling.Unlock()
	if n > 0 {
		m.took(id, state, func(j *job) { j.stale = true }) // it is decided, whatever came then
	}
	if err != nil {
		return 0, navvy.Status{}, err
	}
	if n > 0 && !state.HeldIn(m.eng.Epoch()) {
		if err := m.load(ctx, id); err != nil {
			return 0, navvy.Status{}, err
		}
	}
	if err := m.pump(ctx); err != nil {
		return 0, navvy.Status{}, err
	}
	st, err := m.Status(ctx, id)
	return n, st, err
}

// Remove deletes an ended job, when nothing of it runs any more. With force it
// is stopped first, and one whose records are damaged goes as well.
func (m *Manager) Remove(ctx context.Context, id navvy.JobID, force bool) error {
	if force {
		if _, err := m.Stop(ctx, id, "removed"); errors.Is(err, navvy.ErrCorrupt) {
			return m.removeDamaged(ctx, id)
		} else if err != nil {
			return err
		}
	}
	if st, err := m.Status(ctx, id); err == nil && st.State().Final() {
		if err := m.Await(ctx, id, false); ignoreGone(err) != nil {
			return err
		}
	}
	err := m.eng.Remove(ctx, id)
	if errors.Is(err, navvy.ErrConflict) || errors.Is(err, navvy.ErrCorrupt) {
		return err // nothing happened
	}
	m.took(id, gone, (*job).stopAll)
	return err
}

// removeDamaged ends what runs of a job whose records cannot be read, and removes it.
func (m *Manager) removeDamaged(ctx context.Context, id navvy.JobID) error {
	m.mu.Lock()
	if j := m.jobs[id]; j != nil {
		j.held = true
		j.stopAll()
	}
	m.mu.Unlock()
	err := m.wait(ctx, func() bool {
		j := m.jobs[id]
		return j == nil || !j.busy()
	})
	if err == nil {
		err = m.eng.RemoveDamaged(ctx, id)
	}
	if err == nil {
		m.took(id, gone, nil)
	}
	return err
}

// AttachClient notes that a client waits for the job. When the last one calls
// leave, a job that is not detached and has not ended is held.
func (m *Manager) AttachClient(job *navvy.Job) (leave func(context.Context) error) {
	m.mu.Lock()
	m.attached[job.ID]++
	m.mu.Unlock()
	return func(ctx context.Context) error {
		m.mu.Lock()
		m.attached[job.ID]--
		last := m.attached[job.ID] == 0
		if last {
			delete(m.attached, job.ID)
		}
		draining := m.draining
		m.idle.fire()
		m.mu.Unlock()
		if !last || draining {
			return nil
		}
		state, err := m.eng.HoldIf(ctx, job.ID, "its client ended", func(state *engine.State) bool {
			return state.Attached != 0 && !m.isAttached(job.ID) // another client may have come
		})
		if err == nil {
			m.took(job.ID, state, nil)
		}
		return ignoreGone(err)
	}
}

func (m *Manager) isAttached(id navvy.JobID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.attached[id] > 0
}

// Active gives the ids of the jobs that are being served, in order of service.
func (m *Manager) Active() []navvy.JobID {
	m.mu.Lock()
	defer m.mu.Unlock()
	ids := make([]navvy.JobID, 0, len(m.order))
	for _, j := range m.order {
		ids = append(ids, j.ID)
	}
	return slices.Clip(ids)
}
