package manager

import (
	"sync/atomic"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/internal/meter"
)

// Meters count what a manager has done since its start. They are read while they
// change.
type Meters struct {
	// Submit is how long it took until a job was durable, from its last input on.
	Submit meter.Histogram
	// Dispatch is how long jobs waited for the start of their first task.
	Dispatch meter.Histogram
	// Result is how long it took from a report until it was settled on disk.
	Result meter.Histogram

	Started   atomic.Int64 // attempts given to workers
	Succeeded atomic.Int64 // tasks that have their result
	Failed    atomic.Int64
	Retried   atomic.Int64 // attempts that failed and did not end their task
	Lost      atomic.Int64 // attempts whose worker left, or whose lease ran out
	Refused   atomic.Int64 // reports that came too late
	Expired   atomic.Int64 // leases that ran out

	Used Used // by attempts that were reported in time
}

// Used is what attempts have used together.
type Used struct {
	User, System, Throttled atomic.Int64 // nanoseconds
	Read, Written           atomic.Int64 // bytes
	OOMKills                atomic.Int64 // processes killed for want of memory
}

func (u *Used) add(a *navvy.Usage) {
	u.User.Add(int64(a.User))
	u.System.Add(int64(a.System))
	if a.Throttled > 0 {
		u.Throttled.Add(int64(a.Throttled))
	}
	if a.Read+a.Written > 0 {
		u.Read.Add(a.Read)
		u.Written.Add(a.Written)
	}
	if a.OOMKills > 0 {
		u.OOMKills.Add(a.OOMKills)
	}
}

// Meters are the manager's numbers.
func (m *Manager) Meters() *Meters { return &m.meters }

// started counts an attempt; the job's first was waited for.
func (c *Meters) started(j *job, now time.Time) {
	c.Started.Add(1)
	if !j.begun {
		j.begun = true
		if j.state.Pending() == j.state.Total {
			c.Dispatch.Observe(now.Sub(j.Accepted))
		}
	}
}

// settled counts a report that is on disk.
func (c *Meters) settled(r *report, answered, refused bool) {
	c.Result.Observe(time.Since(r.at))
	if !refused && r.Attempt.Usage != (navvy.Usage{}) {
		c.Used.add(&r.Attempt.Usage)
	}
	switch {
	case refused:
		c.Refused.Add(1)
	case r.Attempt.Outcome == navvy.OutcomeLost && !answered:
		c.Lost.Add(1)
	case !answered:
		c.Retried.Add(1)
	case r.Attempt.Outcome == navvy.OutcomeSucceeded:
		c.Succeeded.Add(1)
	default:
		c.Failed.Add(1)
	}
}

// QueueLoad is what of a queue is being served.
type QueueLoad struct {
	Queue                  string
	Jobs                   int
	Queued, Running, Waits int64 // tasks: without an attempt, with one, and with a report on its way to disk
}

// Loads tells of each queue what of it is being served: jobs behind the window are
// not counted.
func (m *Manager) Loads() []QueueLoad {
	m.mu.Lock()
	defer m.mu.Unlock()
	var loads []QueueLoad
	at := map[string]int{}
	for _, j := range m.order {
		i, ok := at[j.Queue]
		if !ok {
			i = len(loads)
			at[j.Queue] = i
			loads = append(loads, QueueLoad{Queue: j.Queue})
		}
		l := &loads[i]
		running, settling := int64(len(j.running)), int64(len(j.settling))
		l.Jobs++
		l.Running += running
		l.Waits += settling
		if !j.held {
			l.Queued += max(0, j.state.Pending()-running-settling)
		}
	}
	return loads
}
