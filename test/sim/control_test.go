package sim

import (
	"fmt"
	"slices"
	"sync"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
)

// any gives a job, rarely one that is gone; nil if there is none.
func (s *sim) any() *job {
	var there []*job
	for _, j := range s.model.jobs {
		if j.sure.exists {
			there = append(there, j)
		}
	}
	if len(there) == 0 || s.chance(3) {
		return oneOf(s.rng, s.model.jobs)
	}
	// Not only among many that nobody remembers.
	if s.chance(50) {
		there = there[max(0, len(there)-5):]
	}
	return oneOf(s.rng, there)
}

// order is one step of a job: what it should make of the job, and the call.
type order struct {
	job   *job
	what  string
	step  func(face) face
	call  func() error
	after face
}

// prepare looks at the job before the step; false if there is nothing to be done.
func (s *sim) prepare(o *order) bool {
	if o.job == nil || !s.lookAt(o.job, false) {
		return false
	}
	o.after = o.job.sure
	if o.after.exists {
		o.after = o.step(o.after)
	}
	return true
}

// conclude judges what became of the step, and tells whether it took effect.
func (s *sim) conclude(o *order, err error) bool {
	j := o.job
	s.note("%s %s: %v", o.what, j, err)
	switch s.call(o.what, err, navvy.ErrNotFound) {
	case cut:
		j.maybe = append(j.maybe, o.after)
		return false
	case refused:
		if j.sure.exists {
			s.violate(ruleDurable, "%s %s: %v", o.what, j, err)
		}
		return false
	case done:
	}
	if !j.sure.exists {
		s.violate(ruleAtomic, "%s %s: it is gone, and that works", o.what, j)
		return false
	}
	j.sure = o.after
	return true
}

// steer carries out one step. It tells whether it took effect.
func (s *sim) steer(o *order) bool {
	return s.prepare(o) && s.conclude(o, o.call()) && s.lookAt(o.job, false)
}

// rush carries out steps of several jobs at once, and settles reports
// meanwhile: they share commits.
func (s *sim) rush() {
	var orders []*order
	for range 2 + s.rng.IntN(4) {
		j := s.any()
		if j == nil || slices.ContainsFunc(orders, func(o *order) bool { return o.job == j }) {
			continue
		}
		o := []func(*job) *order{s.holding, s.stopping, s.freeing}[s.rng.IntN(3)](j)
		if !s.prepare(o) {
			return
		}
		orders = append(orders, o)
	}
	s.machine.free() // who waits for space holds locks that others wait for: see disk.grow
	errs := make([]error, len(orders)+1)
	var calls sync.WaitGroup
	for i, o := range orders {
		calls.Go(func() { errs[i] = o.call() })
	}
	calls.Go(func() { errs[len(orders)] = s.mgr.Settle(s.ctx) })
	calls.Wait()
	s.rushed = true // what started may have done so before its job was held
	for i, o := range orders {
		before := o.job.sure
		o.job.mixed = true
		if !s.conclude(o, errs[i]) {
			continue
		}
		// A report may have ended the job before the step, which then does nothing.
		o.job.maybe = []face{before}
		if s.lookAt(o.job, false) && o.job.sure != o.after && !o.job.ended {
			s.violate(ruleAtomic, "%s %s worked, and did nothing", o.what, o.job)
		}
	}
	s.read("settle", errs[len(orders)])
	s.drain()
	s.rushed = false
}

func (s *sim) holding(j *job) *order {
	return &order{job: j, what: "hold", step: func(f face) face {
		f.held = f.held || !j.ended
		return f
	}, call: func() error {
		if s.forgetHold {
			return nil
		}
		_, err := s.mgr.Hold(s.ctx, j.id, "by hand", false)
		return err
	}}
}

func (s *sim) hold() {
	if j := s.any(); j != nil {
		s.steer(s.holding(j))
	}
}

// interrupt holds a job and ends what runs of it.
func (s *sim) interrupt() {
	j := s.any()
	if j == nil {
		return
	}
	o := s.holding(j)
	o.call = func() error {
		_, err := s.mgr.Hold(s.ctx, j.id, "by hand", true)
		return err
	}
	if !s.steer(o) || j.ended {
		return
	}
	s.drain()
	for _, h := range s.hands {
		for _, r := range h.runs {
			if r.job == j && r.session == h.session && !r.told && !s.broken && s.bad == nil {
				s.violate(ruleStopped, "%s runs on, its job was interrupted", r)
			}
		}
	}
}

func (s *sim) resume() {
	if j := s.any(); j != nil {
		s.steer(s.freeing(j))
	}
}

// freeing lets a job go on, with a client that waits for it or without.
func (s *sim) freeing(j *job) *order {
	parallel, attach := 0, s.chance(40) && !s.calm
	if s.chance(20) {
		parallel = 1 + s.rng.IntN(4)
	}
	if attach && j.leave == nil && j.sure.exists {
		s.attach(j)
	}
	return &order{job: j, what: "resume", step: func(f face) face {
		if j.ended {
			return f
		}
		f.held, f.attached = false, 0
		if attach {
			f.attached = s.boots
		}
		if parallel > 0 {
			f.parallelism = parallel
		}
		return f
	}, call: func() error {
		_, err := s.mgr.Resume(s.ctx, j.id, engine.ResumeOptions{Attached: attach, Parallelism: parallel})
		return err
	}}
}

func (s *sim) stopping(j *job) *order {
	return &order{job: j, what: "stop", step: func(f face) face {
		if !j.ended {
			f.stopped, f.held = true, false
		}
		return f
	}, call: func() error {
		_, err := s.mgr.Stop(s.ctx, j.id, "by hand")
		return err
	}}
}

func (s *sim) stopJob() {
	if j := s.any(); j != nil {
		s.steer(s.stopping(j))
	}
}

// leave ends the client that waits for a job.
func (s *sim) leave(j *job) {
	if j == nil || j.leave == nil || s.broken || !s.lookAt(j, false) {
		return
	}
	leave := j.leave
	j.leave = nil
	if !j.sure.exists {
		s.call("leave", leave())
		return
	}
	s.steer(&order{job: j, what: "leave", step: func(f face) face {
		if !j.ended && f.attached != 0 {
			f.held = true
		}
		return f
	}, call: leave})
}

func (s *sim) someoneLeaves() { s.leave(s.any()) }

// selection draws which tasks are to run again.
func (s *sim) selection(j *job) engine.RetrySelection {
	switch s.rng.IntN(3) {
	case 0:
		return engine.RetrySelection{}
	case 1:
		return engine.RetrySelection{Failed: true}
	}
	var sel engine.RetrySelection
	for i := range j.sure.total {
		if s.chance(40) {
			sel.Indexes = append(sel.Indexes, int64(i))
		}
	}
	return sel
}

func (s *sim) retryJob() {
	j := s.any()
	if j == nil || !j.sure.exists || !s.lookAt(j, false) || !j.sure.exists {
		return
	}
	sel := s.selection(j)
	before := j.sure
	want := j.selected(sel)
	if before.stopped {
		want += j.pending()
	}
	after := before
	if want > 0 {
		after.round++
		after.stopped = false
		after.held = after.held && !j.ended // what held it before its end
	}
	j.retry = sel
	n, _, err := s.mgr.Retry(s.ctx, j.id, engine.RetrySelection{Indexes: slices.Clone(sel.Indexes), Failed: sel.Failed})
	s.note("retry %s, %+v: %d of %d, %v", j, sel, n, want, err)
	switch s.call("retry", err, navvy.ErrConflict) {
	case cut:
		j.maybe = append(j.maybe, after)
		j.perhaps = ""
		return
	case refused:
		if !before.stopped || len(sel.Indexes) == 0 {
			s.violate(ruleCalls, "retry %s: %v", j, err)
		}
		return
	case done:
	}
	if n != int64(want) {
		s.violate(ruleAtomic, "retry %s, %+v: %d tasks, should be %d", j, sel, n, want)
		return
	}
	if want > 0 {
		j.retried(before.round, sel)
		j.printed, j.perhaps = "", ""
	}
	j.sure = after
	s.lookAt(j, false)
}

// selected counts the results that a retry would move.
func (j *job) selected(sel engine.RetrySelection) int {
	n := 0
	for i, t := range j.tasks[:j.sure.total] {
		named := len(sel.Indexes) == 0 || slices.Contains(sel.Indexes, int64(i))
		if named && t.answer != nil && (!sel.Failed || t.answer.failed()) {
			n++
		}
	}
	return n
}

// pending counts the tasks without a result.
func (j *job) pending() int {
	n := 0
	for _, t := range j.tasks[:j.sure.total] {
		if t.answer == nil {
			n++
		}
	}
	return n
}

func (s *sim) removeJob() {
	j := s.any()
	if j == nil || !s.lookAt(j, false) || !j.sure.exists {
		return
	}
	if s.mgr.Busy() > 0 {
		return // it would wait for what runs
	}
	force := s.chance(50)
	err := s.mgr.Remove(s.ctx, j.id, force)
	s.note("remove %s, force %t: %v", j, force, err)
	switch s.call("remove", err, navvy.ErrConflict) {
	case cut:
		stopped := j.sure
		stopped.stopped, stopped.held = true, false
		j.maybe = append(j.maybe, face{})
		if force {
			j.maybe = append(j.maybe, stopped)
		}
	case refused:
		if j.ended {
			s.violate(ruleCalls, "remove %s: %v", j, err)
		}
	case done:
		if !j.ended && !force {
			s.violate(ruleAtomic, "%s is removed before its end", j)
		}
		j.sure, j.removed = face{}, true
		s.lookAt(j, false)
	}
}

// print notes what a client has printed, as opaque bytes.
func (s *sim) print() {
	j := s.any()
	if j == nil || !s.lookAt(j, false) || !j.sure.exists {
		return
	}
	j.perhaps = fmt.Sprintf("printed at step %d", s.steps)
	if s.read("note what is printed", s.eng.SetPrinted(s.ctx, j.id, []byte(j.perhaps))) {
		j.printed = j.perhaps
	}
}

func (s *sim) markRead() {
	j := s.any()
	if j != nil && s.lookAt(j, false) && j.sure.exists {
		s.note("%s is read", j)
		if s.read("mark as read", s.eng.MarkRead(s.ctx, j.id)) {
			s.lookAt(j, false) // it expires sooner now
		}
	}
}

// stray brings a result past the manager, as a second server would: the store
// itself must refuse it.
func (s *sim) stray() {
	j := s.any()
	if j == nil || !s.lookAt(j, false) || !j.sure.exists || j.sure.total == 0 {
		return
	}
	i := s.rng.IntN(j.sure.total)
	t := j.tasks[i]
	if t.answer == nil && !j.sure.stopped {
		return
	}
	s.strays++
	r := &run{job: j, task: t, index: int64(i), id: navvy.AttemptID{Number: 1, Epoch: 1<<30 + s.strays}, boot: s.boots, round: j.sure.round, over: true}
	r.reports = []reported{{outcome: navvy.OutcomeSucceeded}}
	s.model.refs[r.ref()] = r
	v := s.eng.Answer(s.ctx, []engine.Report{{Job: &j.spec, Result: navvy.Result{
		Task: r.ref().Task, State: navvy.Succeeded, Attempts: 1,
		Attempt: navvy.Attempt{ID: r.id, Outcome: navvy.OutcomeSucceeded, Started: s.now(), Finished: s.now()},
	}}})[0]
	s.note("stray answer %s: %v", r, v.Err)
	if s.call("stray answer", v.Err, navvy.ErrExists, navvy.ErrConflict) == done {
		s.violate(ruleOnce, "%s is accepted, and so was %v; the job is %s", r, t.answer, j.sure)
	}
}
