package engine

import (
	"errors"
	"fmt"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// letters reads each letter, and compares it with its job and its result. It counts
// those of each job, which the job's own count is compared with.
func (v *verifier) letters() error {
	v.lettersOf = map[navvy.JobID]int64{}
	return v.e.store.Scan(v.ctx, driver.Prefix([]byte{tableLetter}), func(key, value []byte) error {
		v.Letters++
		line, side, place, err := splitLetterKey(key)
		if err != nil {
			return v.found(err)
		}
		l, err := letterAt(place, value)
		if err == nil {
			v.lettersOf[l.Task.Job]++
			err = v.letter(line, side, &l)
		}
		return v.found(err)
	})
}

// letter compares one with its job and its result.
func (v *verifier) letter(line Line, side Side, l *Letter) error {
	job, _, err := v.e.Job(v.ctx, l.Task.Job)
	if err != nil {
		return fmt.Errorf("a letter of queue %s: %w", line.Queue, err)
	}
	if !job.Responses || LineOf(job) != line || !job.Accepted.Equal(l.Sent) {
		v.corrupt("the letter of task %s is in line %q, and is none of it", l.Task, line)
	}
	r, err := v.e.Result(v.ctx, l.Task)
	switch {
	case errors.Is(err, navvy.ErrNotFound):
		v.corrupt("task %s waits among the %s, and has no result", l.Task, side)
		return nil
	case err != nil:
		return err
	case r.Round != l.Round || sideOf(r.State) != side:
		v.corrupt("task %s waits among the %s with its result of round %d, and has one of round %d: %s", l.Task, side, l.Round, r.Round, r.State)
	}
	return nil
}
