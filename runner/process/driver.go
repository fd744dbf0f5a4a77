package process

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/process/cgroup"
	"github.com/navvy-run/navvy/runner/process/isolate"
)

// Options configure NewDriver.
type Options struct {
	// Render makes the arguments of a task out of its spec's; with
	// Command.Shell the result is one element, the line. Defaults to the spec's as they are.
	Render func(t *driver.Task) ([]string, error)
	// Groups is where attempts with limits get control groups; the driver closes
	// it. Defaults to none: limits are refused.
	Groups *cgroup.Tree
	// Isolation is what this host can isolate. Defaults to none: isolation and
	// ulimits are refused.
	Isolation *isolate.Host
	// Work is a directory for the private directories of attempts, made if need be.
	// Defaults to none: a command that names no directory is refused.
	Work string
	// Logger takes what goes wrong beside an attempt. Defaults to dropping it.
	Logger *slog.Logger
}

// Driver runs the kind command.
type Driver struct {
	render func(t *driver.Task) ([]string, error)
	groups *cgroup.Tree
	boxes  *boxes // nil: none
	log    *slog.Logger

	mu   sync.Mutex
	spec *navvy.Spec // of base
	base []string    // its environment, less what the driver sets
	bare bool        // which names no PATH

	census census
}

var _ driver.Driver = (*Driver)(nil)

// NewDriver returns a driver of processes.
func NewDriver(o *Options) *Driver {
	d := &Driver{
		render: func(t *driver.Task) ([]string, error) { return t.Spec.Command.Args, nil },
		log:    slog.New(slog.DiscardHandler),
	}
	if o == nil {
		return d
	}
	if o.Render != nil {
		d.render = o.Render
	}
	if o.Logger != nil {
		d.log = o.Logger
	}
	d.groups = o.Groups
	if o.Isolation != nil || o.Work != "" {
		d.boxes = newBoxes(o.Isolation, o.Work)
	}
	return d
}

// Capabilities implements driver.Driver.
func (d *Driver) Capabilities() driver.Capabilities {
	c := driver.Capabilities{Kind: navvy.KindCommand, Remains: true, Signals: true, Output: true, Usage: true}
	var lacks []string
	add := func(enforces []navvy.Ability, lack string) {
		c.Enforces = append(c.Enforces, enforces...)
		if lack != "" {
			lacks = append(lacks, lack)
		}
	}
	if d.groups != nil {
		add(d.groups.Enforces(), d.groups.Lacks())
	} else {
		add(nil, "control groups are not used")
	}
	if d.boxes != nil && d.boxes.host != nil {
		add(d.boxes.host.Abilities(), d.boxes.host.Lacks())
	} else {
		add(nil, "isolation is not used")
	}
	if d.boxes != nil && d.boxes.work != "" {
		add([]navvy.Ability{navvy.AbilityStage, navvy.AbilityMount}, "")
	}
	c.Lacks = strings.Join(lacks, "; ")
	return c
}

// Close implements driver.Driver.
func (d *Driver) Close() error {
	err := d.boxes.close()
	if d.groups != nil {
		err = errors.Join(err, d.groups.Close())
	}
	return err
}

// Start implements driver.Driver. With Command.Stdin a task reads its input as a
// file of one line: the bytes of the input, then a newline.
func (d *Driver) Start(ctx context.Context, t *driver.Task) (driver.Execution, error) {
	x, err := d.start(ctx, t, nil, func(*Config) {})
	if err != nil {
		return nil, err
	}
	return x, nil
}

// start is Start, with directories that the process sees, also if it is isolated, and
// what else it is to have.
func (d *Driver) start(ctx context.Context, t *driver.Task, see []string, change func(*Config)) (*execution, error) {
	args, err := d.render(t)
	if err != nil {
		return nil, &driver.Refusal{Reason: navvy.ReasonInput, Message: err.Error()}
	}
	command := t.Spec.Command
	if command.Shell {
		args = slices.Concat([]string{"/bin/sh", "-c"}, args)
	}
	c := Config{Args: args, Dir: command.Dir, Stdout: t.Stdout, Stderr: t.Stderr}
	if command.Stdin {
		c.Input = t.Input
		if !command.Literal {
			c.Input = append(slices.Clip(t.Input), '\n')
		}
	}
	c.Limits = t.Spec.Limits
	// Isolation and ulimits alone do without a group where there can be none.
	if len(c.Limits.Needs()) > 0 || boxed(t.Spec) && d.groups != nil && d.groups.Version() != "none" {
		c.Groups, c.Name = d.groups, t.Token
	}
	mounts, err := mountsOf(ctx, t)
	if err != nil {
		return nil, err
	}
	leave, err := d.boxes.enter(t, &sights{see, mounts}, &c)
	if err != nil {
		return nil, err
	}
	files, err := bring(ctx, t, c.Dir, mounts)
	if err != nil {
		return nil, errors.Join(err, leave())
	}
	c.Env = d.environment(t, c.Dir, socketOf(t, &c))
	if t.Tree != "" && !t.Spec.Isolate {
		c.Dir = t.Tree
	}
	change(&c)
	p, err := Start(&c)
	if err != nil {
		return nil, errors.Join(err, leave())
	}
	return &execution{Process: p, driver: d, token: t.Token, files: files, leave: leave}, nil
}

// execution is a process as the contract wants it.
type execution struct {
	*Process
	driver  *Driver
	token   string
	files   *staged // nil: there are none
	leave   func() error
	stopped atomic.Bool
}

// Handle implements driver.Execution.
func (e *execution) Handle() []byte {
	boot, err := bootID()
	if err != nil {
		return nil // the token is enough to find it
	}
	return appendHandle(nil, boot, e.Birth())
}

// Wait implements driver.Execution. Of an attempt that was stopped nothing is
// left at its end, also not what left its process group.
func (e *execution) Wait(ctx context.Context) (driver.End, error) {
	end, err := e.Process.Wait(ctx)
	if err != nil && !e.isOver() {
		return end, err
	}
	if err == nil && e.stopped.Load() && e.group == nil && !e.init() {
		err = e.driver.endAll(ctx, Birth{}, e.token)
	}
	if err == nil && end.Refusal == nil && end.Exit == (navvy.Exit{}) && !e.stopped.Load() {
		end.Refusal, err = e.files.keep(ctx)
	}
	// What cannot be removed is no reason to lose an answer: the next start clears it away.
	if left := errors.Join(e.leftErr, e.leave()); left != nil {
		e.driver.log.Warn("something of an attempt is left until the next start", "attempt", e.token, "err", left)
	}
	return end, err
}

// Stop implements driver.Execution.
func (e *execution) Stop(_ context.Context, force bool) error {
	e.stopped.Store(true)
	e.files.stop()
	return e.Process.Stop(force)
}
