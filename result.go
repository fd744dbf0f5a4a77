package navvy

import (
	"math"
	"time"
	"unicode/utf8"
)

// Attempt is one run of a task by one worker, as it ended.
type Attempt struct {
	ID       AttemptID
	Outcome  Outcome
	Reason   Reason // why it did not succeed; empty if it did
	Message  string // the reason in words, for people
	Exit     Exit
	Worker   string
	Slot     int // from 1, as {%}
	Started  time.Time
	Finished time.Time
	Usage    Usage
	Output   Output
}

// Outcome is how an attempt ended.
type Outcome uint8

// The outcomes. Only failed and lost ones count against a task's retries.
const (
	// OutcomeSucceeded did its work.
	OutcomeSucceeded Outcome = iota + 1
	// OutcomeFailed did not, by the task's own fault; Reason says how.
	OutcomeFailed
	// OutcomeLost ended without a word: its worker died or its lease ran out.
	OutcomeLost
	// OutcomeInterrupted was ended by navvy, to run again later: a hold, a drain.
	OutcomeInterrupted
	// OutcomeStale came after the task had its result, or after it was stopped; kept for inspection.
	OutcomeStale
)

var outcomeNames = [...]string{OutcomeSucceeded: "succeeded", OutcomeFailed: "failed", OutcomeLost: "lost", OutcomeInterrupted: "interrupted", OutcomeStale: "stale"}

// String is the outcome's name in lower case.
func (o Outcome) String() string {
	if o == 0 || int(o) >= len(outcomeNames) {
		return "unknown"
	}
	return outcomeNames[o]
}

// Reason is why an attempt failed, in one word for machines.
type Reason string

// The reasons.
const (
	ReasonExit       Reason = "exit"       // a non-zero exit code
	ReasonSignal     Reason = "signal"     // ended by a signal that navvy did not send
	ReasonTimeout    Reason = "timeout"    // ran longer than the spec allows
	ReasonNotFound   Reason = "not-found"  // the program or the working directory does not exist
	ReasonPermission Reason = "permission" // the program may not be run
	ReasonInput      Reason = "input"      // the input does not fit the spec: an argument too long, a zero byte
	ReasonStart      Reason = "start"      // the host could not start it for another cause
	ReasonLost       Reason = "lost"       // its worker died
	ReasonStopped    Reason = "stopped"    // navvy ended it
	ReasonOOM        Reason = "oom"        // needed more memory than its limit, and the kernel killed it
	ReasonOutput     Reason = "output"     // wrote more than its limit
	ReasonException  Reason = "exception"  // the function raised an exception
	ReasonService    Reason = "service"    // the service failed the request
	ReasonRefused    Reason = "refused"    // the service failed it, and says that it always would
	ReasonFiles      Reason = "files"      // left no file of those that it was to leave
	ReasonAway       Reason = "away"       // what was to do it was not there, and nobody is to blame
	ReasonImage      Reason = "image"      // its image could not be had, or cannot be run
	ReasonPending    Reason = "pending"    // no node had room for it for as long as it may wait
	ReasonDeleted    Reason = "deleted"    // somebody else deleted it
)

// Final tells whether another try would fail the same way, as the task itself is no good.
func (r Reason) Final() bool { return r == ReasonInput || r == ReasonRefused }

// MaxMessage bounds an attempt's Message, and why a job is held or stopped, in bytes.
const MaxMessage = 4 << 10

// Shorten cuts words for people to MaxMessage bytes. What goes on behind the end
// is said to; a rune is not cut in two.
func Shorten(message string) string {
	if len(message) <= MaxMessage {
		return message
	}
	const more = "…"
	end := MaxMessage - len(more)
	for end > 0 && !utf8.RuneStart(message[end]) {
		end--
	}
	return message[:end] + more
}

// Exit is how a process ended: by a code or by a signal.
type Exit struct {
	Code   int // 0 to 255; 0 if a signal ended it
	Signal int // the signal's number; 0 if it exited by itself
}

// ShellCode is the exit as a shell shows it: the code, or 128 + the signal.
func (e Exit) ShellCode() int {
	if e.Signal != 0 {
		return 128 + e.Signal
	}
	return e.Code
}

// Usage is what an attempt used, as the kernel counted it: of all that it
// started where the host has control groups, else of its main process and those
// that it waited for. What is not known is zero.
type Usage struct {
	User, System time.Duration
	// MaxMemory is the most memory that it had at once, in bytes: with a control
	// group that of the group, page cache included, else resident memory.
	MaxMemory int64
	// Read and Written are bytes that it read from disks and wrote to them.
	Read, Written int64
	// Throttled is for how long it wanted to run and Limits.CPUs did not let it.
	Throttled time.Duration
	// MaxPIDs is the most processes and threads that it had at once.
	MaxPIDs int64
	// OOMKills is how many of its processes were killed because they needed more than Limits.Memory.
	OOMKills int64
}

// CPU is user and system time together.
func (u Usage) CPU() time.Duration { return time.Duration(sum(int64(u.User), int64(u.System))) }

// Add counts what another attempt used: u is then the sums, and of MaxMemory and
// MaxPIDs the larger. A sum that is too large stays at the most that there is.
func (u *Usage) Add(o *Usage) {
	u.User = time.Duration(sum(int64(u.User), int64(o.User)))
	u.System = time.Duration(sum(int64(u.System), int64(o.System)))
	u.MaxMemory = max(u.MaxMemory, o.MaxMemory)
	u.Read, u.Written = sum(u.Read, o.Read), sum(u.Written, o.Written)
	u.Throttled = time.Duration(sum(int64(u.Throttled), int64(o.Throttled)))
	u.MaxPIDs = max(u.MaxPIDs, o.MaxPIDs)
	u.OOMKills = sum(u.OOMKills, o.OOMKills)
}

// sum is a + b, or the largest number there is: a job of millions of tasks may
// well take more processor time than its nanoseconds can be counted.
func sum(a, b int64) int64 {
	if b > 0 && a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// Output says what an attempt wrote and where it lies: in Inline, or, if it was
// too long for that, in a log of its own. Both hold frames of package output.
type Output struct {
	Inline []byte
	// Logged says that the output lies in the attempt's log: Length bytes of it, with checksum CRC.
	Logged bool
	Length int64  // of the frames, in bytes
	CRC    uint32 // Castagnoli, of the frames
	// Stdout and Stderr count the payload bytes of each stream.
	Stdout, Stderr int64
}

// Result is a task's one answer: the attempt that won.
type Result struct {
	Task  TaskID
	State State // Succeeded or Failed
	// Attempts is how many attempts counted, this one included.
	Attempts uint32
	// Round is how often the task had been retried by hand when it was answered.
	Round uint32
	Attempt
}

// HasValue tells whether a function's process has given all of its value, or of its
// exception. What there is of a call that has failed otherwise may be the beginning of one.
func (r *Result) HasValue() bool {
	switch r.Reason {
	case ReasonException, ReasonStart, ReasonInput:
		return true
	default:
		return r.State == Succeeded
	}
}
