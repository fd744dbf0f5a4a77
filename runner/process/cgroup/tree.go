package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
)

// Options configure Open.
type Options struct {
	// Name is that of the directory which holds this tree's groups. One tree on
	// the host may have it at a time, which the caller sees to. Up to its last "-"
	// it is the name of a family, whose empty directories are swept away. Required.
	Name string
	// Parent is the group below which the tree is made, from the top of each
	// hierarchy, as /batch; it must exist. Defaults to this process's own group
	// if it was delegated, which as root may also be the top of the hierarchy.
	Parent string
}

// Tree is where groups are made. Its methods may be called at once.
type Tree struct {
	name    string
	all     []*hierarchy
	enforce []navvy.Ability
	lacks   []string
}

// hierarchy is this tree's part of one mounted hierarchy.
type hierarchy struct {
	mount
	home   string   // the directory that this process is in
	place  string   // our own directory, which holds the groups
	usable []string // controllers that work in the groups

	making sync.RWMutex // held for writing while place is made, so that no group gets in before its controllers
	held   *os.File     // place, locked, by which others see that this tree lives
}

// Open finds out what control groups this process may make, by making some, and
// ends and removes what an earlier process with the same name has left. It does
// not fail where control groups can't be had: the tree then enforces nothing, and
// Lacks says why.
func Open(o *Options) *Tree {
	t := &Tree{name: o.Name}
	list, err := mounts()
	if err != nil {
		t.lack(err.Error())
		return t
	}
	if len(list) == 0 {
		t.lack("no control groups are mounted on this host (mount -t cgroup2 none /sys/fs/cgroup)")
		return t
	}
	in, err := places("self")
	if err != nil {
		t.lack(err.Error())
		return t
	}
	var refused error
	alive := map[string]bool{}
	for _, m := range list {
		h, err := newHierarchy(m, in, o, alive)
		if err != nil {
			if refused == nil { // the others are refused for the same reason
				refused = err
			}
			continue
		}
		t.all = append(t.all, h)
	}
	if refused != nil {
		t.lack(refused.Error())
	}
	t.clear()
	t.find()
	return t
}

func (t *Tree) lack(why string) {
	if !slices.Contains(t.lacks, why) {
		t.lacks = append(t.lacks, why)
	}
}

// clearFor bounds how long what an earlier process left may take to end.
const clearFor = 30 * time.Second

// clear ends and removes the groups of an earlier tree of this name.
func (t *Tree) clear() {
	ctx, cancel := context.WithTimeout(context.Background(), clearFor)
	defer cancel()
	names := make(map[string]bool)
	for _, h := range t.all {
		entries, _ := os.ReadDir(h.place)
		for _, e := range entries {
			if e.IsDir() {
				names[e.Name()] = true
			}
		}
	}
	for name := range names {
		g := t.group(name)
		if err := g.End(ctx); err != nil {
			t.lack(err.Error())
		}
	}
}

// Enforces lists what the groups of this tree can enforce.
func (t *Tree) Enforces() []navvy.Ability { return t.enforce }

// Lacks says why Enforces is not all there is; empty if it is.
func (t *Tree) Lacks() string { return strings.Join(t.lacks, "; ") }

// Version is "v2", "v1", "hybrid" or "none": what the groups are made of.
func (t *Tree) Version() string {
	v1 := slices.ContainsFunc(t.all, func(h *hierarchy) bool { return h.version == 1 })
	switch v2 := t.unified() != nil; {
	case v1 && v2:
		return "hybrid"
	case v1:
		return "v1"
	case v2:
		return "v2"
	}
	return "none"
}

// unified is the hierarchy of version 2; nil if there is none.
func (t *Tree) unified() *hierarchy {
	i := slices.IndexFunc(t.all, func(h *hierarchy) bool { return h.version == 2 })
	if i < 0 {
		return nil
	}
	return t.all[i]
}

// Close removes the tree's own directories. Groups must have been removed.
func (t *Tree) Close() error {
	var errs []error
	for _, h := range t.all {
		if err := unix.Rmdir(h.place); err != nil && !gone(err) {
			errs = append(errs, fmt.Errorf("cgroup: remove %s: %w", h.place, err))
		}
		_ = h.held.Close() // which may be nil
	}
	return errors.Join(errs...)
}

// probes are limits that set every file once, with a value that bounds little.
var probes = navvy.Limits{CPUs: 1000, CPUShares: navvy.DefaultCPUShares, Memory: 1 << 40, PIDs: 1 << 15}

// find makes a group and gives it every limit that there is.
func (t *Tree) find() {
	for _, h := range t.all {
		dir, err := h.makeGroup("probe")
		if err != nil {
			t.lack(denied(h.place, err).Error())
			continue
		}
		failed := map[navvy.Ability]bool{}
		works := map[navvy.Ability]bool{}
		for _, s := range append(settings(h.version, &probes, nil), probesIO(h.version)...) {
			if !slices.Contains(h.usable, s.controller) {
				continue
			}
			if err := s.try(dir); err != nil {
				failed[s.ability] = true
				t.lack(err.Error())
			} else {
				works[s.ability] = true
			}
		}
		for a := range works {
			if !failed[a] && !slices.Contains(t.enforce, a) {
				t.enforce = append(t.enforce, a)
			}
		}
		_ = unix.Rmdir(dir)
	}
	slices.Sort(t.enforce)
	t.sayMissing()
}

// probesIO only look whether the files are there: which disks there are is not known yet.
func probesIO(version int) []setting {
	l := navvy.Limits{ReadBPS: 1, WriteBPS: 1, ReadIOPS: 1, WriteIOPS: 1}
	list := settings(version, &l, disks{""})
	for i := range list {
		list[i].value = ""
	}
	return list
}

// try sets the value; an empty one only opens the file.
func (s *setting) try(dir string) error {
	if s.value != "" {
		return s.set(dir)
	}
	fd, err := open(filepath.Join(dir, s.file), unix.O_WRONLY)
	if err == nil {
		_ = unix.Close(fd)
	}
	return err
}

func (s *setting) set(dir string) error {
	err := write(dir, s.file, s.value)
	if s.optional && gone(err) {
		return nil
	}
	return err
}

// sayMissing names the controllers whose limits nobody enforces.
func (t *Tree) sayMissing() {
	var missing []string
	for _, a := range []navvy.Ability{navvy.AbilityCPUs, navvy.AbilityMemory, navvy.AbilityPIDs, navvy.AbilityWriteBPS} {
		if !slices.Contains(t.enforce, a) {
			missing = append(missing, string(a))
		}
	}
	if len(missing) > 0 && len(t.all) > 0 {
		t.lack("no controller for " + strings.Join(missing, ", ") + " is available to " + t.all[len(t.all)-1].place)
	}
}

// serves tells whether the hierarchy has the controller, ready for use.
func (h *hierarchy) serves(controller string) bool { return slices.Contains(h.usable, controller) }
