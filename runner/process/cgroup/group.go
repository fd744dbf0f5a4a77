package cgroup

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/navvy-run/navvy"
)

// Group is one control group: a directory in each hierarchy that it takes part
// in. Its methods may be called at once, but for Remove, which comes last.
type Group struct {
	name  string
	parts []part
	limit int64 // of memory; 0: none
}

// part is a group's directory in one hierarchy.
type part struct {
	*hierarchy
	dir string
}

// New makes a group with the limits; dir is the working directory of what will
// run in it, whose disks are those that limits of I/O are about. The error wraps
// navvy.ErrUnsupported if a limit cannot be enforced here. After an error
// nothing of the group is left.
func (t *Tree) New(name string, l *navvy.Limits, dir string) (*Group, error) {
	if name == "" || name[0] == '.' || strings.ContainsAny(name, "/\n") {
		return nil, fmt.Errorf("cgroup: %q cannot be the name of a group: %w", name, navvy.ErrInvalid)
	}
	if err := t.supports(l); err != nil {
		return nil, err
	}
	var on disks
	if limitsIO(l) {
		var err error
		if on, err = disksOf(dir); err != nil {
			return nil, err
		}
	}
	g := &Group{name: name, limit: l.Memory}
	join := t.joins(l, on)
	for i, h := range t.all {
		if !join[i] {
			continue
		}
		dir, err := h.makeGroup(name)
		if err != nil {
			return nil, errors.Join(err, g.Remove())
		}
		p := part{h, dir}
		g.parts = append(g.parts, p)
		if err := p.set(settings(h.version, l, on)); err != nil {
			return nil, errors.Join(fmt.Errorf("cgroup: %w", err), g.Remove())
		}
	}
	if len(g.parts) == 0 {
		return nil, fmt.Errorf("cgroup: no groups can be made here: %s: %w", t.Lacks(), navvy.ErrUnsupported)
	}
	return g, nil
}

// supports refuses limits that nothing enforces here.
func (t *Tree) supports(l *navvy.Limits) error {
	for _, a := range l.Needs() {
		if !slices.Contains(t.enforce, a) {
			return fmt.Errorf("cgroup: limit %s cannot be enforced on this host: %s: %w", a, t.Lacks(), navvy.ErrUnsupported)
		}
	}
	return nil
}

// measured are the controllers of version 1 that a group takes part in though it
// has no limit there, for what they count, and pids to end it.
var measured = []string{"cpuacct", "memory", "pids"}

// joins tells in which hierarchies a group with the limits takes part. Those of
// version 1 cost a fifth of a millisecond each, so that without a limit there
// the group is in version 2 alone, if there is one.
func (t *Tree) joins(l *navvy.Limits, on disks) []bool {
	join := make([]bool, len(t.all))
	old := t.unified() == nil
	for i, h := range t.all {
		join[i] = h.version == 2 || slices.ContainsFunc(settings(1, l, on), func(s setting) bool { return h.serves(s.controller) })
		old = old || join[i] && h.version == 1
	}
	for i, h := range t.all {
		join[i] = join[i] || old && slices.ContainsFunc(measured, h.serves)
	}
	return join
}

func (p part) set(list []setting) error {
	for _, s := range list {
		if !p.serves(s.controller) {
			continue
		}
		if err := s.set(p.dir); err != nil {
			return fmt.Errorf("limit %s: %w", s.ability, err)
		}
	}
	return nil
}

// group is a handle on a group of the tree that may be there.
func (t *Tree) group(name string) *Group {
	g := &Group{name: name}
	for _, h := range t.all {
		if dir := filepath.Join(h.place, name); exists(dir) {
			g.parts = append(g.parts, part{h, dir})
		}
	}
	return g
}

// Find returns a group of this tree that is there. The error wraps
// navvy.ErrNotFound if there is none of that name.
func (t *Tree) Find(name string) (*Group, error) {
	g := t.group(name)
	if len(g.parts) == 0 {
		return nil, fmt.Errorf("cgroup: group %s: %w", name, navvy.ErrNotFound)
	}
	return g, nil
}

// Name is the group's name in its tree.
func (g *Group) Name() string { return g.name }

// unified is the group's directory in version 2; empty if it has none.
func (g *Group) unified() string {
	for _, p := range g.parts {
		if p.version == 2 {
			return p.dir
		}
	}
	return ""
}

// with returns the group's directory that has the controller; empty if none does.
func (g *Group) with(controller string) (dir string, version int) {
	for _, p := range g.parts {
		if p.serves(controller) {
			return p.dir, p.version
		}
	}
	return "", 0
}
