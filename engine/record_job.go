package engine

import "github.com/navvy-run/navvy"

// The versions of the record of a job. 2 ends with what an attempt may use and
// how it is separated from others.
const (
	jobVersionPlain  = 1
	jobVersionLimits = 2
)

func encodeJob(j *navvy.Job) []byte {
	e := newRecord(tableJob, jobVersionLimits, 256)
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
	encodeBounds(e, &j.Spec)
	return e.b
}

func decodeJob(b []byte) (*navvy.Job, error) {
	d, version := readRecord(b, tableJob, jobVersionLimits, "job")
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
	if version > jobVersionPlain {
		decodeBounds(d, &j.Spec)
	}
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

// encodeBounds writes what an attempt may use, and how it is separated from others.
func encodeBounds(e *encoder, s *navvy.Spec) {
	e.bool(s.Isolate)
	e.string(s.Network)
	for _, n := range limitNumbers(&s.Limits) {
		e.int(*n)
	}
	e.uint(uint64(len(s.Limits.Ulimits)))
	for _, u := range s.Limits.Ulimits {
		e.string(u.Name)
		e.uint(u.Soft)
		e.uint(u.Hard)
	}
}

func decodeBounds(d *decoder, s *navvy.Spec) {
	s.Isolate = d.bool()
	s.Network = d.string()
	for _, n := range limitNumbers(&s.Limits) {
		*n = d.int()
	}
	const least = 3 // bytes of a ulimit
	if n := d.count(least); n > 0 {
		s.Limits.Ulimits = make([]navvy.Ulimit, n)
	}
	for i := range s.Limits.Ulimits {
		s.Limits.Ulimits[i] = navvy.Ulimit{Name: d.string(), Soft: d.uint(), Hard: d.uint()}
	}
}

// limitNumbers are the limits that are one number each, in the order in which they are stored.
func limitNumbers(l *navvy.Limits) [9]*int64 {
	return [...]*int64{&l.CPUs, &l.CPUShares, &l.Memory, &l.PIDs, &l.ReadBPS, &l.WriteBPS, &l.ReadIOPS, &l.WriteIOPS, &l.Output}
}
