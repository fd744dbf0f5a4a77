package sim

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/manager"
)

// hand is a worker: a process that outlives navvy, perhaps.
type hand struct {
	name    string
	session *manager.Session // nil while it is not connected
	runs    []*run           // what it runs
	late    []*run           // what it has reported, and may report again
	frozen  bool             // it does and says nothing
}

const maxHands = 4

// hire brings a new worker.
func (s *sim) hire() *hand {
	h := &hand{name: fmt.Sprintf("w%d", len(s.model.refs)+s.steps)}
	s.hands = append(s.hands, h)
	s.connect(h)
	return h
}

func (s *sim) connect(h *hand) {
	slots := 1 + s.rng.IntN(4)
	if s.chance(20) {
		slots = 0
	}
	h.session = s.mgr.Attach(manager.Worker{Name: h.name, Kinds: []string{navvy.KindNoop}, Slots: slots, Keeps: true})
	s.note("%s attaches with %d slots", h.name, slots)
}

// welcome connects the workers that have outlived the navvy that they worked for.
func (s *sim) welcome() {
	for _, h := range s.hands {
		s.connect(h)
	}
	if len(s.hands) == 0 {
		s.hire()
	}
}

// part breaks a worker's connection; it works on.
func (s *sim) part(h *hand) {
	s.note("%s is cut off", h.name)
	if h.session == nil {
		return
	}
	h.session.Close()
	for _, r := range h.runs {
		r.lost = r.lost || r.session == h.session && len(r.reports) == 0
	}
	h.unplug()
}

func (h *hand) unplug() {
	h.session = nil
	for _, r := range h.runs {
		r.writer = nil
	}
}

// bury is the death of a worker with all that it runs.
func (s *sim) bury(h *hand) {
	s.part(h)
	for _, r := range h.runs {
		r.over = true
	}
	s.hands = slices.DeleteFunc(s.hands, func(o *hand) bool { return o == h })
}

// drain takes what navvy wants of the workers.
func (s *sim) drain() {
	for _, h := range s.hands {
		if h.session == nil || s.broken || s.bad != nil {
			continue
		}
		var work manager.Work
		err := h.session.Next(s.waiting, &work)
		if errors.Is(err, s.waiting.Err()) {
			continue
		}
		if !s.read("next", err) {
			return
		}
		for _, settled := range work.Settled {
			s.settled(h, settled)
		}
		for i := range work.Assignments {
			s.assigned(h, &work.Assignments[i])
		}
		for _, w := range work.Watch {
			if r := h.find(w); r != nil {
				r.streams = true
			}
		}
		for _, stop := range work.Stops {
			if r := h.find(stop.Ref); r != nil && !s.deaf {
				r.told = true
			}
		}
	}
	s.obeyed()
}

// find gives what the worker runs, or ran last, by its name.
func (h *hand) find(ref manager.Ref) *run {
	for _, list := range [][]*run{h.runs, h.late} {
		for _, r := range list {
			if r.ref() == ref {
				return r
			}
		}
	}
	return nil
}

// obeyed sees that what runs of jobs that have been stopped was told to end.
func (s *sim) obeyed() {
	if s.broken || s.bad != nil {
		return
	}
	for _, h := range s.hands {
		for _, r := range h.runs {
			if f := r.job.sure; (f.stopped || !f.exists) && r.session == h.session && !r.told {
				s.violate(ruleStopped, "%s runs on, its job is %s", r, f)
			}
		}
	}
}

// assigned sees whether an attempt may start, and starts it.
func (s *sim) assigned(h *hand, a *manager.Assignment) {
	j := s.model.byID(a.Job.ID)
	if j == nil || a.Index < 0 || a.Index >= int64(len(j.tasks)) {
		s.violate(ruleDurable, "task %s/%d is to run, and nobody submitted it", a.Job.ID, a.Index)
		return
	}
	r := &run{
		job: j, task: j.tasks[a.Index], index: a.Index, id: a.Attempt, boot: s.boots, round: j.sure.round,
		hand: h, session: h.session, slot: a.Slot, must: s.since.Add(lease), may: s.now().Add(lease),
		plan: navvy.OutcomeSucceeded, streams: a.Watch,
	}
	r.out = write(s.rng, r.String())
	r.streams = r.streams || len(r.out.frames) >= inlineLimit
	if s.chance(30) {
		r.plan = navvy.OutcomeFailed
	}
	s.note("%s gets %s", h.name, r)
	if s.model.refs[r.ref()] != nil {
		s.violate(ruleIDs, "%s was given out before", r)
		return
	}
	s.mayStart(r, a)
	s.model.refs[r.ref()] = r
	r.task.runs = append(r.task.runs, r)
	h.runs = append(h.runs, r)
}

// mayStart sees whether there is a reason against an attempt.
func (s *sim) mayStart(r *run, a *manager.Assignment) {
	j, f := r.job, r.job.sure
	if !bytes.Equal(a.Input, j.inputs[r.index]) {
		s.violate(ruleDurable, "%s has the input %.40q, should have %.40q", r, a.Input, j.inputs[r.index])
	}
	if !f.exists || !s.rushed && (f.stopped || f.heldIn(s.boots)) || int(r.index) >= f.total {
		s.violate(ruleHeld, "%s starts, its job is %s", r, f)
	}
	if r.task.answer != nil {
		s.violate(ruleAnswered, "%s starts, its task has the result of %s", r, r.task.answer)
	}
	s.mayStartBeside(r)
	s.mayFailAgain(r)
}

// mayStartBeside sees whether what else runs leaves room for an attempt.
func (s *sim) mayStartBeside(r *run) {
	running := 0
	for _, t := range r.job.tasks {
		for _, o := range t.runs {
			if !s.holds(o) {
				continue
			}
			running++
			switch {
			case o.task == r.task:
				s.violate(ruleOnce, "%s starts, %s still runs", r, o)
			case o.slot == r.slot:
				s.violate(ruleCalls, "%s and %s share slot %d", r, o, r.slot)
			}
		}
	}
	if limit := s.limit(r.job); running >= limit && !s.rushed {
		s.violate(ruleCalls, "%s starts, and %d others run; %d may at once", r, running, limit)
	}
}

// mayFailAgain sees whether too much has failed for another attempt.
func (s *sim) mayFailAgain(r *run) {
	failed := 0
	for _, t := range r.job.tasks {
		if t.answer != nil && t.answer.failed() {
			failed++
		}
	}
	if j := r.job; j.spec.MaxFails.Exceeded(int64(failed), -1) {
		s.violate(ruleCalls, "%s starts, and %d tasks have failed; %d may", r, failed, j.spec.MaxFails.Count)
	}
	failed = 0
	for _, o := range r.task.runs {
		if o.kept && o.first().outcome == navvy.OutcomeFailed && o.id.Number > r.task.since() {
			failed++
		}
	}
	if most := r.job.spec.Spec.Retry.Max; failed > most {
		s.violate(ruleTries, "%s starts, %d attempts have failed; %d retries are allowed", r, failed, most)
	}
}

// holds tells whether a run has the right to run, for sure.
func (s *sim) holds(r *run) bool {
	return r.boot == s.boots && len(r.reports) == 0 && !r.lost && s.now().Before(r.must)
}

// limit is how many tasks of the job may run at once.
func (s *sim) limit(j *job) int {
	switch {
	case j.sure.parallelism > 0:
		return j.sure.parallelism
	case j.spec.Parallelism > 0:
		return j.spec.Parallelism
	default:
		return parallelism
	}
}

// settled takes note that a report is durable, and of what it became.
func (s *sim) settled(h *hand, o manager.Settled) {
	r := h.find(o.Ref)
	if r == nil {
		return // the worker that reported it is dead
	}
	s.note("%s is settled: %q", r, o.Refused)
	i := slices.IndexFunc(r.reports, func(rep reported) bool { return rep.session == h.session && !rep.acked })
	if i < 0 {
		s.violate(ruleCalls, "%s is settled, and was not reported", r)
		return
	}
	r.reports[i].acked = true
	switch {
	case i > 0 && o.Refused == "":
		s.violate(ruleOnce, "a second report of %s is accepted", r)
	case i > 0:
	case r.reports[i].wrong && r.reports[i].must: // its output did not come: it counts as lost, and its worker is told as of any other
	case o.Refused != "":
		s.refused(r, o.Refused)
	default:
		s.accepted(r, r.first())
	}
}

// refused sees that there is a reason to refuse a report that came in time.
func (s *sim) refused(r *run, why string) {
	f := r.job.sure
	good := r.first().must && r.first().outcome == navvy.OutcomeSucceeded && f.exists && !f.stopped && r.task.answer == nil
	if good && s.lookAt(r.job, false) && r.job.sure == f {
		s.violate(ruleAnswered, "%s has reported in time, and is refused: %s", r, why)
	}
}

// accepted sees that an accepted report was in time, and is where it should be.
func (s *sim) accepted(r *run, first *reported) {
	switch {
	case !first.may:
		s.violate(ruleLease, "%s was reported too late, and is accepted: its lease ended at %s", r, r.may)
		return
	case first.outcome == navvy.OutcomeSucceeded && r.job.sure.stopped && !s.rushed:
		s.violate(ruleAtomic, "%s is accepted, its job was stopped", r)
		return
	case first.outcome == navvy.OutcomeSucceeded && r.task.answer != nil && r.task.answer != r:
		s.violate(ruleOnce, "%s is accepted, and so was %s", r, r.task.answer)
		return
	}
	if !s.lookAt(r.job, false) || !r.job.sure.exists {
		return
	}
	if r.task.answer == r {
		return
	}
	if first.outcome == navvy.OutcomeSucceeded {
		s.violate(ruleAnswered, "%s is accepted, and is not the result", r)
		return
	}
	r.kept = true // the next look sees that it is
	s.lookAt(r.job, false)
}
