package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
)

// newHierarchy makes our directory in a hierarchy, and the controllers of
// version 2 available below it. Which other trees live is found out once for all hierarchies.
func newHierarchy(m mount, in map[string]string, o *Options, alive map[string]bool) (*hierarchy, error) {
	h := &hierarchy{mount: m, home: m.place(in)}
	parent, err := m.parent(in, o.Parent)
	if err != nil {
		return nil, err
	}
	h.place = filepath.Join(parent, o.Name)
	h.sweep(parent, alive)
	h.usable, err = h.makePlace()
	if err != nil {
		_ = unix.Rmdir(h.place)
		return nil, err
	}
	return h, nil
}

// Others remove our directory while we make it.
const (
	makeTries  = 5                // of a group in it
	placeTries = 60               // of the directory itself, which is a second in all
	placePause = time.Millisecond // between those, at first
	placeWait  = 20 * time.Millisecond
)

// makePlace makes our directory, and returns the controllers that groups in it can have.
func (h *hierarchy) makePlace() (usable []string, err error) {
	h.making.Lock()
	defer h.making.Unlock()
	parent := filepath.Dir(h.place)
	pause := placePause
	for range placeTries {
		if err = makeDir(h.place); err != nil {
			return nil, denied(parent, err)
		}
		if err = h.hold(); err == nil {
			usable, err = h.enable(parent)
		}
		if !gone(err) && !errors.Is(err, unix.EWOULDBLOCK) {
			break
		}
		time.Sleep(pause) //nolint:forbidigo // for the turn of another process on a processor, which nothing tells of
		pause = min(2*pause, placeWait)
	}
	return usable, err
}

// hold locks our directory for as long as this process lives. The error wraps
// EWOULDBLOCK if somebody is about to remove it.
func (h *hierarchy) hold() error {
	dir, err := lock(h.place, unix.LOCK_SH)
	if err != nil {
		return err
	}
	_ = h.held.Close() // which may be nil, or of a directory that somebody has removed
	h.held = dir
	return nil
}

func lock(path string, how int) (*os.File, error) {
	dir, err := os.OpenFile(path, unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(dir.Fd()), how|unix.LOCK_NB); err != nil {
		_ = dir.Close()
		return nil, &fs.PathError{Op: "flock", Path: path, Err: err}
	}
	return dir, nil
}

// sweep removes the empty places of trees whose process was killed, and whose
// name nobody has come back to: those beside ours with the same first words. A
// living tree holds its own, in each hierarchy: one that was found in another one, by its
// name, is not asked again, for on a host with many each asks all.
func (h *hierarchy) sweep(parent string, alive map[string]bool) {
	family := h.place[:strings.LastIndex(h.place, "-")+1]
	entries, _ := os.ReadDir(parent)
	for _, e := range entries {
		path := filepath.Join(parent, e.Name())
		if family == "" || !strings.HasPrefix(path, family) || alive[e.Name()] {
			continue
		}
		dir, err := lock(path, unix.LOCK_EX)
		switch {
		case err == nil:
			_ = unix.Rmdir(path) // which the kernel refuses if there is anything in it
			_ = dir.Close()
		case errors.Is(err, unix.EWOULDBLOCK):
			alive[e.Name()] = true
		}
	}
}

// makeGroup makes a directory in our own.
func (h *hierarchy) makeGroup(name string) (dir string, err error) {
	dir = filepath.Join(h.place, name)
	for range makeTries {
		h.making.RLock()
		err = unix.Mkdir(dir, 0o755)
		h.making.RUnlock()
		if err != unix.ENOENT {
			break
		}
		if _, err := h.makePlace(); err != nil {
			return "", err
		}
	}
	if err != nil {
		return "", fmt.Errorf("cgroup: make %s: %w", dir, err)
	}
	return dir, nil
}

// parent is the directory under which ours is made.
func (m mount) parent(in map[string]string, wanted string) (string, error) {
	if wanted != "" {
		dir := filepath.Join(m.point, wanted)
		if !exists(dir) {
			return "", fmt.Errorf("control group %s: does not exist, and navvy is told to work below it: %w", dir, navvy.ErrNotFound)
		}
		return dir, nil
	}
	own := m.place(in)
	if filepath.Base(own) == asideName {
		own = filepath.Dir(own) // from which this process, or the one that started it, has stepped aside
	}
	if m.version == 1 || own == m.point || delegated(own) || os.Geteuid() != 0 {
		return own, nil
	}
	// Root in a group that somebody else manages, a login session as a rule.
	return m.point, nil
}

// delegated tells whether the group was given to us to manage, as systemd marks it.
func delegated(dir string) bool {
	var value [8]byte
	for _, attr := range []string{"trusted.delegate", "user.delegate"} {
		if n, err := unix.Getxattr(dir, attr, value[:]); err == nil && string(value[:n]) == "1" {
			return true
		}
	}
	return false
}

// controllersV2 are those controllers of version 2 that we use.
var controllersV2 = []string{"cpu", "memory", "pids", "io"}

// enable hands the controllers of parent down to our directory and to the groups
// in it, and returns those that are there.
func (h *hierarchy) enable(parent string) ([]string, error) {
	if h.version == 1 {
		return h.controllers, nil
	}
	raw, err := read(parent, "cgroup.controllers")
	if err != nil {
		return nil, denied(parent, err)
	}
	var usable []string
	for _, c := range controllersV2 {
		if has(raw, c) {
			usable = append(usable, c)
		}
	}
	for _, dir := range []string{parent, h.place} {
		if err := h.handDown(dir, usable); err != nil {
			return nil, denied(parent, err)
		}
	}
	return usable, nil
}

// handDown makes controllers available below a group.
func (h *hierarchy) handDown(dir string, controllers []string) error {
	raw, err := read(dir, "cgroup.subtree_control")
	if err != nil {
		return err
	}
	missing := slices.DeleteFunc(slices.Clone(controllers), func(c string) bool { return has(raw, c) })
	if len(missing) == 0 {
		return nil
	}
	// A group with processes of its own hands down no controllers, but for the top
	// of the hierarchy. The kernel does not refuse all of them: cpu and pids would
	// make it one of threads, and useless.
	if exists(filepath.Join(dir, "cgroup.type")) {
		if err := h.stepAside(dir); err != nil {
			return err
		}
	}
	for _, c := range missing {
		if err := write(dir, "cgroup.subtree_control", "+"+c); err != nil {
			return err
		}
	}
	return nil
}

// has tells whether a list of controllers names one.
func has(list []byte, controller string) bool {
	return slices.ContainsFunc(bytes.Fields(list), func(f []byte) bool { return string(f) == controller })
}

// asideName is the group that this process steps into, beside the tree.
const asideName = "navvy-self"

// stepAside moves this program's processes out of the group that is to hold the
// tree, into one beside it. Others are not ours to move.
func (h *hierarchy) stepAside(parent string) error {
	pids, err := pidsOf(parent)
	if err != nil || len(pids) == 0 {
		return err
	}
	own, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if exe, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe"); err == nil && exe != own {
			return fmt.Errorf("other programs run in it (process %d, %s): %w", pid, exe, errShared)
		}
	}
	aside := filepath.Join(parent, asideName)
	if err := makeDir(aside); err != nil {
		return err
	}
	for _, pid := range pids {
		if err := write(aside, "cgroup.procs", strconv.Itoa(pid)); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

var errShared = errors.New("the group is not navvy's alone")

// denied says what keeps navvy from working below a group, and what would mend it.
func denied(dir string, err error) error {
	const how = "systemd-run --user --scope -p Delegate=yes navvy …"
	switch {
	case errors.Is(err, errShared):
		return fmt.Errorf("control group %s: %w; start navvy in a group of its own: %s", dir, err, how)
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("control group %s: is mounted read-only, as in most containers: %w", dir, navvy.ErrDenied)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("control group %s: belongs to another user; start navvy in a delegated one: %s: %w", dir, how, navvy.ErrDenied)
	}
	return fmt.Errorf("control group %s: %w", dir, err)
}

// makeDir makes a group that may be there already.
func makeDir(dir string) error {
	err := unix.Mkdir(dir, 0o755)
	if err != nil && err != unix.EEXIST {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	return nil
}
