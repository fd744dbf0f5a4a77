package sim

import (
	"bytes"
	"errors"
	"io"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
)

// look compares everything that navvy keeps with what it has promised.
func (s *sim) look() {
	for _, j := range s.model.jobs {
		if !s.lookAt(j, true) {
			return
		}
	}
	if !s.lookAtRegistry() || !s.lookAtValues() || !s.lookAtFiles() {
		return
	}
	s.lookAtTables()
	if s.calm || s.chance(20) {
		_, err := s.eng.Verify(s.ctx, func(err error) { s.violate(ruleSound, "%v", err) })
		s.read("verify", err)
	}
}

// lookAt compares one job; what a cut call has left open, it settles. It is
// false if it could not see all, or did not like it.
func (s *sim) lookAt(j *job, all bool) bool {
	_, state, err := s.eng.Job(s.ctx, j.id)
	if s.call("read a job", err, navvy.ErrNotFound) == cut {
		return false
	}
	got := s.faceOf(&state, err == nil)
	stopped := j.sure.stopped && !j.mixed // was it known to be before any result that is new now?
	if !s.adopt(j, got, &state) {
		return false
	}
	if !got.exists {
		return true
	}
	if all && !s.lookAtInputs(j) || !s.lookAtResults(j, &state, stopped) {
		return false
	}
	j.mixed = false
	return s.lookAtLetters(j) && s.lookAtHistory(j) && s.lookAtAttempts(j) && s.lookAtPrinted(j) && s.lookAtStatus(j, &state)
}

// lookAtStatus sees that users are told the same.
func (s *sim) lookAtStatus(j *job, state *engine.State) bool {
	st, err := s.mgr.Status(s.ctx, j.id)
	if !s.read("ask for the status", err) {
		return false
	}
	c, pending := st.Counts, state.Pending()
	if c.Succeeded != state.Succeeded || c.Failed != state.Failed || c.Queued+c.Running+c.Stopped != pending ||
		c.Stopped > 0 != (state.Stopped && pending > 0) || st.Held != (!j.ended && j.sure.heldIn(s.boots)) {
		s.violate(ruleCounts, "%s is %s, ended %t; its status is %+v", j, j.sure, j.ended, st)
	}
	return s.bad == nil
}

func (s *sim) faceOf(state *engine.State, exists bool) face {
	if !exists {
		return face{}
	}
	f := face{
		exists: true, open: state.Open, held: state.Held, stopped: state.Stopped, cut: state.Cut,
		total: int(state.Total), round: state.Round, parallelism: state.Parallelism,
	}
	if state.Attached != 0 {
		f.attached = s.bootOf(state.Attached)
	}
	return f
}

// bootOf gives the boot that had an epoch, -1 if none did.
func (s *sim) bootOf(epoch uint32) int {
	if boot, ok := s.epochs[epoch]; ok {
		return boot
	}
	return -1
}

// adopt takes over how a job looks, if it may look so.
func (s *sim) adopt(j *job, got face, state *engine.State) bool {
	fits := got == j.sure || s.byItself(j, j.sure, got, state)
	for _, f := range j.maybe {
		fits = fits || got == f || s.byItself(j, f, got, state)
	}
	if !fits {
		s.violate(s.blame(j, got), "%s is %s, should be %s or one of %s", j, got, j.sure, j.maybe)
		return false
	}
	if got.exists && got.round > j.sure.round {
		j.retried(j.sure.round, j.retry)
	}
	j.removed = j.removed || j.sure.exists && !got.exists
	j.sure, j.maybe = got, nil
	j.ended, j.expires = got.exists && state.Ended(), state.Expires
	return true
}

// byItself tells whether navvy may have changed the job on its own account.
func (s *sim) byItself(j *job, want, got face, state *engine.State) bool {
	if !want.exists {
		return false
	}
	if !got.exists {
		return j.ended && !j.expires.IsZero() && !s.latest().Before(j.expires) // its time was over, perhaps before the clock went back
	}
	if got.held && !want.held && want.attached != 0 && want.attached != s.boots {
		want.held = true // its client is gone for good
	}
	total := int64(got.total)
	if got.open {
		total = -1
	}
	if got.stopped && !want.stopped && j.spec.MaxFails.Exceeded(state.Failed, total) {
		want.stopped, want.held = true, false
	}
	return got == want
}

// blame says which promise is broken by a job that looks so.
func (s *sim) blame(j *job, got face) rule {
	switch {
	case j.sure.exists && (!got.exists || got.total < j.sure.total):
		return ruleDurable
	case got.exists && !j.sure.exists && !j.stream && got.total < len(j.inputs), got.open != j.sure.open, got.cut != j.sure.cut:
		return ruleCut
	case got.held != j.sure.held:
		return ruleHeld
	default:
		return ruleAtomic
	}
}

// retried moves results to history.
func (j *job) retried(round uint32, sel engine.RetrySelection) int {
	n := 0
	move := func(i int64) {
		t := j.tasks[i]
		if t.answer == nil || sel.Failed && !t.answer.failed() {
			return
		}
		t.history[t.answered] = t.answer
		t.answer, t.acked, t.perhaps = nil, false, false
		n++
	}
	for _, i := range sel.Indexes {
		move(i)
	}
	if len(sel.Indexes) == 0 {
		for i := range j.tasks {
			move(int64(i))
		}
	}
	return n
}

// failed tells whether a run that is a result is one of a failed task.
func (r *run) failed() bool {
	first := r.first()
	return first == nil || first.outcome != navvy.OutcomeSucceeded || first.wrong || !first.may
}

func (s *sim) lookAtInputs(j *job) bool {
	var chunk *engine.Chunk
	for i := range j.sure.total {
		in, ok := chunk.Get(int64(i))
		if !ok {
			var err error
			chunk, err = s.eng.Inputs(s.ctx, j.id, int64(i))
			if errors.Is(err, navvy.ErrNotFound) || errors.Is(err, navvy.ErrCorrupt) {
				s.violate(ruleDurable, "%s has lost input %d: %v", j, i, err)
				return false
			}
			if !s.read("read inputs", err) {
				return false
			}
			in, _ = chunk.Get(int64(i))
		}
		if !bytes.Equal(in, j.inputs[i]) {
			s.violate(ruleDurable, "input %d of %s is %.40q, was %.40q", i, j, in, j.inputs[i])
			return false
		}
	}
	return true
}

// lookAtResults sees that what was answered still is, by the same attempt, and
// that what is answered was reported in time.
func (s *sim) lookAtResults(j *job, state *engine.State, stopped bool) bool {
	var list []*navvy.Result
	if !s.read("read results", s.eng.Results(s.ctx, j.id, 0, func(r *navvy.Result) error {
		list = append(list, r)
		return nil
	})) {
		return false
	}
	found := map[int64]bool{}
	var succeeded, failed int64
	for _, res := range list {
		found[res.Task.Index] = true
		if res.State == navvy.Succeeded {
			succeeded++
		} else {
			failed++
		}
		if res.Task.Index >= int64(len(j.tasks)) {
			s.violate(ruleCounts, "%s has a result of task %d", j, res.Task.Index)
			return false
		}
		if !s.judge(j, res, stopped) {
			return false
		}
	}
	for i, t := range j.tasks {
		if t.answer != nil && !found[int64(i)] {
			s.violate(ruleAnswered, "the result of task %d of %s, %s, is gone", i, j, t.answer)
			return false
		}
	}
	if succeeded != state.Succeeded || failed != state.Failed {
		s.violate(ruleCounts, "%s counts %d and %d, has %d and %d", j, state.Succeeded, state.Failed, succeeded, failed)
		return false
	}
	return true
}

// judge sees whether an attempt may be a task's result.
func (s *sim) judge(j *job, res *navvy.Result, stopped bool) bool {
	t := j.tasks[res.Task.Index]
	r := s.runOf(res.Task, res.ID)
	if r == nil {
		s.violate(ruleIDs, "the result of %d/%d is of attempt %s, which nobody gave out", j.n, res.Task.Index, res.ID)
		return false
	}
	s.judgeReport(r, res)
	switch {
	case t.answer != nil && t.answer != r:
		s.violate(ruleOnce, "the result of %d/%d was of %s, is of %s", j.n, res.Task.Index, t.answer, r)
	case res.Round < r.round || res.Round > j.sure.round:
		s.violate(ruleAnswered, "%s was given out in round %d, is the result of round %d", r, r.round, res.Round)
	case t.answer == nil && stopped:
		s.violate(ruleAtomic, "%s became the result after its job was stopped", r)
	}
	if s.bad == nil && (t.answer == nil || res.Output.Logged || s.chance(10)) {
		t.answer, t.answered = r, res.Round
		return s.readBack(r, &res.Attempt)
	}
	return s.bad == nil
}

// judgeReport sees whether an attempt that is a result has reported that, in time.
func (s *sim) judgeReport(r *run, res *navvy.Result) {
	inTime := r.mayBe(res.Outcome, s.latest())
	switch {
	case !inTime && r.first() != nil && r.boot == s.boots && !r.lost:
		s.violate(ruleLease, "%s is the result, it was reported too late: its lease ended at %s", r, r.may)
	case !inTime:
		s.violate(ruleOnce, "%s is the result, as %s, and has not reported that", r, res.Outcome)
	case (res.State == navvy.Succeeded) != (res.Outcome == navvy.OutcomeSucceeded):
		s.violate(ruleAnswered, "%s has %s, its task has %s", r, res.Outcome, res.State)
	}
}

func (s *sim) lookAtHistory(j *job) bool {
	for i, t := range j.tasks {
		n := 0
		if j.sure.round == 0 {
			continue
		}
		if !s.read("read history", s.eng.History(s.ctx, navvy.TaskID{Job: j.id, Index: int64(i)}, func(res *navvy.Result) error {
			n++
			if was := t.history[res.Round]; was == nil || was.id != res.ID {
				s.violate(ruleAtomic, "the result of %d/%d in round %d was of %v, is of %s", j.n, i, res.Round, was, res.ID)
			}
			return nil
		})) {
			return false
		}
		if n != len(t.history) {
			s.violate(ruleAtomic, "%d/%d has %d earlier results, should have %d", j.n, i, n, len(t.history))
		}
	}
	return s.bad == nil
}

// lookAtAttempts sees that what failed is on record, and how often it may.
func (s *sim) lookAtAttempts(j *job) bool {
	failed := map[int64]int{}
	seen := map[*run]bool{}
	err := s.eng.Attempts(s.ctx, j.id, -1, func(task navvy.TaskID, a *navvy.Attempt) error {
		r := s.runOf(task, a.ID)
		if r == nil {
			s.violate(ruleIDs, "attempt %s of %d/%d is on record, and nobody gave it out", a.ID, j.n, task.Index)
			return engine.ErrStop
		}
		seen[r] = true
		if !r.mayBe(a.Outcome, s.latest()) {
			s.violate(ruleTries, "%s is on record as %s, its lease ended at %s", r, a.Outcome, r.must.Format(clockFormat))
			return engine.ErrStop
		}
		if a.Outcome == navvy.OutcomeFailed && a.ID.Number > r.task.since() {
			failed[task.Index]++
		}
		if !s.chance(10) || s.readBack(r, a) {
			return nil
		}
		return engine.ErrStop
	})
	if !s.read("read attempts", err) || s.broken || s.bad != nil {
		return false
	}
	s.nothingForgotten(j, seen, failed)
	return s.bad == nil
}

// nothingForgotten sees that what has failed is among what was seen on record,
// and was not allowed to fail more often than it may.
func (s *sim) nothingForgotten(j *job, seen map[*run]bool, failed map[int64]int) {
	for i, t := range j.tasks {
		for _, r := range t.runs {
			if r.kept && !seen[r] {
				s.violate(ruleTries, "%s has failed, and that is forgotten", r)
			}
		}
		if t.answer == nil && failed[int64(i)] > j.spec.Spec.Retry.Max {
			s.violate(ruleTries, "%d/%d has failed %d times and may again; %d retries are allowed", j.n, i, failed[int64(i)], j.spec.Spec.Retry.Max)
		}
	}
}

func (s *sim) lookAtPrinted(j *job) bool {
	b, err := s.eng.Printed(s.ctx, j.id)
	if !s.read("read what is printed", err) {
		return false
	}
	if got := string(b); got != j.printed && got != j.perhaps {
		s.violate(ruleAtomic, "what is printed of %s is %q, was %q or %q", j, got, j.printed, j.perhaps)
		return false
	}
	j.printed, j.perhaps = string(b), string(b)
	return true
}

// runOf gives the attempt with an id, nil if there was none.
func (s *sim) runOf(task navvy.TaskID, id navvy.AttemptID) *run {
	return s.model.refs[ref(task, id)]
}

// readBack reads the output of an attempt that has ended, from somewhere on.
func (s *sim) readBack(r *run, a *navvy.Attempt) bool {
	var want []byte
	if first := r.first(); first != nil && !first.wrong && a.Outcome != navvy.OutcomeLost {
		want = first.said
	}
	if a.Outcome == navvy.OutcomeStale && a.Output.Length == 0 {
		want = nil // nobody knew where it was
	}
	in, err := s.eng.ReadOutput(s.ctx, r.ref().Task, r.id, &a.Output)
	if err == nil {
		off := s.rng.Int64N(int64(len(want)) + 1)
		if s.chance(50) {
			off = 0
		}
		if err = in.Skip(off); err == nil {
			err = s.compare(r, in, want[off:])
		}
		err = errors.Join(err, in.Close())
	}
	switch {
	case err == nil:
	case s.machine.hit() && !errors.Is(err, navvy.ErrCorrupt):
		s.broken = true
	default:
		s.violate(ruleOutput, "output of %s: %v", r, err)
	}
	return err == nil
}

var errDiffers = errors.New("it is not what was written")

func (s *sim) compare(r *run, in io.Reader, want []byte) error {
	buf := make([]byte, 1+s.rng.IntN(40<<10))
	for {
		n, err := in.Read(buf)
		if n > len(want) || !bytes.Equal(buf[:n], want[:n]) {
			return errDiffers
		}
		want = want[n:]
		switch {
		case errors.Is(err, io.EOF) && len(want) > 0:
			return io.ErrUnexpectedEOF
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}
