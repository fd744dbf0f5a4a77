package enginetest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// dirPrefix begins the name of each engine's directory, and of its groups. The process runner
// removes empty groups of navvy's, as what others have left: these are not.
const dirPrefix = "enginetest-"

// removePatience bounds the wait for the kernel to let go of what was killed.
const removePatience = time.Minute

// sweep removes what engines have left whose tests were killed. One that lives holds a lock.
func sweep() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
	for _, dir := range dirs {
		lock, err := os.Open(filepath.Join(dir, "lock"))
		if err != nil {
			continue // it is being made
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = removeAll(dir)
		}
		_ = lock.Close()
	}
}

// removeAll removes the directory of an engine whose processes are gone, and its groups.
func removeAll(dir string) error {
	var err error
	for end := time.Now().Add(removePatience); ; <-time.After(50 * time.Millisecond) {
		if err = removeGroups(filepath.Base(dir)); err == nil || time.Now().After(end) {
			break
		}
	}
	return errors.Join(err, os.RemoveAll(dir))
}

// removeGroups removes the control groups of an engine, in all hierarchies.
func removeGroups(name string) error {
	const cgroups = "/sys/fs/cgroup"
	var errs []error
	for _, pattern := range []string{filepath.Join(cgroups, name), filepath.Join(cgroups, "*", name)} {
		roots, _ := filepath.Glob(pattern)
		for _, root := range roots {
			errs = append(errs, removeTree(root))
		}
	}
	return errors.Join(errs...)
}

// removeTree removes a group and those in it.
func removeTree(root string) error {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil // it may go meanwhile
	})
	for _, dir := range slices.Backward(dirs) {
		if e := unix.Rmdir(dir); e != nil && !errors.Is(e, unix.ENOENT) && err == nil {
			err = fmt.Errorf("remove %s: %w", dir, e)
		}
	}
	return err
}
