package cgroup

import (
	"fmt"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Fork calls fork so that the process it starts, with attr, is born inside the
// group. What fork does is done by one thread that is inside as well, so it
// should do nothing else. Its error is returned as it is.
func (g *Group) Fork(attr *syscall.SysProcAttr, fork func() error) error {
	if dir := g.unified(); dir != "" {
		fd, err := open(dir, unix.O_DIRECTORY|unix.O_PATH)
		if err != nil {
			return err
		}
		defer unix.Close(fd) //nolint:errcheck // it was only read
		attr.UseCgroupFD, attr.CgroupFD = true, fd
	}
	if !g.hops() {
		return fork()
	}
	result := make(chan error)
	go hop(g.parts, fork, result)
	return <-result
}

// hops tells whether a thread must step into directories of version 1.
func (g *Group) hops() bool {
	for _, p := range g.parts {
		if p.version == 1 {
			return true
		}
	}
	return false
}

// hop steps into the groups of version 1 with a thread, forks and steps back.
func hop(parts []part, fork func() error, result chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The main thread never ends, so a group that it could not leave could
		// not be removed. As long as it is locked, another goroutine has another.
		inner := make(chan error)
		go hop(parts, fork, inner)
		result <- <-inner
		runtime.UnlockOSThread()
		return
	}
	err := step(parts, func(p part) string { return p.dir })
	if err == nil {
		err = fork()
	}
	if back := step(parts, func(p part) string { return p.home }); back == nil {
		runtime.UnlockOSThread()
	} // else the thread ends with this goroutine, and so leaves
	result <- err
}

// step moves this thread, without the rest of the process.
func step(parts []part, dir func(part) string) error {
	for _, p := range parts {
		if p.version != 1 {
			continue
		}
		if err := write(dir(p), "tasks", "0"); err != nil {
			return fmt.Errorf("cgroup: step into %s: %w", dir(p), err)
		}
	}
	return nil
}
