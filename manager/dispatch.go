package manager

import (
	"cmp"
	"math"

	"github.com/navvy-run/navvy"
)

// Dispatch says how tasks come to workers. The ways differ in who is asked how much,
// and in nothing else: each is one small file.
type Dispatch = navvy.Dispatch

// The ways of dispatch: those that a server or a queue can have, and Local.
const (
	// Local is for workers in this process, whose number of slots is the jobs' affair.
	Local      Dispatch = "local"
	Pull                = navvy.Pull
	Push                = navvy.Push
	RoundRobin          = navvy.RoundRobin
)

// policy is what a way of dispatch decides. All its methods are called under the
// manager's lock.
type policy interface {
	// begin is called before tasks are handed out.
	begin(m *Manager)
	// fair tells whether jobs take turns; otherwise each starts all it can before the next.
	fair() bool
	// room is how many more tasks of the job may run now, beside its own cap.
	room(j *job) int
	// choose gives the worker that a task of the job would go to, nil if there is none.
	choose(m *Manager, j *job) *Session
	// started says that a task of the job went where choose said.
	started(j *job)
}

// policyOf is what a way decides; nil if there is no such way.
func policyOf(d Dispatch) policy {
	switch d {
	case "", Local:
		return &local{}
	case Pull:
		return pull{}
	case Push:
		return push{}
	case RoundRobin:
		return roundRobin{}
	default:
		return nil
	}
}

// unbounded is for policies that leave it to the workers how much runs.
type unbounded struct{}

func (unbounded) begin(*Manager) {}
func (unbounded) fair() bool     { return true }
func (unbounded) room(*job) int  { return math.MaxInt }
func (unbounded) started(*job)   {}

// policyLocked is the way in which tasks of the job come to workers: its queue's, or
// the manager's. Beside workers in this process there are no ways to choose from.
func (m *Manager) policyLocked(j *job) policy {
	if j.queue.policy != nil && m.policy.fair() {
		return j.queue.policy
	}
	return m.policy
}

// Dispatch is the way of queues that have none of their own.
func (m *Manager) Dispatch() Dispatch { return cmp.Or(m.opts.Dispatch, Local) }
