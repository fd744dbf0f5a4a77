package engine

import (
	"time"

	"github.com/navvy-run/navvy"
)

// State is what changes about a job: small, rewritten with every step.
type State struct {
	Open    bool // the submitter may still add inputs
	Held    bool // until somebody resumes it
	Stopped bool // what has no result is stopped, what comes is refused
	Removed bool // a tombstone: the job is gone for everybody
	Cut     bool // the submitter vanished before the seal
	Read    bool // somebody has read all answers

	// Attached is the epoch in which a client last was attached. 0 means that
	// the job needs none: it is detached.
	Attached uint32
	// Parallelism takes the place of the job's own cap if it is not 0.
	Parallelism int

	Total, Succeeded, Failed int64
	// Attempts counts the attempts on record, in whichever round, but stale ones;
	// Usage is what they used together. Both begin where stateVersionUsage does.
	Attempts int64
	Usage    navvy.Usage
	// Round counts the retries by hand.
	Round uint32
	// Bytes is about how much the job takes on disk: inputs, results and output.
	Bytes int64
	// Letters is how many of its tasks are answered messages that nobody has acknowledged.
	// As long as there are some the job does not expire.
	Letters int64
	// Why the job is held, stopped or cut.
	Why string
	// Finished and Expires are zero until the last task has ended.
	Finished, Expires time.Time

	// Seq orders the states of a job that this process has seen: of two, the one
	// with the higher Seq is not the older one. It is not stored.
	Seq uint64
}

// Pending is how many tasks have no result.
func (s *State) Pending() int64 { return s.Total - s.Succeeded - s.Failed }

// Ended tells whether nothing of the job will run any more, short of a retry.
func (s *State) Ended() bool { return s.Stopped || (!s.Open && s.Pending() == 0) }

// HeldIn tells whether the job is held in this epoch: by somebody, or because
// the process that its client was attached to has died.
func (s *State) HeldIn(epoch uint32) bool {
	return !s.Ended() && (s.Held || s.Attached != 0 && s.Attached != epoch)
}

// ended counts an attempt that is put on record.
func (s *State) ended(a *navvy.Attempt) {
	s.Attempts++
	s.Usage.Add(&a.Usage)
}

// Status is the state as users see it; running is what only the manager knows.
func (s *State) Status(epoch uint32, running int64) navvy.Status {
	st := navvy.Status{
		Counts: navvy.Counts{Succeeded: s.Succeeded, Failed: s.Failed},
		Open:   s.Open, Held: s.HeldIn(epoch), Cut: s.Cut, Read: s.Read,
		Why: s.Why, Finished: s.Finished, Expires: s.Expires,
		Attempts: s.Attempts, Usage: s.Usage,
	}
	if s.Stopped {
		st.Counts.Stopped = s.Pending()
	} else {
		st.Counts.Running = min(running, s.Pending())
		st.Counts.Queued = s.Pending() - st.Counts.Running
	}
	if st.Held && !s.Held {
		st.Why = "navvy ended while the job ran"
	}
	return st
}

// The versions of the record of a state: 2 says what the attempts have used, 3 how many
// letters there are.
const (
	stateVersionPlain   = 1
	stateVersionUsage   = 2
	stateVersionLetters = 3

	stateVersion = stateVersionLetters
)

func encodeState(s *State) []byte {
	e := newRecord(tableState, stateVersion, 80+len(s.Why))
	for _, flag := range []bool{s.Open, s.Held, s.Stopped, s.Removed, s.Cut, s.Read} {
		e.bool(flag)
	}
	e.uint(uint64(s.Attached))
	e.uint(uint64(s.Parallelism))
	e.int(s.Total)
	e.int(s.Succeeded)
	e.int(s.Failed)
	e.uint(uint64(s.Round))
	e.int(s.Bytes)
	e.string(s.Why)
	e.time(s.Finished)
	e.time(s.Expires)
	e.int(s.Attempts)
	encodeUsage(e, &s.Usage)
	e.int(s.Letters)
	return e.b
}

func decodeState(b []byte) (State, error) {
	d, version := readRecord(b, tableState, stateVersion, "state of a job")
	s := State{
		Open: d.bool(), Held: d.bool(), Stopped: d.bool(), Removed: d.bool(), Cut: d.bool(), Read: d.bool(),
		Attached: d.uint32(), Parallelism: int(d.uint()),
		Total: d.int(), Succeeded: d.int(), Failed: d.int(),
		Round: d.uint32(), Bytes: d.int(), Why: d.string(), Finished: d.time(), Expires: d.time(),
	}
	if version != stateVersionPlain {
		s.Attempts = d.int()
		decodeUsage(d, attemptVersionUsage, &s.Usage)
	}
	if version >= stateVersionLetters {
		s.Letters = d.int()
	}
	if s.Letters < 0 || s.Pending() < 0 || s.Succeeded < 0 || s.Failed < 0 || s.Attempts < 0 {
		d.fail("its counts cannot be")
	}
	return s, d.end()
}
