package cgroup

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// WatchOOM kills the whole group once the kernel has killed one of it for want of
// memory, until ctx ends. It returns true if that has happened. Version 2 does
// so by itself, there it returns at once.
func (g *Group) WatchOOM(ctx context.Context) (bool, error) {
	dir, version := g.with("memory")
	if g.limit == 0 || version != 1 {
		return false, nil
	}
	event, err := oomEvent(dir)
	if err != nil {
		return false, err
	}
	defer event.Close() //nolint:errcheck // it was only read
	// What was before the watch began made no event.
	if g.Usage().OOMKills == 0 {
		stop := context.AfterFunc(ctx, func() { _ = event.SetReadDeadline(time.Unix(1, 0)) })
		defer stop()
		var count [8]byte
		if _, err := event.Read(count[:]); err != nil {
			if ctx.Err() != nil {
				return false, nil
			}
			return false, fmt.Errorf("cgroup: watch %s: %w", dir, err)
		}
		if !exists(dir) {
			return false, nil // the end of the group is an event too
		}
	}
	return true, g.Kill()
}

// oomEvent opens a file that can be read once the group has run out of memory
// (cgroup-v1/memory.rst, "OOM Control").
func oomEvent(dir string) (*os.File, error) {
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("cgroup: make an eventfd: %w", err)
	}
	file := os.NewFile(uintptr(event), "eventfd")
	control, err := open(filepath.Join(dir, "memory.oom_control"), unix.O_RDONLY)
	if err == nil {
		err = write(dir, "cgroup.event_control", fmt.Sprintf("%d %d", event, control))
		_ = unix.Close(control)
	}
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("cgroup: watch %s: %w", dir, err)
	}
	return file, nil
}
