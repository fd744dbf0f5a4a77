package manager

import (
	"fmt"
	"time"

	"github.com/navvy-run/navvy"
)

// Why tells of a task without a result which attempt runs, nil if none does, and
// else what it waits for, in words. st is where its job stands.
func (m *Manager) Why(task navvy.TaskID, st *navvy.Status) (running *navvy.Attempt, waiting string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	j := m.jobs[task.Job]
	if j != nil {
		for _, a := range []*attempt{j.running[task.Index], j.settling[task.Index]} {
			if a != nil {
				return &navvy.Attempt{ID: a.id, Worker: a.session.info.Name, Slot: a.slot, Started: a.started}, ""
			}
		}
	}
	switch {
	case st.State() == navvy.Stopped:
		return nil, "the job was stopped: " + st.Why
	case st.Held:
		return nil, "the job is held: " + st.Why
	case st.Waiting != "":
		return nil, st.Waiting
	case m.draining:
		return nil, "navvy is about to end"
	case m.opts.Full():
		return nil, "the disk is full"
	case len(m.sessions) == 0:
		return nil, "there is no worker"
	case j == nil:
		return nil, "other jobs are served first"
	}
	return nil, m.waitingLocked(j, task.Index)
}

func (m *Manager) waitingLocked(j *job, index int64) string {
	now := m.opts.Clock()
	if w := j.waiting[index]; w != nil && w.at.After(now) {
		return fmt.Sprintf("the next attempt starts in %s, after %d failed", w.at.Sub(now).Round(100*time.Millisecond), j.tries[index].failed)
	}
	limit := j.limit(m.opts.Parallelism)
	queued := j.queue.why(now)
	switch {
	case queued != "":
		return queued
	case len(j.running) >= limit:
		return fmt.Sprintf("%d tasks of the job run, and no more may at once", limit)
	case j.earliest.After(now):
		return fmt.Sprintf("the job's delay: the next task starts in %s", j.earliest.Sub(now).Round(100*time.Millisecond))
	case m.awaitingLocked(now) && j.Accepted.Before(m.began):
		return "workers from before the server's restart may still run it: they are waited for"
	case m.policyLocked(j).choose(m, j) == nil:
		return m.noRoomWhyLocked(j)
	case m.noRoomLocked(j):
		return "other detached jobs take all slots"
	default:
		return "it is about to start"
	}
}

// noRoomLocked tells whether the way of dispatch leaves no room for the job.
func (m *Manager) noRoomLocked(j *job) bool {
	m.policy.begin(m)
	return m.policy.room(j) <= 0
}
