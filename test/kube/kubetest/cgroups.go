package kubetest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroups is where control groups are.
const cgroups = "/sys/fs/cgroup"

// unified tells whether all controllers are in one hierarchy, of version 2.
func unified() bool {
	var s unix.Statfs_t
	return unix.Statfs(cgroups, &s) == nil && s.Type == unix.CGROUP2_SUPER_MAGIC
}

// hierarchies are the roots of all hierarchies.
func hierarchies() ([]string, error) {
	if unified() {
		return []string{cgroups}, nil
	}
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	var list []string
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 2 && strings.HasPrefix(f[2], "cgroup") && filepath.Dir(f[1]) == cgroups {
			list = append(list, f[1])
		}
	}
	if len(list) == 0 {
		return nil, errors.New("a node wants control groups: there is no hierarchy at " + cgroups)
	}
	return list, nil
}

// makeGroups makes the group of the cluster's pods in all hierarchies.
func makeGroups(name string) error {
	if unified() {
		if err := handOn(); err != nil {
			return err
		}
	}
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	for _, root := range roots {
		group := filepath.Join(root, name)
		if err := os.MkdirAll(group, 0o755); err != nil {
			return fmt.Errorf("a node wants to make control groups: %w", err)
		}
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} { // version 1 begins with none
			if text, err := os.ReadFile(filepath.Join(root, file)); err == nil && len(bytes.TrimSpace(text)) > 0 && !unified() {
				if err := os.WriteFile(filepath.Join(group, file), text, 0o644); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// handOn passes the controllers of a version 2 hierarchy down. In a container its root holds
// processes, and they keep it from that: they step into a group of their own.
func handOn() error {
	const controllers = "+cpu +cpuset +memory +pids"
	hand := func() error {
		return os.WriteFile(filepath.Join(cgroups, "cgroup.subtree_control"), []byte(controllers), 0o644)
	}
	err := hand()
	if !errors.Is(err, unix.EBUSY) {
		return err
	}
	aside := filepath.Join(cgroups, "kubetest-host", "cgroup.procs")
	if err := os.MkdirAll(filepath.Dir(aside), 0o755); err != nil {
		return err
	}
	for range 10 { // they may start others meanwhile
		pids, err := os.ReadFile(filepath.Join(cgroups, "cgroup.procs"))
		if err != nil {
			return err
		}
		for pid := range strings.FieldsSeq(string(pids)) {
			_ = os.WriteFile(aside, []byte(pid), 0o644) // it may have ended, or be the kernel's
		}
		if err := hand(); err == nil {
			return nil
		}
	}
	return errors.New("a node wants the controllers of the version 2 hierarchy, whose root holds processes that cannot be moved")
}

// removeGroups removes the groups of a cluster, when its processes are gone.
func removeGroups(name string) error {
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	for _, root := range roots {
		group := filepath.Join(root, name)
		for end := time.Now().Add(30 * time.Second); ; tick() {
			if err = removeTree(group); err == nil || time.Now().After(end) {
				break
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// removeTree removes a group and those below it.
func removeTree(group string) error {
	var dirs []string
	_ = filepath.WalkDir(group, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	var first error
	for _, dir := range slices.Backward(dirs) {
		if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) && first == nil {
			first = fmt.Errorf("remove %s: %w", dir, err)
		}
	}
	return first
}

// dirPrefix begins the name of each cluster's directory, and of its groups. The process runner
// removes empty groups of navvy's, as what others have left: these are not.
const dirPrefix = "kubetest-"

// sweep removes what clusters have left that were killed with all that could have cleaned up.
// One that lives holds a lock.
func sweep() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
	for _, dir := range dirs {
		lock, err := os.Open(filepath.Join(dir, "lock"))
		if err != nil {
			continue // it is being made
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = removeGroups(cgroupName(dir))
			_ = os.RemoveAll(dir)
		}
		_ = lock.Close()
	}
}
