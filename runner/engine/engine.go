// Package engine runs tasks as containers of an engine on this machine, without Kubernetes:
// Docker, or whatever speaks its API, or containerd. An attempt is a container, whose log is
// the task's output. Containers live on when navvy dies, and are found again by their names,
// which say what they are for and not who made them.
//
// One stream of events for all containers tells how they are; nothing asks again and again. A
// container stays until its result is kept elsewhere.
package engine

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/errand"
)

// The engines that there are.
const (
	KindDocker     = "docker"
	KindContainerd = "containerd"
)

// Options configure Open.
type Options struct {
	// Kind is KindDocker or KindContainerd. Required.
	Kind string
	// Host is where Docker listens, as DOCKER_HOST says it. Empty for its usual socket.
	Host string
	// Certificates is the directory of ca.pem, cert.pem and key.pem for a Host that wants
	// TLS; empty for none.
	Certificates string
	// Address is containerd's socket. Empty for its usual one.
	Address string
	// Instance tells the containers of this navvy from those of others on the engine: that of
	// its directory, which one process has at a time. Required.
	Instance string
	// Group is the control group in which containerd makes those of containers. Empty for its
	// usual one.
	Group string
	// Logs is a directory of ours in which containerd writes what containers say; made if it
	// is not there. Required for KindContainerd.
	Logs string
	// Ending is a directory of ours in which is noted which containers were asked to end, for
	// whoever comes after a navvy that was killed meanwhile; made when it is needed. Empty for
	// no notes: how such a container ends is then taken for its task's own end.
	Ending string
	// ImagePatience is how long an attempt waits for an image that cannot be pulled before it
	// has failed. Defaults to 2 minutes.
	ImagePatience time.Duration
	// Credentials is the directory of a configuration of Docker's command line (config.json), which
	// names the accounts with which images are pulled, or who keeps them. Empty for none.
	Credentials string
	// Sweep says that what earlier navvys of this instance left is looked after: nothing of it
	// runs longer than its timeout, or is kept for longer than a week.
	Sweep bool
	// Render makes the arguments of a task. Required.
	Render func(t *driver.Task) ([]string, error)
	// Logger takes what goes wrong beside an attempt. Defaults to dropping it.
	Logger *slog.Logger
}

const defaultPatience = 2 * time.Minute

// Driver runs the kind container. Its watch begins with the first attempt.
type Driver struct {
	opts    Options
	log     *slog.Logger
	backend backend
	caps    driver.Capabilities
	watch   *watcher
	held    holdings
	left    leftovers
	marks   marks
	boot    string // of the engine's machine; empty if that is not known

	ctx     context.Context // until Close
	stop    context.CancelFunc
	running sync.WaitGroup

	settling *errand.Queue  // ids of containers whose results are kept
	ends     sync.WaitGroup // of containers that nobody wants, which were asked to
}

var (
	_ driver.Driver  = (*Driver)(nil)
	_ driver.Settler = (*Driver)(nil)
	_ driver.Sweeper = (*Driver)(nil)
)

// Open reaches an engine and returns a driver for it. The error wraps navvy.ErrUnavailable if
// none answers, and navvy.ErrInvalid if the options make no sense.
func Open(ctx context.Context, o *Options) (*Driver, error) {
	var (
		b   backend
		err error
	)
	switch o.Kind {
	case KindDocker:
		b, err = openDocker(ctx, o)
	case KindContainerd:
		b, err = openContainerd(ctx, o)
	default:
		err = fmt.Errorf("engine %q: want %s or %s: %w", o.Kind, KindDocker, KindContainerd, navvy.ErrInvalid)
	}
	if err != nil {
		return nil, err
	}
	return newDriver(o, b), nil
}

func newDriver(o *Options, b backend) *Driver {
	d := &Driver{opts: *o, log: o.Logger, backend: b, held: newHoldings(), marks: marks{o.Ending}, boot: bootOf(o)}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if d.opts.ImagePatience <= 0 {
		d.opts.ImagePatience = defaultPatience
	}
	about := b.about()
	d.caps = driver.Capabilities{
		Kind: navvy.KindContainer, Adopts: true, Remains: true, Signals: true, Output: true,
		Enforces: about.enforces, Lacks: about.lacks, With: about.name,
	}
	d.watch = newWatcher(b, d.opts.Instance, d.log)
	d.ctx, d.stop = context.WithCancel(context.Background())
	d.settling = errand.New(settleAtOnce, pauses(), d.settle)
	if o.Sweep {
		d.running.Go(func() { d.sweep(d.ctx) })
	}
	return d
}

// Capabilities implements driver.Driver.
func (d *Driver) Capabilities() driver.Capabilities { return d.caps }

// Close implements driver.Driver. Containers go on; those whose results are kept, and those that
// nobody wants any more, go first.
func (d *Driver) Close() error {
	d.settling.Close(lastSettling)
	d.finishEnds()
	d.stop()
	d.running.Wait()
	d.watch.close()
	return d.backend.close()
}
