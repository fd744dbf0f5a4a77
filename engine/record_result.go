package engine

import "github.com/navvy-run/navvy"

// The versions of the records of a result and of an attempt: 2 says more of what
// the attempt used.
const (
	attemptVersionPlain = 1
	attemptVersionUsage = 2

	resultVersion  = attemptVersionUsage
	attemptVersion = attemptVersionUsage
)

// attemptRoom is enough for most records of an attempt, and of a result.
func attemptRoom(a *navvy.Attempt) int {
	return 96 + len(a.Output.Inline) + len(a.Message) + len(a.Worker)
}

// appendResult appends the record to dst.
func appendResult(dst []byte, r *navvy.Result) []byte {
	e := &encoder{b: append(dst, tableResult, resultVersion)}
	e.uint(uint64(r.State))
	e.uint(uint64(r.Attempts))
	e.uint(uint64(r.Round))
	encodeAttemptFields(e, &r.Attempt)
	return e.b
}

// decodeResult keeps parts of b in the result.
func decodeResult(task navvy.TaskID, b []byte) (*navvy.Result, error) {
	d, version := readRecord(b, tableResult, resultVersion, "result of "+task.String())
	r := &navvy.Result{Task: task, State: navvy.State(d.uint()), Attempts: d.uint32(), Round: d.uint32()}
	if r.State != navvy.Succeeded && r.State != navvy.Failed {
		d.fail("a result has succeeded or failed")
	}
	decodeAttemptFields(d, version, &r.Attempt)
	return r, d.end()
}

func encodeAttempt(a *navvy.Attempt) []byte {
	e := newRecord(tableAttempt, attemptVersion, attemptRoom(a))
	encodeAttemptFields(e, a)
	return e.b
}

// decodeAttempt keeps parts of b in the attempt.
func decodeAttempt(task navvy.TaskID, b []byte) (*navvy.Attempt, error) {
	d, version := readRecord(b, tableAttempt, attemptVersion, "attempt of "+task.String())
	a := &navvy.Attempt{}
	decodeAttemptFields(d, version, a)
	return a, d.end()
}

func encodeAttemptFields(e *encoder, a *navvy.Attempt) {
	e.uint(uint64(a.ID.Number))
	e.uint(uint64(a.ID.Epoch))
	e.uint(uint64(a.Outcome))
	e.string(string(a.Reason))
	e.string(a.Message)
	e.int(int64(a.Exit.Code))
	e.int(int64(a.Exit.Signal))
	e.string(a.Worker)
	e.uint(uint64(a.Slot))
	e.time(a.Started)
	e.duration(a.Finished.Sub(a.Started))
	encodeUsage(e, &a.Usage)
	encodeOutput(e, &a.Output)
}

func decodeAttemptFields(d *decoder, version byte, a *navvy.Attempt) {
	a.ID = navvy.AttemptID{Number: d.uint32(), Epoch: d.uint32()}
	a.Outcome = navvy.Outcome(d.uint())
	a.Reason = navvy.Reason(d.string())
	a.Message = d.string()
	a.Exit = navvy.Exit{Code: int(d.int()), Signal: int(d.int())}
	a.Worker = d.string()
	a.Slot = int(d.uint())
	a.Started = d.time()
	a.Finished = a.Started.Add(d.duration())
	decodeUsage(d, version, &a.Usage)
	decodeOutput(d, &a.Output)
}

// usageRest are the parts of a Usage that a record names in the bits of one byte,
// the first lowest, and then has if they are not zero: most attempts have few of them.
func usageRest(u *navvy.Usage) [5]*int64 {
	return [...]*int64{&u.Read, &u.Written, (*int64)(&u.Throttled), &u.MaxPIDs, &u.OOMKills}
}

func encodeUsage(e *encoder, u *navvy.Usage) {
	e.duration(u.User)
	e.duration(u.System)
	e.int(u.MaxMemory)
	rest := usageRest(u)
	named := uint64(0)
	for i, part := range rest {
		if *part != 0 {
			named |= 1 << i
		}
	}
	e.uint(named)
	for _, part := range rest {
		if *part != 0 {
			e.int(*part)
		}
	}
}

func decodeUsage(d *decoder, version byte, u *navvy.Usage) {
	u.User, u.System, u.MaxMemory = d.duration(), d.duration(), d.int()
	if version == attemptVersionPlain {
		return
	}
	named, rest := d.uint(), usageRest(u)
	if named >= 1<<len(rest) {
		d.fail("it names a use that is unknown")
	}
	for i, part := range rest {
		if named&(1<<i) != 0 {
			*part = d.int()
		}
	}
}

func encodeOutput(e *encoder, o *navvy.Output) {
	e.bool(o.Logged)
	e.int(o.Length)
	e.uint(uint64(o.CRC))
	e.int(o.Stdout)
	e.int(o.Stderr)
	e.bytes(o.Inline)
}

// length reads a number of bytes.
func (d *decoder) length() int64 {
	n := d.int()
	if n < 0 {
		d.fail("a length is negative")
		return 0
	}
	return n
}

func decodeOutput(d *decoder, o *navvy.Output) {
	o.Logged = d.bool()
	o.Length = d.length()
	o.CRC = d.uint32()
	o.Stdout = d.length()
	o.Stderr = d.length()
	if inline := d.bytes(); len(inline) > 0 {
		o.Inline = inline
	}
}
