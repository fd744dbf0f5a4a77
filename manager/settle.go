package manager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
)

// Settle brings all waiting reports to disk, decides what they mean, and tells
// the workers. An error means that the engine cannot be written to any more.
func (m *Manager) Settle(ctx context.Context) error {
	m.settling.Lock()
	err := m.settleAll(ctx)
	m.settling.Unlock()
	if err != nil {
		return err
	}
	return m.pump(ctx)
}

func (m *Manager) settleAll(ctx context.Context) error {
	for {
		m.mu.Lock()
		reports := m.reports
		m.reports, m.spare = m.spare, nil
		m.mu.Unlock()
		if len(reports) == 0 {
			return nil
		}
		for rest := reports; len(rest) > 0; {
			n := together(rest)
			if err := m.settle(ctx, rest[:n]); err != nil {
				return err
			}
			rest = rest[n:]
		}
		clear(reports)
		m.mu.Lock()
		m.spare = reports[:0]
		m.mu.Unlock()
	}
}

// maxRound bounds the reports of one round, in bytes: far below what a store takes at once.
const maxRound = 4 << 20

// together is how many of the reports go into one round.
func together(reports []report) int {
	bytes := 0
	for i := range reports {
		if bytes += reports[i].bytes; bytes > maxRound && i > 0 {
			return i
		}
	}
	return len(reports)
}

// settle is one round: judge, write, follow up.
func (m *Manager) settle(ctx context.Context, reports []report) error {
	answers := m.answers[:0]
	defer func() {
		clear(answers)
		m.answers = answers
	}()
	if err := m.findAgain(ctx, reports); err != nil {
		return err
	}
	answering := make([]*report, 0, len(reports))
	var keeping []*report
	var ended []engine.Ended
	m.mu.Lock()
	for i := range reports {
		r := &reports[i]
		m.checkOutput(r)
		if m.finalLocked(r) {
			answers = append(answers, m.answerLocked(r))
			answering = append(answering, r)
			continue
		}
		if !r.again {
			ended = append(ended, engine.Ended{Task: r.Task, Attempt: r.Attempt, Log: r.known.log()})
		}
		keeping = append(keeping, r)
	}
	m.mu.Unlock()

	var kept map[navvy.JobID]engine.State
	if len(ended) > 0 {
		var err error
		if kept, err = m.eng.KeepAttempts(ctx, ended); err != nil {
			return fmt.Errorf("manager: keep attempts: %w", err)
		}
	}
	verdicts := m.eng.Answer(ctx, answers)

	m.mu.Lock()
	defer m.mu.Unlock()
	for id, state := range kept {
		if j := m.jobs[id]; j != nil {
			j.update(state, m.eng.Epoch())
		}
	}
	for i, r := range answering {
		if err := m.answeredLocked(r, &answers[i].Result, verdicts[i]); err != nil {
			return err
		}
	}
	for _, r := range keeping {
		m.keptLocked(r)
	}
	for i := range reports {
		m.afterLocked(&reports[i])
	}
	m.idle.fire()
	if m.eng.Oversized() {
		m.expireSoon = true // look for jobs that have to make room
	}
	return nil
}

// findAgain marks reports of attempts that are their tasks' results already: their
// workers have not heard of it, since they or we were restarted.
func (m *Manager) findAgain(ctx context.Context, reports []report) error {
	for i := range reports {
		r := &reports[i]
		if r.known != nil || !r.session.info.Returns {
			continue
		}
		res, err := m.eng.Result(ctx, r.Task)
		switch {
		case err == nil:
			r.again = res.ID == r.Attempt.ID
		case !errors.Is(err, navvy.ErrNotFound) && !errors.Is(err, navvy.ErrCorrupt):
			return fmt.Errorf("manager: look for the result of %s: %w", r.Task, err)
		}
	}
	return nil
}

// checkOutput makes a report without its output one of a lost attempt.
func (m *Manager) checkOutput(r *report) {
	if r.known == nil {
		r.Attempt.Output = navvy.Output{} // nobody knows where it lies
		return
	}
	if err := r.known.complete(&r.Attempt.Output); err != nil {
		m.opts.Logger.Error("an attempt's output is incomplete", "task", r.Task, "error", err)
		r.Attempt.Outcome, r.Attempt.Reason, r.Attempt.Message = navvy.OutcomeLost, navvy.ReasonLost, err.Error()
		r.Attempt.Output = navvy.Output{}
	}
}

// finalLocked tells whether the report ends its task: a success, or a failure
// with no attempt left. What the manager does not know is kept as stale.
func (m *Manager) finalLocked(r *report) bool {
	if r.known == nil {
		r.Attempt.Outcome = navvy.OutcomeStale
		return false
	}
	j := r.known.job
	t := j.tries[r.Task.Index]
	switch r.Attempt.Outcome {
	case navvy.OutcomeSucceeded:
		return true
	case navvy.OutcomeFailed:
		return int(t.failed) >= j.Spec.Retry.Max || r.Attempt.Reason.Final()
	case navvy.OutcomeLost:
		return int(t.lost)+1 >= m.opts.MaxLost
	default:
		return false
	}
}

func (m *Manager) answerLocked(r *report) engine.Report {
	j := r.known.job
	t := j.tries[r.Task.Index]
	state := navvy.Succeeded
	if r.Attempt.Outcome != navvy.OutcomeSucceeded {
		state = navvy.Failed
	}
	report := engine.Report{Job: j.Job, Log: r.known.log(), Result: navvy.Result{
		Task: r.Task, State: state, Attempts: t.failed + t.lost + 1, Attempt: r.Attempt,
	}}
	if j.state.Total == 1 { // those of larger jobs share a read
		told := j.state
		report.State = &told
	}
	return report
}

// answeredLocked follows a verdict up.
func (m *Manager) answeredLocked(r *report, result *navvy.Result, v engine.Verdict) error {
	j := r.known.job
	refused := ""
	switch {
	case v.Err == nil:
		j.answered.Add(uint32(r.Task.Index))
		j.update(v.State, m.eng.Epoch())
		j.queue.answered.add(m.opts.Clock())
		m.calledLocked(j.ID, result, &v.State)
	case errors.Is(v.Err, navvy.ErrExists):
		j.answered.Add(uint32(r.Task.Index))
		refused = v.Err.Error()
	case errors.Is(v.Err, navvy.ErrConflict), errors.Is(v.Err, navvy.ErrNotFound):
		j.state.Stopped = true
		refused = v.Err.Error()
	case errors.Is(v.Err, navvy.ErrCorrupt):
		m.opts.Logger.Error("an answer is dropped: the data of its job are damaged", "task", r.Task, "error", v.Err)
		j.held = true // as long as this process lives
		refused = v.Err.Error()
	default:
		return fmt.Errorf("manager: answer %s: %w", r.Task, v.Err)
	}
	delete(j.tries, r.Task.Index)
	m.meters.settled(r, true, refused != "")
	r.session.settledLocked(r, refused)
	return nil
}

// awayPause is how long a task waits that was given back because what was to do it is away.
const awayPause = 2 * time.Second

// keptLocked lets a task run again whose attempt did not end it.
func (m *Manager) keptLocked(r *report) {
	m.meters.settled(r, false, r.known == nil)
	if r.known == nil {
		refused := "the lease was lost"
		if r.again {
			refused = ""
		}
		r.session.settledLocked(r, refused)
		return
	}
	j := r.known.job
	t := j.tries[r.Task.Index]
	t.count(&r.Attempt)
	j.tried(r.Task.Index, t)
	at := m.opts.Clock()
	if r.Attempt.Outcome == navvy.OutcomeFailed {
		at = at.Add(m.opts.Jitter(j.Spec.Retry.Pause(int(t.failed))))
	}
	if r.Attempt.Reason == navvy.ReasonAway {
		at = at.Add(m.opts.Jitter(awayPause))
	}
	if !j.stale {
		j.runAgain(r.Task.Index, at)
	}
	r.session.settledLocked(r, "")
}

// afterLocked is what every settled report is followed by.
func (m *Manager) afterLocked(r *report) {
	if r.known == nil {
		return
	}
	j := r.known.job
	if j.settling[r.Task.Index] == r.known {
		delete(j.settling, r.Task.Index)
	}
	if r.known.failing {
		j.failing--
	}
	if err := r.known.close(); err != nil {
		m.opts.Logger.Error("cannot close the output of an attempt", "task", r.Task, "error", err)
	}
	m.fireLocked(j.ID)
	m.countFailsLocked(j)
	m.dropLocked(j)
}

func (s *Session) settledLocked(r *report, refused string) {
	s.unsettled--
	s.unsettledBytes -= r.bytes
	if r.own {
		return // the worker did not report it
	}
	outlives := r.known != nil && r.known.job.Spec.Outlives()
	if refused == "" && !s.info.Keeps && !outlives {
		return
	}
	to := s
	if r.known != nil {
		to = r.known.session // the worker may have come back since
	}
	to.work.Settled = append(to.work.Settled, Settled{Ref: Ref{r.Task, r.Attempt.ID}, Refused: refused})
	to.wake()
}
