package service

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/process"
)

// DriverOptions configure NewDriver.
type DriverOptions struct {
	// Processes starts the programs of services. It is closed after this driver, by whoever
	// made it. Required.
	Processes *process.Driver
	// Name begins the names of processes: whoever comes after a dead navvy, with the same
	// name, ends what that has left. No two that live may have the same. Letters, digits
	// and ".-:" only. Defaults to one of its own, after which nobody comes.
	Name string
	// Packages is a directory of this driver alone, made if need be, in which the packages of
	// services are deployed. Defaults to none: services with packages are refused.
	Packages string
	// Concurrency is how many attempts run at once, for services to know. Defaults to unknown.
	Concurrency int
	// Rest is how long a service may be idle before it is disposed of. Defaults to 5 minutes.
	Rest time.Duration
	// Idle is how many idle services are kept at most: the one that has been idle for
	// longest is disposed of first. Defaults to 16.
	Idle int
	// Patience is how long an attempt waits for a service that is away before it is given
	// back. Defaults to 30 s.
	Patience time.Duration
	// StartTimeout, Settle and MaxAnswer are those of Options.
	StartTimeout, Settle time.Duration
	MaxAnswer            int
	// Logger takes what services write to standard error, and what happens to them.
	// Defaults to dropping it.
	Logger *slog.Logger
}

const (
	defaultRest    = 5 * time.Minute
	defaultIdle    = 16
	defaultWaiting = 30 * time.Second
)

// Driver runs the kind service: an attempt is one invocation, and the answer its standard
// output. Attempts of one owner with the same service, in the same surroundings and with
// the same limits share one instance of it, which is opened by the first one.
type Driver struct {
	opts  DriverOptions
	log   *slog.Logger
	name  string // of this driver's instances, up to their numbers
	count atomic.Int64
	caps  func() *driver.Capabilities
	pool  pool
	trees trees

	earlier *process.Predecessors

	mu   sync.Mutex
	spec *navvy.Spec // of kept
	kept keyed
}

var (
	_ driver.Driver  = (*Driver)(nil)
	_ driver.Vacater = (*Driver)(nil)
)

// driverMark stands behind the name in the token of a process of this driver's services.
const driverMark = "-services."

// NewDriver returns a driver of services. It starts nothing yet.
func NewDriver(o *DriverOptions) *Driver {
	d := &Driver{opts: *o, log: o.Logger}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if d.opts.Rest <= 0 {
		d.opts.Rest = defaultRest
	}
	if d.opts.Idle <= 0 {
		d.opts.Idle = defaultIdle
	}
	if d.opts.Patience <= 0 {
		d.opts.Patience = defaultWaiting
	}
	if d.opts.Name == "" {
		d.opts.Name = rand.Text()
	}
	d.name = d.opts.Name + driverMark + rand.Text()[:8] + "."
	d.earlier = process.NewPredecessors(d.opts.Processes, d.opts.Name+driverMark, d.name)
	d.pool.rest, d.pool.room, d.pool.log = d.opts.Rest, d.opts.Idle, d.log
	d.trees.dir = d.opts.Packages
	d.caps = sync.OnceValue(func() *driver.Capabilities {
		c := d.opts.Processes.Capabilities()
		c.Kind, c.Asynchronous, c.Usage = navvy.KindService, true, false
		if d.opts.Packages != "" {
			c.Enforces = append(slices.Clip(c.Enforces), navvy.AbilityPackage)
		}
		return &c
	})
	return d
}

// Capabilities implements driver.Driver: services have what processes have.
func (d *Driver) Capabilities() driver.Capabilities { return *d.caps() }

// Start implements driver.Driver.
func (d *Driver) Start(_ context.Context, t *driver.Task) (driver.Execution, error) {
	if refusal := d.caps().Refuse(t.Spec); refusal != nil {
		return nil, refusal
	}
	r, refusal := requestOf(t)
	if refusal != nil {
		return nil, refusal
	}
	if err := Check(t.Spec.Service.Form); err != nil {
		return nil, &driver.Refusal{Reason: navvy.ReasonStart, Message: err.Error()}
	}
	a := &attempt{task: *t, request: *r, done: make(chan struct{}), force: make(chan struct{})}
	a.request.Force = a.force
	a.ctx, a.cancel = context.WithCancelCause(context.Background())
	go a.run(d)
	return a, nil
}

// requestOf makes the request of a task.
func requestOf(t *driver.Task) (*Request, *driver.Refusal) {
	r := &Request{ID: t.ID.String(), Attempt: int(t.Attempt.Number), Body: t.Input, Stderr: t.Stderr}
	var err error
	switch t.Format {
	case navvy.InputRaw:
	case navvy.InputMessage:
		var id string
		if id, r.Body, err = navvy.Message(t.Input); id != "" {
			r.ID = id
		}
	default:
		var fields []string
		if fields, err = t.Format.Fields(t.Input); len(fields) == 1 {
			r.Body = []byte(fields[0])
		} else if err == nil {
			err = fmt.Errorf("a request to a service is one text, and the input has %d fields", len(fields))
		}
	}
	if err != nil {
		return nil, &driver.Refusal{Reason: navvy.ReasonInput, Message: err.Error()}
	}
	return r, nil
}

// Recover implements driver.Driver. An invocation is never adopted: services that an
// earlier driver of this name has left are killed, with all that they started.
func (d *Driver) Recover(ctx context.Context, _ []byte, _ *driver.Task) (driver.Execution, error) {
	if err := d.earlier.EndOnce(ctx); err != nil {
		return nil, err
	}
	return nil, navvy.ErrNotFound
}

// Vacate implements driver.Vacater: an idle service may do what it likes.
func (d *Driver) Vacate(ctx context.Context, owner string) error {
	if err := d.earlier.EndOnce(ctx); err != nil {
		return err
	}
	for _, i := range d.pool.vacate(owner) {
		select {
		case <-i.gone:
			if i.left != nil {
				return fmt.Errorf("service: a service of %s is not over: %w", i.owner, i.left)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Close implements driver.Driver.
func (d *Driver) Close() error {
	d.pool.close()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		d.pool.all.Wait()
	}()
	timer := time.NewTimer(2 * driver.StopTimeout)
	defer timer.Stop()
	select {
	case <-gone:
		return d.trees.close()
	case <-timer.C:
		return fmt.Errorf("service: services are not over long after they were told to end: %w", navvy.ErrUnavailable)
	}
}

// open opens an instance for attempts like this one.
func (d *Driver) open(ctx context.Context, t *driver.Task) (Service, error) {
	if err := d.earlier.EndOnce(ctx); err != nil {
		d.log.Warn("something of an earlier navvy's services is left", "err", err)
	}
	if t.Spec.Service.Package != nil {
		return d.openPackaged(ctx, t)
	}
	return d.openIn(ctx, t, "")
}

// openIn opens an instance whose programs start in a directory that was deployed for them,
// if there is one.
func (d *Driver) openIn(ctx context.Context, t *driver.Task, tree string) (Service, error) {
	s := t.Spec
	limits := s.Limits
	limits.Output = 0 // that is the attempt's
	program, _, _ := strings.Cut(s.Service.Form, " ")
	return Open(ctx, s.Service.Form, &Options{
		Processes: d.opts.Processes, Name: d.name + strconv.FormatInt(d.count.Add(1), 10),
		Env: joined(s.Service.Env, t.Env), Dir: s.Service.Dir, Tree: tree, Limits: limits, Isolate: s.Isolate, Network: s.Network,
		Concurrency: d.opts.Concurrency, StartTimeout: d.opts.StartTimeout, Settle: d.opts.Settle,
		Grace: s.Grace, MaxAnswer: d.opts.MaxAnswer, fresh: true, Logger: d.log.With("service", program, "owner", t.Owner),
	})
}

// joined is env with more, which takes the place of what has the same names.
func joined(env, more []string) []string {
	if len(more) == 0 {
		return env
	}
	env = slices.DeleteFunc(slices.Clone(env), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return slices.ContainsFunc(more, func(other string) bool { return strings.HasPrefix(other, name+"=") })
	})
	return append(env, more...)
}

// packageKey names a package; empty for none.
func packageKey(p *navvy.Package) string {
	if p == nil {
		return ""
	}
	return p.Owner + "/" + p.String() + "/" + p.SHA256
}

// keyed is what the key of an instance is made of, and the key.
type keyed struct{ owner, key string }

// keyOf names all that must be the same for two attempts to share an instance. Those of a
// job are alike, as a rule.
func (d *Driver) keyOf(t *driver.Task) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.spec != t.Spec || d.kept.owner != t.Owner {
		s, v := t.Spec, t.Spec.Service
		limits := s.Limits
		limits.Output = 0 // that is the attempt's
		d.spec = s
		d.kept = keyed{t.Owner, fmt.Sprintf("%q %q %q %q %q %v %s %+v %d ", t.Owner, v.Form, v.Env, v.Dir, packageKey(v.Package), s.Isolate, s.Network, limits, s.Grace)}
	}
	return d.kept.key + strings.Join(t.Env, "\x00")
}
