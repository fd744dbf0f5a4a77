// Package driver is what a kind of work must offer to be run by navvy: a Linux
// process, a Kubernetes Job, a Python function in a warm host, a call of a
// service. The contract is cut against three unlike ones: a process, which
// starts at once and dies with its group; a no-op, which costs nothing; and a
// remote kind, which starts some time after Start has returned and lives on
// when navvy dies, to be adopted afterwards.
//
// Whoever implements it passes package drivertest. Package runner is its only
// caller: timeouts, grace, journals and the bounds of output live there, once.
package driver

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
)

// Driver runs tasks of one kind. All methods may be called at once.
type Driver interface {
	// Capabilities says what this driver can do on this host. It does not change, but for that
	// of a Latecomer, once.
	Capabilities() Capabilities

	// Start begins an attempt and returns as soon as it can be stopped and
	// recovered; it need not run yet. What keeps the task from being run by
	// its own fault (no such program, a bad input) is a *Refusal; any other
	// error is the host's fault, and the task may be tried elsewhere. After an
	// error nothing of the attempt is left. ctx bounds the call of Start, not
	// the attempt.
	Start(ctx context.Context, t *Task) (Execution, error)

	// Recover takes hold of an attempt whose handle an earlier process
	// journaled. Attempts that outlive navvy (Capabilities.Adopts) come back as
	// an Execution that delivers the output to t again from its first byte.
	// The others Recover ends, wholly, before it returns navvy.ErrNotFound, as
	// it does for an attempt of which nothing is left. handle may be nil, if
	// navvy died between journaling the intent and the end of Start: the
	// driver then finds what it started by t.Token. t.Spec may be nil where the
	// attempt is only to be ended.
	Recover(ctx context.Context, handle []byte, t *Task) (Execution, error)

	// Close frees what the driver holds. Executions have all ended before.
	Close() error
}

// Vacater is a driver that keeps something of an owner between attempts, such as warm
// processes.
type Vacater interface {
	// Vacate ends what is kept of all owners but this one, and returns when nothing of it
	// is left. Until then nobody starts an attempt of theirs, and none of them runs.
	Vacate(ctx context.Context, owner string) error
}

// Settler is a driver that keeps what has ended, so that whoever comes after a dead navvy
// finds it, until its result is kept elsewhere.
type Settler interface {
	// Settled says that nobody will ask for the attempt with this token again. It returns
	// at once; what is left to do is done until Close.
	Settled(token string)
}

// Sweeper is a driver whose attempts outlive those who wait for them, and are seen by others.
type Sweeper interface {
	// Adrift lists attempts of which something is left, whoever began them, also those that
	// this process runs. It tells what is known: it asks nobody, and begins nothing.
	Adrift() []Adrift
	// Sweep ends what is left of the attempt with that token, if that still has it, as gently
	// as a stop without force; it does not wait for the end. Nobody waits for the attempt.
	Sweep(ctx context.Context, token string) error
}

// Strayer is a Sweeper that knows when it has left something of which perhaps nobody wants
// anything any more, so that it is looked after soon.
type Strayer interface {
	Sweeper
	// Strays has something once that has happened since it was read last. It is never closed.
	Strays() <-chan struct{}
}

// Adrift is an attempt of which something is left.
type Adrift struct {
	Task  navvy.TaskID
	Token string
}

// Latecomer is a driver whose work cannot be done here yet (Capabilities.Absent), and that looks
// for what it lacks until that is there.
type Latecomer interface {
	// Come is closed once the work is done here. Capabilities tells what with from then on.
	Come() <-chan struct{}
}

// Bounder is a driver of which some attempts keep to the timeout of their task by themselves,
// from when its turn comes: whoever waits for one does not stop it for that. Its end is then a
// *Refusal with navvy.ReasonTimeout.
type Bounder interface {
	// Bounds tells whether an attempt at a task does.
	Bounds(t *Task) bool
}

// Explainer is a driver whose attempts may wait for something of which it can tell.
type Explainer interface {
	// Why tells in words what the attempt with this token waits for before it runs, from the
	// call of Start on; empty if for nothing that is known. It may ask whoever knows, and
	// returns soon all the same.
	Why(ctx context.Context, token string) string
}

// Execution is one running attempt. Wait is called once; the others at any time
// and at once, also after the end.
type Execution interface {
	// Handle is what Recover needs to find the attempt again: versioned, at
	// most MaxHandle bytes, the same whenever it is asked. Nil if there is
	// nothing to find after navvy's death.
	Handle() []byte

	// Wait blocks until the attempt is over: nothing of it runs any more and
	// all its output has been written to the task's Stdout and Stderr. An
	// error says that the end is unknown (the host or the connection failed), but for
	// *Away, which says that the attempt has come to nothing and may be made again.
	// When ctx ends, Wait returns its error and the attempt goes on.
	Wait(ctx context.Context) (End, error)

	// Stop asks the attempt to end, or with force makes it. It reaches all
	// that the attempt started, does not wait for the end, and is no error if
	// the attempt is over or was stopped before.
	Stop(ctx context.Context, force bool) error
}

// Task is what an attempt is given.
type Task struct {
	ID      navvy.TaskID
	Attempt navvy.AttemptID
	// Token names the attempt in the environment of what it starts, so that
	// it can be found without a handle: letters, digits and ".-:" only.
	Token string
	Slot  int
	// Began is when the attempt's time began, of which its timeout is told; zero if nobody tells.
	// Before Start it may have waited for something, and an earlier process may have begun it.
	Began time.Time
	// Round is how often the task was retried by hand, and Failed how many of its attempts
	// have failed in this round: what both name stays the same until an attempt has ended,
	// whoever makes it.
	Round, Failed int
	Spec          *navvy.Spec
	Format        navvy.InputFormat
	Input         []byte
	// Env is further environment, NAME=VALUE each, in place of what the spec has
	// under these names. A kind without an environment drops it.
	Env []string
	// API is where the attempt reaches its navvy, if it may; nil otherwise. A kind whose
	// attempts cannot connect to a socket of this host drops it.
	API *API
	// Stdout and Stderr take the output. Each is written to by one goroutine
	// at a time, in pieces as they come; a Write may block, which slows the
	// attempt and nothing else. An error from it means that the attempt is
	// being given up: drop the rest. One that implements io.ReaderFrom can be
	// told to read by itself, which spares a copy. Nil drops the stream.
	Stdout, Stderr io.Writer
	// Value takes what a function returns, or raises, before Wait returns; one goroutine
	// at a time writes to it. Nil drops it. Kinds without values leave it.
	Value io.Writer
	// Owner is whose job it is. What serves several attempts is never shared between owners.
	Owner string
	// Function gives the registered function of a spec of that kind; nil for others. It may
	// ask the server each time: a version does not change. An error that wraps
	// navvy.ErrNotFound says that it was removed.
	Function func(ctx context.Context) (*navvy.FunctionVersion, error)
	// Package opens the archive of the package of a service that has one, from its beginning;
	// nil for others. Whoever has read it closes it. A *Refusal says that there is none.
	Package func(ctx context.Context) (*os.File, error)
	// Tree is the absolute path of a directory of this host in which the process of a kind
	// that has one starts, beside its private one, which is its home; empty for none. An
	// isolated one cannot write to it.
	Tree string
	// Files stages the files of a spec that names some; nil for others. Kinds without
	// working directories of an attempt's own refuse such specs (navvy.AbilityStage).
	Files Stager
}

// ContainerEnv is what a container of a task finds in its environment beside what its image says,
// NAME=VALUE each, and each name once: the last that sets it counts. The task is one of kind container.
func (t *Task) ContainerEnv() []string {
	pairs := slices.Concat([]string{
		"NAVVY_JOB=" + string(t.ID.Job), fmt.Sprintf("NAVVY_TASK=%d", t.ID.Index),
		fmt.Sprintf("NAVVY_ATTEMPT=%d", t.Failed+1),
	}, t.Spec.Container.Command.Env, t.Env)
	at := make(map[string]int, len(pairs))
	list := pairs[:0]
	for _, pair := range pairs {
		name, _, _ := strings.Cut(pair, "=")
		if i, there := at[name]; there {
			list[i] = pair
			continue
		}
		at[name] = len(list)
		list = append(list, pair)
	}
	return list
}

// Stager brings files into the working directory of an attempt, and keeps what it leaves
// there. Errors that are *Refusal say what the task is to blame for.
type Stager interface {
	// Mounts tells which directories of this host the attempt is to find in its working
	// directory, in place of copies. It is called before Bring, which brings the rest.
	Mounts(ctx context.Context) ([]Mount, error)
	// Bring puts files into dir before the attempt starts, as its owner's, who can change them.
	Bring(ctx context.Context, dir string) error
	// Keep keeps files of dir after the attempt has succeeded and nothing of it runs. What
	// is in dir is not to be trusted.
	Keep(ctx context.Context, dir string) error
}

// Mount is a directory of this host that an attempt finds in its working directory: an
// isolated one cannot write to it.
type Mount struct {
	Source string // absolute
	Path   string // below the working directory, as io/fs has it
}

// API is how an attempt reaches its navvy.
type API struct {
	// Socket is the absolute path of a unix socket. It may be in a directory that only
	// this process's user may enter: whoever sets the attempt apart lets it through.
	Socket string
	// Token says which attempt calls. It is a secret: for the attempt's environment,
	// and for no log, no argument and no file that others can read.
	Token string
}

// End is how an attempt ended.
type End struct {
	Exit  navvy.Exit
	Usage navvy.Usage
	// Ran is for how long it ran, if it did not as soon as Start had returned; else zero.
	Ran time.Duration
	// Refusal is set if the attempt failed in a way that Exit does not tell: before it ran,
	// found out after Start had returned; or a function raised an exception.
	Refusal *Refusal
}

// Refusal says why a task cannot be run as it is, or has failed.
type Refusal struct {
	Reason  navvy.Reason
	Message string
}

// Error is the message.
func (r *Refusal) Error() string { return r.Message }

// Away says that an attempt could not be made because what it needs is not there for now,
// such as a service that is being started again. Nobody is to blame: the task is given
// back, and tried again later or elsewhere, without a bound.
type Away struct{ Message string }

// Error is the message.
func (a *Away) Error() string { return a.Message }

// Capabilities says how a driver's attempts behave.
type Capabilities struct {
	// Kind is the kind of spec that it runs.
	Kind string
	// Adopts says that attempts live on when navvy dies and Recover returns them running.
	Adopts bool
	// Passes says that Start of another attempt at the same task, by whatever navvy, takes
	// over what an earlier one has left running.
	Passes bool
	// Asynchronous says that Start may return before the attempt runs.
	Asynchronous bool
	// Remains says that navvy's death may leave something of an attempt behind:
	// it is journaled before it starts, and recovered.
	Remains bool
	// Signals says that a stop without force gives the attempt a chance to end by itself.
	Signals bool
	// Explains says that the driver is an Explainer.
	Explains bool
	// Output and Usage say that attempts write output and are measured.
	Output, Usage bool
	// Enforces lists what this host can enforce for an attempt. A spec that needs
	// more is refused by Start, with navvy.ReasonStart.
	Enforces []navvy.Ability
	// Lacks says in words why Enforces is not all there is, and what would mend
	// it; empty if nothing is missing.
	Lacks string
	// Absent says why this host does no such work at all, and what would mend it; empty if
	// it does. Then nobody calls Start.
	Absent string
	// With says what the work is done with, for people; empty if there is nothing to say.
	With string
}

// Refuse is why a driver with these capabilities must not start a spec: it needs what
// the host cannot enforce. Nil if it does not. Package runner asks before each
// start; a driver that can be used alone asks again.
func (c *Capabilities) Refuse(s *navvy.Spec) *Refusal {
	var missing []string
	for _, need := range s.Needs() {
		if !slices.Contains(c.Enforces, need) {
			missing = append(missing, string(need))
		}
	}
	if missing == nil {
		return nil
	}
	message := "this host cannot enforce " + strings.Join(missing, ", ")
	if c.Lacks != "" {
		message += ": " + c.Lacks
	}
	return &Refusal{Reason: navvy.ReasonStart, Message: message}
}

// Abilities are what the driver enforces, as a worker tells its server.
func (c *Capabilities) Abilities() navvy.KindAbilities {
	if c.Absent != "" {
		return navvy.KindAbilities{Kind: c.Kind, Lacks: c.Absent, Absent: true}
	}
	return navvy.KindAbilities{Kind: c.Kind, Enforces: c.Enforces, Lacks: c.Lacks, With: c.With, Explains: c.Explains}
}

// MaxHandle bounds a handle, in bytes.
const MaxHandle = 400

// StopTimeout is how long a forced stop may take to end an attempt, however
// deep in the kernel it is: a throttled writer in fsync took 4.9 s.
const StopTimeout = 30 * time.Second
