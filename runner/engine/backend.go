package engine

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/navvy-run/navvy"
)

// backend is what is needed of an engine. All methods may be called at once.
type backend interface {
	// about says what it is and can do.
	about() about
	// create makes a container that does not run yet, and returns its id. The error wraps
	// errNoImage if its image is not here, errExists if there is one of that name, and
	// errRefused if it cannot be made as it is.
	create(ctx context.Context, c *container) (id string, err error)
	// start starts it. The error is a *startError if its program cannot be started.
	start(ctx context.Context, id string) error
	// named finds the container of a name, inspect that of an id. The error wraps errGone.
	named(ctx context.Context, name string) (*state, error)
	inspect(ctx context.Context, id string) (*state, error)
	// list lists those of an instance.
	list(ctx context.Context, instance string) ([]state, error)
	// watch calls ready once it is sure to be told of what comes, and changed with the id of
	// each container of an instance that may have changed, until ctx ends or it fails.
	watch(ctx context.Context, instance string, ready func(), changed func(id string)) error
	// logs copies what a container has written, from its first byte, and goes on until it has
	// ended, of which over tells when it is closed. It may end early: whole tells whether all
	// of it was there, which holds after over only.
	logs(ctx context.Context, id string, over <-chan struct{}, stdout, stderr io.Writer) (whole bool, err error)
	// ask asks a container to end: by the signal that its image wants, SIGTERM otherwise. kill
	// ends it. Neither waits, and neither is an error if it does not run.
	ask(ctx context.Context, id string) error
	kill(ctx context.Context, id string) error
	// remove removes a container, by force; it is no error if it is gone.
	remove(ctx context.Context, id string) error
	// pull fetches an image. The error wraps errRefused if trying again cannot mend it.
	pull(ctx context.Context, image string, as account) error
	close() error
}

// about says what an engine is.
type about struct {
	name     string // for people, with its version
	enforces []navvy.Ability
	lacks    string
}

// container is one that is to be made.
type container struct {
	name       string
	image      string
	entrypoint []string // empty for the image's own
	args       []string // empty for the image's own, or none if there is an entrypoint
	dir        string   // empty for the image's own
	env        []string
	labels     map[string]string
	limits     navvy.Limits
	gpus       int64
	noNetwork  bool
}

// state is how a container is.
type state struct {
	id, name string
	labels   map[string]string
	phase    phase
	created  time.Time
	finished time.Time // of one that has ended
	code     int
	oom      bool // the kernel killed something of it for want of memory
	unbegun  bool // its start was given up
	undone   bool // somebody has ended what it was in
	unknown  bool // its engine does not know how it ended
}

// phase is how far a container is.
type phase int

const (
	phaseCreated phase = iota
	phaseRunning
	phaseEnded
	phaseGoing // it is being removed
)

// What engines answer.
var (
	errGone    = errors.New("there is no such container")
	errNoImage = errors.New("the image is not here")
	errExists  = errors.New("there is one of that name")
	errRefused = errors.New("it is refused")
)

// kinded is an error in an engine's own words, and what it means.
type kinded struct{ kind, err error }

func (k kinded) Error() string   { return k.err.Error() }
func (k kinded) Unwrap() []error { return []error{k.kind, k.err} }

// startError says that a program cannot be started.
type startError struct{ message string }

func (e *startError) Error() string { return e.message }
