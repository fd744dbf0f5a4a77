package navvy

import (
	"fmt"
	"time"
	"unicode/utf8"
)

// Job is what a user submitted, less its inputs. It does not change once accepted.
type Job struct {
	ID       JobID
	Name     string // for people; empty if none was given
	Owner    string
	Queue    string
	Priority int32 // higher is served first
	Accepted time.Time
	Spec     Spec
	Format   InputFormat

	// Parallelism caps how many of the job's tasks run at once. Zero means no cap.
	Parallelism int
	// MaxFails stops the job once more tasks than this have failed. Nil means never.
	MaxFails *MaxFails
	// Delay is the least time between the starts of two of its tasks.
	Delay time.Duration
	// Shuffle runs the tasks in a random order drawn from this seed; zero means in input order.
	Shuffle uint64
	// Detached says that the job goes on without the client that submitted it.
	Detached bool
	// Responses says that its tasks are messages: what answers one waits on the queue until
	// it is acknowledged, and one that fails is a dead letter of the queue. The inputs are
	// those that AppendMessage writes.
	Responses bool
	// IdempotencyKey makes a repeated submit by the same owner return the first job.
	IdempotencyKey string
}

// What a job gets that names none.
const (
	DefaultQueue = "default"
	// MaxJobName bounds Name, Queue, Owner and IdempotencyKey, in bytes.
	MaxJobName = 256
)

// MaxFails is how many of a job's tasks may fail: a number, or a share of all of them.
type MaxFails struct {
	Count   int64
	Percent float64 // of all tasks, 0 to 100; takes the place of Count if it is not zero
}

// Exceeded tells whether failed tasks out of total are too many. total is
// negative as long as it is not known: a share is judged once it is. A nil
// MaxFails is never exceeded.
func (m *MaxFails) Exceeded(failed, total int64) bool {
	switch {
	case m == nil:
		return false
	case m.Percent > 0:
		return total > 0 && float64(failed)*100 > m.Percent*float64(total)
	default:
		return failed > m.Count
	}
}

// Validate checks the job. Its error names the field and wraps ErrInvalid.
func (j *Job) Validate() error {
	if err := j.ID.Validate(); err != nil {
		return err
	}
	if err := j.ValidateNames(); err != nil {
		return err
	}
	switch {
	case j.Owner == "" || j.Queue == "":
		return fmt.Errorf("job: owner and queue must be named: %w", ErrInvalid)
	case j.Parallelism < 0:
		return fmt.Errorf("job: parallelism %d is negative: %w", j.Parallelism, ErrInvalid)
	case j.MaxFails != nil && (j.MaxFails.Count < 0 || j.MaxFails.Percent < 0 || j.MaxFails.Percent > 100):
		return fmt.Errorf("job: max fails must be a count or 0 to 100 percent: %w", ErrInvalid)
	case j.Delay < 0:
		return fmt.Errorf("job: delay %s is negative: %w", j.Delay, ErrInvalid)
	case j.Responses && j.Format != InputMessage:
		return fmt.Errorf("job: its tasks are messages, and its inputs are none: %w", ErrInvalid)
	}
	return j.Spec.Validate()
}

// ValidateNames checks what names the job. Its error names the field and wraps ErrInvalid.
func (j *Job) ValidateNames() error {
	for _, f := range []struct{ field, value string }{
		{"name", j.Name}, {"owner", j.Owner}, {"queue", j.Queue}, {"idempotency key", j.IdempotencyKey},
	} {
		if len(f.value) > MaxJobName {
			return fmt.Errorf("job: the %s has %d bytes, more than %d: %w", f.field, len(f.value), MaxJobName, ErrInvalid)
		}
		if !utf8.ValidString(f.value) {
			return fmt.Errorf("job: the %s %q is not UTF-8: %w", f.field, f.value, ErrInvalid)
		}
	}
	if j.Queue == "" {
		return nil
	}
	return ValidateQueue(j.Queue)
}

// Status is where a job stands now.
type Status struct {
	Counts Counts
	// Attempts is how many attempts have ended, less those that came too late, and
	// Usage what they used together, as Usage.Add has it. Those that an older navvy
	// has kept, which did not count them, are not among them.
	Attempts int64
	Usage    Usage
	// Open says that the submitter may still add inputs; Counts grow until then.
	Open bool
	// Held says that no task starts until somebody resumes the job; Why says who or what held it.
	Held bool
	// Cut says that the submitter vanished before its last input: the rest was never accepted.
	Cut bool
	Why string // why the job is held, stopped or cut; empty otherwise
	// Waiting says what no worker that there is can do that the job asks for, that all
	// who can are silent or leave, or that its queue is paused, so that nothing of it can start; empty if it can.
	// Who watches it is also told what the attempt waits for that has run for longest, if nothing gets on.
	Waiting string
	// Finished is when the last task ended; zero before.
	Finished time.Time
	// Read says that somebody has read all answers, which lets them expire earlier.
	Read bool
	// Expires is when the job and its answers will be removed; zero while it is not finished.
	Expires time.Time
}

// State is the job's state, derived from its tasks.
func (s *Status) State() State {
	if s.Open && s.Counts.Total() == s.Counts.Answered() {
		return Queued
	}
	return s.Counts.State(s.Held)
}
