// Package function is the driver of the kind function: it calls registered Python
// functions, in processes that stay warm. docs/functions.md says what travels.
//
// A host is a Python process that serves one owner, one call at a time, with the limits
// and the isolation of the job. It stays for further calls of the same kind, until
// others need its place, it has served many, has grown, or was idle for long. What a
// function leaves running lives with its host, and dies with it.
package function

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
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

// Options configure New.
type Options struct {
	// Python is the interpreter, an absolute path: Python 3.8 or later. Required.
	Python string
	// Path are directories in which functions find modules, before all others.
	Path []string
	// Processes starts the hosts. It is closed after this driver, by whoever made it. Required.
	Processes *process.Driver
	// Name begins the names of the hosts: whoever comes after a dead navvy, with the same
	// name, ends what that has left. No two that live may have the same. Letters, digits
	// and ".-:" only. Defaults to one of its own, after which nobody comes.
	Name string
	// Hosts is how many may live at once, and so how many calls run at once. Defaults to
	// the number of CPUs.
	Hosts int
	// Rest is how long a host may be idle before it is ended. Defaults to 5 minutes.
	Rest time.Duration
	// Calls is how many a host serves before another takes its place. Defaults to 10,000.
	Calls int
	// Look has the interpreter say once what it is, for Capabilities: one that will not do
	// is told of before anything is called. Defaults to looking for the file alone.
	Look bool
	// Logger takes what goes wrong beside a call. Defaults to dropping it.
	Logger *slog.Logger
}

const (
	defaultRest  = 5 * time.Minute
	defaultCalls = 10_000
)

// Driver runs the kind function.
type Driver struct {
	opts  Options
	log   *slog.Logger
	name  string // of this driver's hosts, up to their numbers
	hosts atomic.Int64
	pool  pool
	known definitions
	caps  func() *driver.Capabilities

	earlier *process.Predecessors

	mu   sync.Mutex
	spec *navvy.Spec // of keyed
	kept keyed
}

var (
	_ driver.Driver  = (*Driver)(nil)
	_ driver.Vacater = (*Driver)(nil)
)

// New returns a driver of functions. It starts nothing yet.
func New(o *Options) *Driver {
	d := &Driver{opts: *o, log: o.Logger}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if d.opts.Hosts <= 0 {
		d.opts.Hosts = runtime.NumCPU()
	}
	if d.opts.Rest <= 0 {
		d.opts.Rest = defaultRest
	}
	if d.opts.Calls <= 0 {
		d.opts.Calls = defaultCalls
	}
	if d.opts.Name == "" {
		d.opts.Name = rand.Text()
	}
	d.name = d.opts.Name + hostMark + rand.Text()[:8] + "."
	d.earlier = process.NewPredecessors(d.opts.Processes, d.opts.Name+hostMark, d.name)
	d.pool.room, d.pool.rest = d.opts.Hosts, d.opts.Rest
	d.caps = sync.OnceValue(func() *driver.Capabilities {
		c := d.opts.Processes.Capabilities()
		c.Kind, c.Asynchronous, c.Signals = navvy.KindFunction, true, false
		c.With, c.Absent = d.opts.interpreter()
		return &c
	})
	return d
}

// interpreter says what Python it is, or why functions cannot be called with it.
func (o *Options) interpreter() (with, absent string) {
	if !o.Look {
		if err := Offered(o.Python); err != nil {
			absent = o.Python + " is no program" + another
		}
		return "", absent
	}
	with, err := about(o.Python, o.Path)
	if err != nil {
		absent = err.Error()
	}
	return with, absent
}

// hostMark stands behind the name in the token of a host.
const hostMark = "-python."

// Capabilities implements driver.Driver: hosts have what processes have.
func (d *Driver) Capabilities() driver.Capabilities {
	return *d.caps()
}

// Close implements driver.Driver.
func (d *Driver) Close() error {
	d.pool.close()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		d.pool.all.Wait()
	}()
	select {
	case <-gone:
		return nil
	case <-time.After(driver.StopTimeout):
		return fmt.Errorf("function: Python processes are not over %s after they were killed: %w", driver.StopTimeout, navvy.ErrUnavailable)
	}
}

// Start implements driver.Driver. It waits for a free host.
func (d *Driver) Start(ctx context.Context, t *driver.Task) (driver.Execution, error) {
	caps := d.caps()
	if refusal := caps.Refuse(t.Spec); refusal != nil {
		return nil, refusal
	}
	f, err := d.known.get(ctx, t)
	if err != nil {
		return nil, err
	}
	key := d.keyOf(t)
	for {
		h, err := d.host(ctx, key, f.ID, t)
		if err != nil {
			return nil, err
		}
		c := &call{task: *t, host: h, done: make(chan struct{})}
		err = h.begin(ctx, c, f)
		switch {
		case err == nil:
			return c, nil
		case errors.Is(err, errGone):
			d.pool.give(h, false)
			continue
		}
		// It has died since its last call: this one has not begun. Or somebody stopped it.
		h.kill()
		<-c.done
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if h.calls == 1 {
			return c, nil // which tells how the host ended
		}
	}
}

// host finds a call a host, or starts one.
func (d *Driver) host(ctx context.Context, key, id string, t *driver.Task) (*host, error) {
	turn, err := d.pool.take(ctx, key, id)
	if err != nil || turn.host != nil {
		return turn.host, err
	}
	if err := d.earlier.EndOnce(ctx); err != nil {
		d.log.Warn("something of an earlier navvy's functions is left", "err", err)
	}
	h, err := d.newHost(ctx, key, t)
	if err != nil {
		d.pool.failed()
		return nil, err
	}
	d.pool.came()
	return h, nil
}

// Recover implements driver.Driver. A call is never adopted: hosts that an earlier driver
// of this name has left are killed, with all that they started, whatever they did.
func (d *Driver) Recover(ctx context.Context, _ []byte, _ *driver.Task) (driver.Execution, error) {
	if err := d.earlier.End(ctx); err != nil {
		return nil, err
	}
	return nil, navvy.ErrNotFound
}

// Vacate implements driver.Vacater: hosts stay with what functions have left running in them.
func (d *Driver) Vacate(ctx context.Context, owner string) error {
	if err := d.earlier.EndOnce(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, driver.StopTimeout)
	defer cancel()
	for _, h := range d.pool.vacate(owner) {
		select {
		case <-h.dead:
		case <-ctx.Done():
			return fmt.Errorf("function: a Python process of %s, pid %d, is not over after it was killed: %w", h.owner, h.proc.Pid(), navvy.ErrUnavailable)
		}
	}
	return nil
}

// keyed is what the key of a host is made of, and the key.
type keyed struct {
	owner, socket string
	key           string
}

// keyOf names all that must be the same for two calls to share a host. Those of a job
// are alike, as a rule.
func (d *Driver) keyOf(t *driver.Task) string {
	k := keyed{owner: t.Owner}
	if t.API != nil {
		k.socket = t.API.Socket
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.spec == t.Spec && d.kept.owner == k.owner && d.kept.socket == k.socket {
		return d.kept.key + strings.Join(t.Env, "\x00")
	}
	s := t.Spec
	limits := s.Limits
	limits.Output = 0 // that is not the host's
	k.key = fmt.Sprintf("%q %q %v %s %+v %q %q ", k.owner, k.socket, s.Isolate, s.Network, limits, s.Function.Path, s.Function.Modules)
	d.spec, d.kept = s, k
	return k.key + strings.Join(t.Env, "\x00")
}

// servant is the task that a host for calls like t is started as.
func (d *Driver) servant(t *driver.Task) *driver.Task {
	token := d.name + strconv.FormatInt(d.hosts.Add(1), 10)
	s := &driver.Task{
		ID: navvy.TaskID{Job: navvy.JobID(token)}, Token: token, Env: t.Env,
		Spec: &navvy.Spec{
			Command: &navvy.Command{Args: []string{d.opts.Python, "-c", bootstrap}, Literal: true},
			Limits:  t.Spec.Limits, Isolate: t.Spec.Isolate, Network: t.Spec.Network,
		},
	}
	if t.API != nil {
		s.API = &driver.API{Socket: t.API.Socket} // each call has a token of its own
	}
	return s
}

// sees are the directories that a host for calls like t reads also where it is isolated.
// Those of the call itself are among them only if it has navvy's own rights: with a user
// of its own it would be led past what it may not read.
func (d *Driver) sees(t *driver.Task) []string {
	if slices.Contains(d.caps().Enforces, navvy.AbilityUser) {
		return d.opts.Path
	}
	return slices.Concat(t.Spec.Function.Path, d.opts.Path)
}

// environment is what a call finds of its own in its environment.
func environment(t *driver.Task) []byte {
	b := make([]byte, 0, 160)
	b = append(append(b, process.EnvJob+"="...), t.ID.Job...)
	b = strconv.AppendInt(append(b, "\x00"+process.EnvIndex+"="...), t.ID.Index, 10)
	b = strconv.AppendUint(append(b, "\x00"+process.EnvAttempt+"="...), uint64(t.Attempt.Number), 10)
	b = strconv.AppendInt(append(b, "\x00"+process.EnvSlot+"="...), int64(t.Slot), 10)
	if t.API != nil {
		b = append(append(b, "\x00"+process.EnvTaskToken+"="...), t.API.Token...)
	}
	return b
}

// call is one attempt.
type call struct {
	task driver.Task
	host *host

	done chan struct{} // closed when it is over
	end  driver.End    // then
	err  error         // then
}

// Handle implements driver.Execution: hosts are found by their driver's name.
func (c *call) Handle() []byte { return nil }

// Wait implements driver.Execution.
func (c *call) Wait(ctx context.Context) (driver.End, error) {
	select {
	case <-c.done:
		return c.end, c.err
	case <-ctx.Done():
		return driver.End{}, ctx.Err()
	}
}

// Stop implements driver.Execution: it ends the host.
func (c *call) Stop(context.Context, bool) error {
	c.host.mu.Lock()
	defer c.host.mu.Unlock()
	if c.host.now == c {
		c.host.kill()
	}
	return nil
}

func (c *call) finish(end driver.End, err error) {
	c.end, c.err = end, err
	close(c.done)
}
