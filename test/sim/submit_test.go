package sim

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/manager"
)

// submission is a job whose inputs are coming in.
type submission struct {
	job *job
	sub *manager.Submission
}

// died is the end of navvy: what was acknowledged stays, what was not is settled by the next start.
func (sub *submission) died() { sub.sub = nil }

const parallelism = 3

// draft draws a job.
func (s *sim) draft() navvy.Job {
	spec := navvy.Job{Owner: "ann", Detached: s.chance(60), Spec: navvy.Spec{Noop: &navvy.Noop{}}}
	spec.Spec.Retry = navvy.Retry{Max: s.rng.IntN(3), Backoff: time.Second, BackoffMax: 4 * time.Second}
	spec.Priority = int32(s.rng.IntN(3))
	if s.chance(20) {
		spec.Parallelism = 1 + s.rng.IntN(4)
	}
	if s.chance(15) {
		spec.MaxFails = &navvy.MaxFails{Count: int64(s.rng.IntN(3))}
	}
	if s.chance(10) {
		spec.Delay = time.Duration(s.rng.IntN(3000)) * time.Millisecond
	}
	if s.chance(30) {
		spec.Format, spec.Responses = navvy.InputMessage, true
	}
	if s.chance(30) {
		spec.IdempotencyKey = fmt.Sprintf("key%d", s.rng.IntN(3))
	}
	return spec
}

// submit begins a submission.
func (s *sim) submit() {
	spec, stream := s.draft(), s.chance(40)
	if !stream && s.chance(20) {
		spec.Shuffle = s.rng.Uint64() | 1
	}
	s.begin(spec, stream)
}

func (s *sim) begin(spec navvy.Job, stream bool) *submission {
	sub, id, err := s.mgr.Submit(s.ctx, spec, stream)
	switch s.call("submit", err, navvy.ErrExists, navvy.ErrExhausted) {
	case cut:
		return nil
	case refused:
		s.sameKey(spec.IdempotencyKey, id, err)
		return nil
	case done:
	}
	if other := s.keyOf(spec.IdempotencyKey); other != nil && s.lookAt(other, false) && other.sure.exists {
		s.violate(ruleKey, "a second submit with the key of %s begins", other)
	}
	j := &job{n: len(s.model.jobs), id: id, spec: *sub.Job(), stream: stream}
	s.model.jobs = append(s.model.jobs, j)
	s.note("%s begins: stream %t, detached %t, retries %d", j, stream, spec.Detached, spec.Spec.Retry.Max)
	if !spec.Detached {
		s.attach(j)
	}
	started := &submission{job: j, sub: sub}
	s.subs = append(s.subs, started)
	return started
}

// attach is a client that waits for the job.
func (s *sim) attach(j *job) {
	leave := s.mgr.AttachClient(&j.spec)
	j.leave = func() error { return leave(s.ctx) }
}

// keyOf gives the job that has a key for sure, nil if none has.
func (s *sim) keyOf(key string) *job {
	for _, j := range s.model.jobs {
		if key != "" && j.spec.IdempotencyKey == key && j.sure.exists {
			return j
		}
	}
	return nil
}

// sameKey sees that a submit is refused for the sake of the first job with its key.
func (s *sim) sameKey(key string, id navvy.JobID, err error) {
	if id == "" {
		if !s.filled {
			s.violate(ruleCalls, "submit is refused: %v", err)
		}
		return
	}
	if j := s.model.byID(id); j == nil || j.spec.IdempotencyKey != key || !j.sure.exists {
		s.violate(ruleKey, "a submit with key %q is refused for %v", key, j)
	}
}

// add sends inputs and asks that they be durable.
func (s *sim) add() {
	sub := oneOf(s.rng, s.subs)
	if sub == nil {
		return
	}
	s.send(sub, 1+s.rng.IntN(5))
	if s.broken || s.bad != nil {
		return
	}
	s.outcome(sub, sub.sub.Flush(s.ctx, sub.job.stream), "flush", false)
}

// send hands inputs over.
func (s *sim) send(sub *submission, n int) {
	j := sub.job
	for range n {
		in := fmt.Appendf(nil, "input %d of job %d", len(j.inputs), j.n)
		switch {
		case s.chance(1):
			in = bytes.Repeat(in, 600<<10/len(in)) // too long for a value
		case s.chance(2):
			in = nil
		}
		j.inputs = append(j.inputs, in)
		j.tasks = append(j.tasks, &task{history: map[uint32]*run{}})
		before := sub.sub.State().Total
		err := sub.sub.Add(s.ctx, in)
		if before == sub.sub.State().Total && err == nil {
			continue
		}
		// A chunk was full: all but the last input went to disk.
		s.perhaps(j, func(f face) face {
			f.total, f.open = len(j.inputs)-1, true
			return f
		}, err)
		if s.reject(sub, s.call("add", err, refusals...), err) {
			return
		}
	}
}

// refusals are why inputs may not be taken: the job was stopped or removed, its
// key is taken, the disk is full.
var refusals = []error{navvy.ErrConflict, navvy.ErrNotFound, navvy.ErrExists, navvy.ErrExhausted}

// outcome settles what became of a flush or a seal.
func (s *sim) outcome(sub *submission, err error, what string, seal bool) {
	j := sub.job
	s.perhaps(j, func(f face) face {
		f.total = len(j.inputs)
		f.open = !seal
		return f
	}, err)
	got := s.call(what, err, refusals...)
	s.note("%s of %s, %d inputs: %d", what, j, len(j.inputs), got)
	if s.reject(sub, got, err) {
		return
	}
	if got == done && seal {
		s.closed(sub)
	}
	if got == done {
		s.lookAt(j, true)
	}
}

// perhaps notes what a step of a submission has done, or may have.
func (s *sim) perhaps(j *job, step func(face) face, err error) {
	after := j.sure
	if !after.exists {
		after = face{exists: true}
		if !j.spec.Detached {
			after.attached = s.boots
		}
	}
	after = step(after)
	if !j.stream && after.open {
		return // nobody can see it
	}
	if err == nil {
		other := s.keyOf(j.spec.IdempotencyKey)
		if other != nil && other != j && s.lookAt(other, false) && other.sure.exists {
			s.violate(ruleKey, "%s and %s both have it", j, other)
		}
		j.sure = after
		return
	}
	j.maybe = append(j.maybe, after)
}

// reject ends a submission that was refused, as the server does.
func (s *sim) reject(sub *submission, got outcome, err error) bool {
	j := sub.job
	switch got {
	case done:
		return false
	case cut:
		return true
	case refused:
	}
	j.maybe = nil
	if j.sure.exists {
		if !s.lookAt(j, false) {
			return true
		}
		j.removed = !j.sure.exists
	}
	other := s.keyOf(j.spec.IdempotencyKey)
	if !j.sure.stopped && !j.removed && !s.filled && (other == nil || other == j) {
		s.violate(ruleCalls, "%s is refused: %v", j, err)
	}
	s.vanish(sub)
	return true
}

func (s *sim) closed(sub *submission) {
	s.subs = slices.DeleteFunc(s.subs, func(o *submission) bool { return o == sub })
}

// seal ends a submission well.
func (s *sim) seal() {
	sub := oneOf(s.rng, s.subs)
	if sub == nil {
		return
	}
	if s.chance(60) || len(sub.job.inputs) == 0 {
		s.send(sub, 1+s.rng.IntN(6))
		if s.broken || !slices.Contains(s.subs, sub) {
			return
		}
	}
	s.outcome(sub, sub.sub.Seal(s.ctx), "seal", true)
}

// vanish is the end of a submitter before the seal.
func (s *sim) vanish(sub *submission) {
	j := sub.job
	s.closed(sub)
	s.note("the submitter of %s vanishes", j)
	if j.sure.exists && !s.lookAt(j, false) {
		return
	}
	err := sub.sub.CutOff(s.ctx)
	after := j.sure.crashed(j.ended || j.answered())
	if s.call("cut off", err) != done {
		j.maybe = append(j.maybe, after)
		return
	}
	j.sure = after
	s.lookAt(j, true)
	s.leave(j)
}

// answered tells whether all tasks that were acknowledged have a result.
func (j *job) answered() bool {
	for _, t := range j.tasks[:j.sure.total] {
		if t.answer == nil {
			return false
		}
	}
	return true
}

func (s *sim) cutOff() {
	if sub := oneOf(s.rng, s.subs); sub != nil {
		s.vanish(sub)
	}
}

// abort gives a submission up.
func (s *sim) abort() {
	sub := oneOf(s.rng, s.subs)
	if sub == nil {
		return
	}
	j := sub.job
	s.closed(sub)
	if j.sure.exists && !s.lookAt(j, false) {
		return
	}
	err := sub.sub.Abort(s.ctx, "given up")
	s.note("%s is given up: %v", j, err)
	after := j.sure
	if after.exists {
		after.open, after.cut, after.stopped, after.held = false, true, true, false
	}
	if s.call("abort", err, navvy.ErrNotFound) == cut {
		j.maybe = append(j.maybe, after)
		return
	}
	j.sure = after
	s.lookAt(j, true)
	s.leave(j)
}

// burst is more jobs than navvy keeps in memory.
func (s *sim) burst() {
	for range 66 + s.rng.IntN(20) {
		spec := s.draft()
		spec.IdempotencyKey, spec.Detached, spec.Delay = "", true, 0
		sub := s.begin(spec, false)
		if sub == nil || s.bad != nil {
			return
		}
		s.send(sub, 1)
		if s.broken {
			return
		}
		s.outcome(sub, sub.sub.Seal(s.ctx), "seal", true)
		if s.broken {
			return
		}
	}
}
