package process

import (
	"context"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pidfd holds on to one process, so that its id cannot change hands unnoticed,
// and lets goroutines wait for its end in Go's poller.
type pidfd struct {
	pid, fd int
	file    *os.File
	raw     syscall.RawConn
}

// newPidfd takes over a descriptor that pidfd_open or clone returned.
func newPidfd(pid, fd int) *pidfd {
	_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFL, unix.O_NONBLOCK)
	f := &pidfd{pid: pid, fd: fd, file: os.NewFile(uintptr(fd), "pidfd")}
	f.raw, _ = f.file.SyscallConn() // fails for a nil file only
	return f
}

// openPidfds takes hold of those of the processes that have not ended.
func openPidfds(pids []int) []*pidfd {
	var held []*pidfd
	for _, pid := range pids {
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			held = append(held, newPidfd(pid, fd))
		}
	}
	return held
}

func (f *pidfd) close() { _ = f.file.Close() }

func closeAll(held []*pidfd) {
	for _, f := range held {
		f.close()
	}
}

// waitAll waits until all the processes have ended, and lets go of them.
func waitAll(ctx context.Context, held []*pidfd) error {
	defer closeAll(held)
	for _, f := range held {
		if err := f.wait(ctx, f.ended); err != nil {
			return err
		}
	}
	return nil
}

// wait blocks until done says so, which it is asked now and when the process
// ends. It returns the error of ctx if that ends first.
func (f *pidfd) wait(ctx context.Context, done func() bool) error {
	stop := context.AfterFunc(ctx, func() { _ = f.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err := f.raw.Read(func(uintptr) bool { return done() })
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// ended tells whether the process has ended.
func (f *pidfd) ended() bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(f.fd), Events: unix.POLLIN}}, 0)
	return n == 1 && err == nil
}

// openMembers takes hold of those of the processes that are in the group. An id
// may have changed hands before; from here on it cannot.
func openMembers(group int, pids []int) []*pidfd {
	var members []*pidfd
	for _, f := range openPidfds(pids) {
		if s, err := readStat(f.pid); err != nil || s.group != group || s.ended() {
			f.close()
			continue
		}
		members = append(members, f)
	}
	return members
}
