package cgroup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
)

// Kill kills all processes in the group and below it, also those that are just
// being born. It does not wait for their end, but lifts what would make them wait
// for it.
func (g *Group) Kill() error {
	for _, p := range g.parts {
		p.lift()
	}
	if dir := g.unified(); dir != "" {
		err := write(dir, "cgroup.kill", "1")
		if err == nil || !gone(err) {
			return err
		}
		if !exists(dir) {
			return nil
		}
		// Before Linux 5.14 there is no such file.
	}
	if dir, _ := g.with("pids"); dir != "" {
		// Who can't multiply can be killed one by one. A limit below what is there is allowed.
		_ = write(dir, "pids.max", "0")
	}
	// Who was being born at the first pass is there at the second.
	return errors.Join(g.Signal(unix.SIGKILL), g.Signal(unix.SIGKILL))
}

// lift ends the throttling of processors and disks, in which a process that is
// killed has to wait its turn to die: a writer of megabytes at kilobytes a second
// for minutes. What can't be lifted makes the end slower, no less sure.
func (p part) lift() {
	if p.serves("cpu") {
		if p.version == 2 {
			_ = write(p.dir, "cpu.max", "max")
		} else {
			_ = write(p.dir, "cpu.cfs_quota_us", "-1")
		}
	}
	if p.serves("io") {
		raw, _ := read(p.dir, "io.max")
		for _, disk := range disksIn(raw) {
			_ = write(p.dir, "io.max", disk+" rbps=max wbps=max riops=max wiops=max")
		}
	}
	if p.serves("blkio") {
		every := navvy.Limits{ReadBPS: 1, WriteBPS: 1, ReadIOPS: 1, WriteIOPS: 1}
		for _, s := range ioV1(&every, disks{""}) {
			raw, _ := read(p.dir, s.file)
			for _, disk := range disksIn(raw) {
				_ = write(p.dir, s.file, disk+" 0")
			}
		}
	}
}

// disksIn lists the disks that lines "8:0 …" begin with.
func disksIn(raw []byte) (list disks) {
	for line := range bytes.Lines(raw) {
		if disk, _, ok := bytes.Cut(line, []byte(" ")); ok && bytes.Contains(disk, []byte(":")) {
			list = append(list, string(disk))
		}
	}
	return list
}

// Signal sends a signal to all processes in the group.
func (g *Group) Signal(sig unix.Signal) error {
	held := make(map[int]int) // process to pidfd
	for _, pid := range g.members() {
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			held[pid] = fd
		}
	}
	var errs []error
	// An id may have changed hands before it was held. Who is in the group now is
	// who is held.
	for _, pid := range g.members() {
		fd, ok := held[pid]
		if !ok {
			continue
		}
		if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && err != unix.ESRCH {
			errs = append(errs, fmt.Errorf("cgroup: signal %d: %w", pid, err))
		}
	}
	for _, fd := range held {
		_ = unix.Close(fd)
	}
	return errors.Join(errs...)
}

// members lists the processes in the group and below it. Each part holds the
// same ones, but for what a task with the right to do so has moved.
func (g *Group) members() []int {
	seen := make(map[int]bool)
	var all []int
	for _, p := range g.parts {
		for _, dir := range below(p.dir) {
			pids, _ := pidsOf(dir)
			for _, pid := range pids {
				if !seen[pid] && pid != os.Getpid() {
					seen[pid] = true
					all = append(all, pid)
				}
			}
		}
	}
	return all
}

// Empty tells whether no process is in the group or below it.
func (g *Group) Empty() bool {
	if dir := g.unified(); dir != "" {
		raw, err := read(dir, "cgroup.events")
		if err != nil {
			return gone(err)
		}
		n, ok := field(raw, "populated")
		return ok && n == 0
	}
	return len(g.members()) == 0
}

// AwaitEmpty returns when the group is empty. When ctx ends it returns its error.
func (g *Group) AwaitEmpty(ctx context.Context) error {
	if g.Empty() {
		return nil
	}
	if dir := g.unified(); dir != "" {
		return awaitEvent(ctx, filepath.Join(dir, "cgroup.events"), g.Empty)
	}
	for !g.Empty() {
		if err := g.awaitOne(ctx); err != nil {
			return err
		}
	}
	return nil
}

// awaitEvent waits until done says so, which it is asked whenever the file has
// changed: the kernel reports that as an exceptional condition, which wakes a reader too.
func awaitEvent(ctx context.Context, path string, done func() bool) error {
	fd, err := open(path, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	return awaitFD(ctx, fd, func(uintptr) bool { return done() })
}

// awaitFD waits until done says so, which it is asked now and whenever the
// descriptor can be read. It closes the descriptor, which does not block.
func awaitFD(ctx context.Context, fd int, done func(fd uintptr) bool) error {
	file := os.NewFile(uintptr(fd), "event")
	defer file.Close() //nolint:errcheck // it was only read
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err = raw.Read(done)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// relook is how long a member of a group is waited for before the others are
// looked at again: version 1 tells nobody when a group has become empty.
const relook = time.Second

// awaitOne waits for the end of the first process of the group, or for a while.
func (g *Group) awaitOne(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, relook)
	defer cancel()
	for _, pid := range g.members() {
		fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
		if err != nil {
			continue // it has just ended
		}
		_ = awaitFD(bounded, fd, ended)
		break
	}
	return context.Cause(ctx)
}

// ended tells whether the process of a pidfd has ended.
func ended(fd uintptr) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return n == 1 && err == nil
}

// End kills what is in the group, waits until nothing is, and removes it.
func (g *Group) End(ctx context.Context) error {
	for !g.Empty() {
		if err := g.Kill(); err != nil {
			return err
		}
		// Without cgroup.kill somebody may have been born meanwhile.
		bounded, cancel := context.WithTimeout(ctx, relook)
		err := g.AwaitEmpty(bounded)
		cancel()
		if err != nil && ctx.Err() != nil {
			return fmt.Errorf("cgroup: group %s does not become empty: %w", g.name, context.Cause(ctx))
		}
	}
	return g.Remove()
}

// removeTries and removePause bound the time in which the kernel lets go of a
// group whose last process has just ended.
const (
	removeTries = 50
	removePause = 2 * time.Millisecond
)

// Remove removes the group, which is empty, and any that were made below it. It
// is no error if it is gone.
func (g *Group) Remove() error {
	var errs []error
	for _, p := range g.parts {
		if err := remove(p.dir); err != nil {
			errs = append(errs, fmt.Errorf("cgroup: remove %s: %w", p.dir, err))
		}
	}
	return errors.Join(errs...)
}

func remove(dir string) error {
	err := unix.Rmdir(dir)
	for range removeTries {
		if err == nil || err == unix.ENOENT {
			return nil
		}
		for _, d := range below(dir) {
			err = unix.Rmdir(d)
		}
		if err == unix.EBUSY {
			time.Sleep(removePause) //nolint:forbidigo // the kernel tells nobody
		}
	}
	if err == unix.ENOENT {
		return nil
	}
	return err
}
