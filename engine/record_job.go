package engine

import "github.com/navvy-run/navvy"

const jobVersion = 1

func encodeJob(j *navvy.Job) []byte {
	e := newRecord(tableJob, jobVersion, 256)
	e.string(string(j.ID))
	e.string(j.Name)
	e.string(j.Owner)
	e.string(j.Queue)
	e.int(int64(j.Priority))
	e.time(j.Accepted)
	e.uint(uint64(j.Format))
	e.uint(uint64(j.Parallelism))
	e.bool(j.MaxFails != nil)
	if j.MaxFails != nil {
		e.int(j.MaxFails.Count)
		e.float(j.MaxFails.Percent)
	}
	e.duration(j.Delay)
	e.uint(j.Shuffle)
	e.bool(j.Detached)
	e.string(j.IdempotencyKey)
	encodeSpec(e, &j.Spec)
	return e.b
}

func decodeJob(b []byte) (*navvy.Job, error) {
	d, _ := readRecord(b, tableJob, jobVersion, "job")
	j := &navvy.Job{
		ID:          navvy.JobID(d.string()),
		Name:        d.string(),
		Owner:       d.string(),
		Queue:       d.string(),
		Priority:    int32(d.int()),
		Accepted:    d.time(),
		Format:      navvy.InputFormat(d.uint()),
		Parallelism: int(d.uint()),
	}
	if d.bool() {
		j.MaxFails = &navvy.MaxFails{Count: d.int(), Percent: d.float()}
	}
	j.Delay = d.duration()
	j.Shuffle = d.uint()
	j.Detached = d.bool()
	j.IdempotencyKey = d.string()
	decodeSpec(d, &j.Spec)
	return j, d.end()
}

// The kinds of spec, as they are stored.
const (
	specCommand = 1
	specNoop    = 2
)

func encodeSpec(e *encoder, s *navvy.Spec) {
	e.duration(s.Timeout)
	e.duration(s.Grace)
	e.uint(uint64(s.Retry.Max))
	e.duration(s.Retry.Backoff)
	e.duration(s.Retry.BackoffMax)
	if s.Noop != nil {
		e.uint(specNoop)
		return
	}
	c := s.Command
	e.uint(specCommand)
	e.strings(c.Args)
	e.bool(c.Literal)
	e.bool(c.Shell)
	e.bool(c.Stdin)
	e.strings(c.Columns)
	e.strings(c.Env)
	e.string(c.Dir)
}

func decodeSpec(d *decoder, s *navvy.Spec) {
	s.Timeout = d.duration()
	s.Grace = d.duration()
	s.Retry = navvy.Retry{Max: int(d.uint()), Backoff: d.duration(), BackoffMax: d.duration()}
	switch d.uint() {
	case specNoop:
		s.Noop = &navvy.Noop{}
	case specCommand:
		s.Command = &navvy.Command{
			Args: d.strings(), Literal: d.bool(), Shell: d.bool(), Stdin: d.bool(),
			Columns: d.strings(), Env: d.strings(), Dir: d.string(),
		}
	default:
		d.fail("the kind of work is unknown")
	}
}
