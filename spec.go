package navvy

import (
	"fmt"
	"strings"
	"time"
)

// Spec says how to run each task of a job: exactly one kind of work, and what
// holds for all kinds. It does not change once the job is accepted.
type Spec struct {
	Command *Command // a Linux process
	Noop    *Noop    // nothing at all: measures navvy itself
	// Function is a Python function, called in a process that serves many calls.
	Function *Function
	// Service is a user's own service, which serves many inputs at once.
	Service *Service
	// Container runs an image, where a cluster or an engine for containers is at hand.
	Container *Container

	// Timeout bounds one attempt, from its start. Zero means none.
	Timeout time.Duration
	// Grace is how long an attempt may take between SIGTERM and SIGKILL. Defaults to DefaultGrace.
	Grace time.Duration
	Retry Retry

	// Limits bound what an attempt uses.
	Limits Limits
	// Isolate separates an attempt from its host and from other attempts: it has
	// processes, mounts, a host name, System V IPC, /proc and /tmp of its own, and
	// no more rights than any program needs; as root also a user id of its own.
	Isolate bool
	// IsolateByDefault says that Isolate is set although nobody asked for it: a worker
	// that runs tasks of the job's owner alone, and cannot isolate, may do without. Only
	// whoever accepts the job sets it.
	IsolateByDefault bool
	// Network is NetworkHost or NetworkNone. Defaults to NetworkHost.
	Network string

	// Labels are those that a worker must have, with these values, to run the job's tasks.
	Labels map[string]string
	// Resources are how many units of each an attempt has to itself, as it has
	// Limits.CPUs and Limits.Memory of its worker.
	Resources map[string]int64

	// Stage are files that an attempt finds in its working directory, and leaves there.
	Stage Stage
}

// DefaultGrace is what a process gets between SIGTERM and SIGKILL.
const DefaultGrace = 5 * time.Second

// Command runs a program once for each input.
type Command struct {
	// Args is the program and its arguments, with placeholders (package
	// placeholder says which). With Shell it is one element, a shell line.
	Args []string
	// Literal takes Args and, with Stdin, the input as they are: no
	// placeholders, nothing appended.
	Literal bool
	// Shell hands the line to /bin/sh -c, each placeholder's value quoted.
	Shell bool
	// Stdin writes the input to the task's standard input instead of its arguments.
	Stdin bool
	// Columns names the fields of each input, for placeholders by name. Empty if they have none.
	Columns []string
	// Env is the environment, NAME=VALUE each. Nothing is inherited. One that names
	// no PATH gets a usual one, and HOME, LANG, TMPDIR and USER where it has none.
	Env []string
	// Dir is the absolute working directory. Empty means a directory of the attempt's
	// own, which is removed after it.
	Dir string
}

// Noop succeeds at once with no output.
type Noop struct{}

// Retry is what happens after a failed attempt. The zero value runs each task once.
type Retry struct {
	// Max is how many further attempts a task may have after its first has failed.
	Max int
	// Backoff is the pause before the first retry; it doubles with each further
	// one, up to BackoffMax, and each pause is drawn between half of that and all of it.
	// They default to DefaultBackoff and DefaultBackoffMax.
	Backoff, BackoffMax time.Duration
}

// What Retry's zero durations stand for.
const (
	DefaultBackoff    = time.Second
	DefaultBackoffMax = time.Minute
)

// Pause is the longest wait before attempt number n+1, n attempts having failed.
func (r Retry) Pause(n int) time.Duration {
	pause, limit := r.Backoff, r.BackoffMax
	if pause <= 0 {
		pause = DefaultBackoff
	}
	if limit <= 0 {
		limit = DefaultBackoffMax
	}
	for ; n > 1 && pause < limit; n-- {
		pause *= 2
	}
	return min(pause, limit)
}

// Kind is the name of the one kind of work that the spec asks for; empty if it asks for none.
func (s *Spec) Kind() string {
	switch {
	case s.Command != nil:
		return KindCommand
	case s.Noop != nil:
		return KindNoop
	case s.Function != nil:
		return KindFunction
	case s.Service != nil:
		return KindService
	case s.Container != nil:
		return KindContainer
	default:
		return ""
	}
}

// The kinds of work.
const (
	KindCommand = "command"
	KindNoop    = "noop"

	KindFunction  = "function"
	KindService   = "service"
	KindContainer = "container"
)

// Validate checks the spec. Its error names the field and wraps ErrInvalid.
func (s *Spec) Validate() error {
	if !s.one() {
		return fmt.Errorf("spec: want exactly one of command, noop, function, service and container: %w", ErrInvalid)
	}
	if s.Timeout < 0 || s.Grace < 0 || s.Retry.Max < 0 || s.Retry.Backoff < 0 || s.Retry.BackoffMax < 0 {
		return fmt.Errorf("spec: timeout, grace and retry cannot be negative: %w", ErrInvalid)
	}
	if s.Network != "" && s.Network != NetworkHost && s.Network != NetworkNone {
		return fmt.Errorf("spec: network %q: want %s or %s: %w", s.Network, NetworkHost, NetworkNone, ErrInvalid)
	}
	if err := s.Limits.Validate(); err != nil {
		return fmt.Errorf("spec: %w", err)
	}
	if err := ValidateLabels(s.Labels); err != nil {
		return fmt.Errorf("spec: %w", err)
	}
	if err := ValidateResources(s.Resources); err != nil {
		return fmt.Errorf("spec: %w", err)
	}
	if err := s.Stage.validate(s); err != nil {
		return fmt.Errorf("spec: %w", err)
	}
	return s.validateKind()
}

// IsProcess tells whether the work runs in processes of its worker's host: these have an
// environment, can be isolated, and can do to each other what they like where they are not.
func (s *Spec) IsProcess() bool { return s.Command != nil || s.Function != nil || s.Service != nil }

// one tells whether there is exactly one kind of work.
func (s *Spec) one() bool {
	kinds := 0
	for _, there := range []bool{s.Command != nil, s.Noop != nil, s.Function != nil, s.Service != nil, s.Container != nil} {
		if there {
			kinds++
		}
	}
	return kinds == 1
}

func (s *Spec) validateKind() error {
	switch {
	case s.Command != nil:
		return s.Command.validate()
	case s.Function != nil:
		return s.Function.validate()
	case s.Service != nil:
		return s.Service.validate()
	case s.Container != nil:
		return s.Container.validate()
	}
	return nil
}

func (c *Command) validate() error {
	if len(c.Args) == 0 || c.Args[0] == "" {
		return fmt.Errorf("spec: the command is empty: %w", ErrInvalid)
	}
	return c.validateWords()
}

// validateWords checks all of a command but that it names a program.
func (c *Command) validateWords() error {
	if c.Shell && len(c.Args) != 1 {
		return fmt.Errorf("spec: a shell command is one line, not %d arguments: %w", len(c.Args), ErrInvalid)
	}
	for _, s := range c.Args {
		if strings.ContainsRune(s, 0) {
			return fmt.Errorf("spec: %q holds a zero byte, which no process can be given: %w", s, ErrInvalid)
		}
	}
	return validateSurroundings(c.Dir, c.Env)
}
