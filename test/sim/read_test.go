package sim

import (
	"bytes"
	"errors"
	"io"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/output"
)

// reader follows the output of a run.
type reader struct {
	run *run
	log *output.Log
	off int64
}

// follow begins to read the output of a task that runs.
func (s *sim) follow() {
	j := s.any()
	if j == nil || len(j.tasks) == 0 {
		return
	}
	i := int64(s.rng.IntN(len(j.tasks)))
	task := navvy.TaskID{Job: j.id, Index: i}
	id, log, ok := s.mgr.Live(task)
	if !ok {
		leave := s.mgr.Watched(task)
		if s.chance(50) {
			leave()
		}
		return
	}
	r := s.runOf(task, id)
	if r == nil {
		s.violate(ruleIDs, "attempt %s of %s runs, and nobody gave it out", id, task)
		return
	}
	s.note("somebody follows %s", r)
	s.readers = append(s.readers, &reader{run: r, log: log, off: int64(s.rng.IntN(r.sent + 1))})
}

// readOn lets a reader take what there is.
func (s *sim) readOn() {
	rd := oneOf(s.rng, s.readers)
	if rd == nil {
		return
	}
	buf := make([]byte, 1+s.rng.IntN(50<<10))
	n, err := rd.log.Read(s.waiting, buf, rd.off)
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, s.waiting.Err()), errors.Is(err, navvy.ErrClosed):
	case s.machine.hit():
	case rd.run.lost || !rd.run.job.sure.exists || rd.run.first() != nil || rd.run.boot != s.boots || !s.holds(rd.run):
		// It has ended, and its log was closed under us.
	default:
		s.violate(ruleOutput, "reading %s at %d: %v", rd.run, rd.off, err)
	}
	frames := rd.run.out.frames
	if end := rd.off + int64(n); end > int64(len(frames)) || !bytes.Equal(buf[:n], frames[rd.off:end]) {
		s.violate(ruleOutput, "bytes %d to %d of %s are not what it wrote", rd.off, end, rd.run)
		return
	}
	rd.off += int64(n)
}

// readAnswer reads the output of a result.
func (s *sim) readAnswer() {
	j := s.any()
	if j == nil || len(j.tasks) == 0 || !j.sure.exists {
		return
	}
	t := oneOf(s.rng, j.tasks)
	if t.answer == nil {
		return
	}
	res, err := s.eng.Result(s.ctx, t.answer.ref().Task)
	if errors.Is(err, navvy.ErrNotFound) {
		s.lookAt(j, false) // which says what is wrong, if anything is
		return
	}
	if s.read("read a result", err) && res.ID == t.answer.id {
		s.readBack(t.answer, &res.Attempt)
	}
}
