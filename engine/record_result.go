package engine

import "github.com/navvy-run/navvy"

const (
	resultVersion  = 1
	attemptVersion = 1
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
	d, _ := readRecord(b, tableResult, resultVersion, "result of "+task.String())
	r := &navvy.Result{Task: task, State: navvy.State(d.uint()), Attempts: d.uint32(), Round: d.uint32()}
	if r.State != navvy.Succeeded && r.State != navvy.Failed {
		d.fail("a result has succeeded or failed")
	}
	decodeAttemptFields(d, &r.Attempt)
	return r, d.end()
}

func encodeAttempt(a *navvy.Attempt) []byte {
	e := newRecord(tableAttempt, attemptVersion, attemptRoom(a))
	encodeAttemptFields(e, a)
	return e.b
}

// decodeAttempt keeps parts of b in the attempt.
func decodeAttempt(task navvy.TaskID, b []byte) (*navvy.Attempt, error) {
	d, _ := readRecord(b, tableAttempt, attemptVersion, "attempt of "+task.String())
	a := &navvy.Attempt{}
	decodeAttemptFields(d, a)
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
	e.duration(a.Usage.User)
	e.duration(a.Usage.System)
	e.int(a.Usage.MaxMemory)
	encodeOutput(e, &a.Output)
}

func decodeAttemptFields(d *decoder, a *navvy.Attempt) {
	a.ID = navvy.AttemptID{Number: d.uint32(), Epoch: d.uint32()}
	a.Outcome = navvy.Outcome(d.uint())
	a.Reason = navvy.Reason(d.string())
	a.Message = d.string()
	a.Exit = navvy.Exit{Code: int(d.int()), Signal: int(d.int())}
	a.Worker = d.string()
	a.Slot = int(d.uint())
	a.Started = d.time()
	a.Finished = a.Started.Add(d.duration())
	a.Usage = navvy.Usage{User: d.duration(), System: d.duration(), MaxMemory: d.int()}
	decodeOutput(d, &a.Output)
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
