package sim

import (
	"fmt"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
)

// letters counts those that wait of a job, as far as anybody knows.
func (j *job) letters() int {
	n := 0
	for _, t := range j.tasks {
		if t.waits() {
			n++
		}
	}
	if !j.spec.Responses {
		return 0
	}
	return n
}

func (t *task) waits() bool { return t.answer != nil && !t.acked }

// lettersOf reads those of a job, by side and task.
func (s *sim) lettersOf(j *job) (map[engine.Side]map[int64]engine.Letter, bool) {
	found := map[engine.Side]map[int64]engine.Letter{}
	for _, side := range []engine.Side{engine.Responses, engine.DeadLetters} {
		list, err := s.eng.Letters(s.ctx, engine.LineOf(&j.spec), side, nil, 0)
		if !s.read("read letters", err) {
			return nil, false
		}
		found[side] = map[int64]engine.Letter{}
		for _, l := range list {
			if l.Task.Job == j.id {
				found[side][l.Task.Index] = l
			}
		}
	}
	return found, true
}

// lookAtLetters sees that what was answered waits, unless somebody has acknowledged it.
func (s *sim) lookAtLetters(j *job) bool {
	found, ok := s.lettersOf(j)
	if !ok {
		return false
	}
	for i, t := range j.tasks {
		response, isResponse := found[engine.Responses][int64(i)]
		dead, isDead := found[engine.DeadLetters][int64(i)]
		there := isResponse || isDead
		if t.perhaps && t.answer != nil {
			t.acked, t.perhaps = !there, false
		}
		switch {
		case there != (j.spec.Responses && t.waits()):
			s.violate(ruleLetters, "task %d of %s has the result %v, acknowledged %t; a letter of it waits: %t", i, j, t.answer, t.acked, there)
		case !there:
		case isResponse && (isDead || t.answer.failed()) || isDead && !t.answer.failed():
			s.violate(ruleLetters, "task %d of %s waits on the wrong side", i, j)
		case response.Round+dead.Round != t.answered:
			s.violate(ruleLetters, "task %d of %s waits with its result of round %d, not %d", i, j, response.Round+dead.Round, t.answered)
		}
	}
	return s.bad == nil
}

// acknowledge takes letters of a job off, some of which are gone already.
func (s *sim) acknowledge() {
	j := s.any()
	if j == nil || !j.spec.Responses || !j.sure.exists || !s.lookAt(j, false) || !j.sure.exists {
		return
	}
	found, ok := s.lettersOf(j)
	if !ok {
		return
	}
	side := engine.Responses
	if s.chance(30) {
		side = engine.DeadLetters
	}
	refs, taken := s.drawRefs(j, found[side])
	n, expires, err := s.eng.Acknowledge(s.ctx, engine.LineOf(&j.spec), side, refs)
	s.note("acknowledge %s of %s: %v: %d, %v", side, j, refs, n, err)
	sure := s.call("acknowledge", err) == done
	for _, t := range taken {
		t.acked, t.perhaps = sure, !sure
	}
	if !sure {
		return
	}
	last := len(taken) > 0 && j.ended && j.letters() == 0
	if n != len(taken) || expires != last {
		s.violate(ruleLetters, "%d of %s are acknowledged, should be %d; it expires: %s", n, j, len(taken), fmt.Sprint(expires))
	}
	s.lookAt(j, false)
}

// drawRefs draws letters of a job that are there, and names some that are not.
func (s *sim) drawRefs(j *job, found map[int64]engine.Letter) (refs []engine.LetterRef, taken []*task) {
	for i, t := range j.tasks {
		l, ok := found[int64(i)]
		if ok && s.chance(70) {
			refs, taken = append(refs, engine.LetterRef{Task: l.Task, Round: l.Round}), append(taken, t)
		} else if s.chance(20) { // of another round, or none
			refs = append(refs, engine.LetterRef{Task: navvy.TaskID{Job: j.id, Index: int64(i)}, Round: j.sure.round + 1})
		}
	}
	return refs, taken
}
