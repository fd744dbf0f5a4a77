package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/process/cgroup"
)

// newGroup makes the control group that c asks for; nil if it asks for none. A
// limit that cannot be enforced is a *driver.Refusal.
func newGroup(c *Config) (*cgroup.Group, error) {
	if c.Groups == nil {
		if needs := c.Limits.Needs(); len(needs) > 0 {
			return nil, &driver.Refusal{
				Reason:  navvy.ReasonStart,
				Message: fmt.Sprintf("limit %s: there are no control groups to enforce it", needs[0]),
			}
		}
		return nil, nil //nolint:nilnil // no group is what was asked for
	}
	if refusal := dirError(c.Dir); refusal != nil {
		return nil, refusal
	}
	g, err := c.Groups.New(c.Name, &c.Limits, dirOf(c))
	if errors.Is(err, navvy.ErrUnsupported) {
		return nil, &driver.Refusal{Reason: navvy.ReasonStart, Message: err.Error()}
	}
	return g, err
}

func dirOf(c *Config) string {
	if c.Dir == "" {
		return "."
	}
	return c.Dir
}

// empty tells whether nothing is left of the process. mu is held.
func (p *Process) empty() bool {
	if p.init() {
		return p.reaped
	}
	if p.group != nil {
		return p.group.Empty()
	}
	return groupEmpty(p.pid)
}

// stopGroup is Stop for a control group. mu is held.
func (p *Process) stopGroup(force bool) error {
	if force {
		return p.group.Kill()
	}
	return errors.Join(p.group.Signal(unix.SIGTERM), p.group.Signal(unix.SIGCONT))
}

// removeGroup removes the control group, if there is one: it is empty.
func (p *Process) removeGroup() error {
	if p.group == nil {
		return nil
	}
	return p.group.Remove()
}

// settle takes what the group has counted, once it is empty, and removes it.
func (p *Process) settle() {
	if p.group == nil {
		return
	}
	u, own := p.group.Usage(), p.end.Usage
	u.MaxMemory = cmp.Or(u.MaxMemory, own.MaxMemory)
	u.User, u.System = cmp.Or(u.User, own.User), cmp.Or(u.System, own.System)
	u.Read, u.Written = cmp.Or(u.Read, own.Read), cmp.Or(u.Written, own.Written)
	if p.oom {
		u.OOMKills = max(u.OOMKills, 1)
	}
	p.end.Usage = u
	// What can't be removed, because somebody else has entered it, is no reason
	// to lose an answer: the next tree of its name clears it away.
	p.leftErr = p.group.Remove()
}

// watchOOM ends the rest of the group once one of it was killed for want of
// memory. It returns what waits for the end of the watch.
func (p *Process) watchOOM() (stop func()) {
	if p.group == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		oom, _ := p.group.WatchOOM(ctx) // without the watch the kernel's kill of the one has to do
		p.mu.Lock()
		defer p.mu.Unlock()
		p.oom = oom
	}()
	return func() {
		cancel()
		<-done
	}
}

// Meter splits what the process's control group uses among the pieces of work
// that a long-lived process does. It is nil without a control group.
func (p *Process) Meter() *cgroup.Meter {
	if p.group == nil {
		return nil
	}
	return p.group.Meter()
}
