package process

import (
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// For its first milliseconds a process is waited for by a blocking call, and its
// output is kept here, unless it comes to heavy bytes.
const (
	brief = 5 * time.Millisecond
	heavy = 32 << 10
)

// endsSoon waits a little for the main process to end. What it and its kin write
// meanwhile is taken out of the pipes in the order in which they were written to,
// which nobody could tell afterwards.
func (p *Process) endsSoon() bool {
	w := p.watch
	if w == nil {
		return false
	}
	p.watch = nil
	defer w.free()
	if w.add(p.pidfd, endOf) != nil {
		w.leave(p)
		return false
	}
	begun := time.Now()
	for left := brief; left > 0 && earlyBytes(p.early) <= heavy; left = brief - time.Since(begun) {
		if p.takeEarly(w.wait(left)) && p.reap() {
			p.takeEarly(w.wait(0)) // what was written just before
			return true
		}
	}
	w.leave(p)
	return false
}

// takeEarly takes what was written, and tells whether the main process has ended.
func (p *Process) takeEarly(happened []int) (ended bool) {
	for _, which := range happened {
		if which == endOf {
			ended = true
			continue
		}
		p.early = p.out[which].take(which, p.early)
	}
	return ended
}

// piece is something that was written, and to which stream.
type piece struct {
	which int
	bytes []byte
}

func earlyBytes(pieces []piece) (n int) {
	for _, e := range pieces {
		n += len(e.bytes)
	}
	return n
}

// take appends what is in the pipe.
func (s *stream) take(which int, to []piece) []piece {
	n := s.waiting()
	if n == 0 {
		return to
	}
	e := piece{which, make([]byte, n)}
	n, err := unix.Read(s.read, e.bytes)
	for err == unix.EINTR {
		n, err = unix.Read(s.read, e.bytes)
	}
	if n <= 0 || err != nil {
		return to
	}
	e.bytes = e.bytes[:n]
	s.carried += n
	return append(to, e)
}

// watch is an epoll(7) that tells which of a process's two streams was written to
// first, and when it has ended. It serves one process after the other.
type watch struct {
	fd     int
	events [8]unix.EpollEvent
	which  [8]int
	serial int32 // of the process: an event of the one before may still come
}

// endOf is what a watch calls the end of the process, next to its streams 0 and 1.
const endOf = 2

// spare are watches that serve nobody now, and serials numbers whom they serve.
var (
	spare   = make(chan *watch, 64)
	serials atomic.Int32
)

// watchStreams begins to watch what a process is going to write. It is called
// before there is one: of two streams that were written to before, nobody could
// tell which was first.
func (p *Process) watchStreams() error {
	var w *watch
	select {
	case w = <-spare:
	default:
		fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		if err != nil {
			return fmt.Errorf("process: make an epoll: %w", err)
		}
		w = &watch{fd: fd}
	}
	p.watch = w
	w.serial = serials.Add(1)
	for which := range p.out {
		if err := w.add(p.out[which].read, which); err != nil {
			return fmt.Errorf("process: watch a pipe: %w", err)
		}
	}
	return nil
}

// add watches a descriptor; 0 is none. Each change is told once, with the number
// that is given here and the serial.
func (w *watch) add(fd, which int) error {
	if fd <= 0 {
		return nil
	}
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(which), Pad: w.serial}
	return unix.EpollCtl(w.fd, unix.EPOLL_CTL_ADD, fd, &e)
}

// wait waits for at most so long, and returns what happened, in order. It is
// good until the next call.
func (w *watch) wait(d time.Duration) []int {
	n, err := unix.EpollWait(w.fd, w.events[:], int((d+time.Millisecond-1)/time.Millisecond))
	if err != nil {
		return nil
	}
	happened := w.which[:0]
	for _, e := range w.events[:n] {
		if e.Pad == w.serial {
			happened = append(happened, int(e.Fd))
		}
	}
	return happened
}

// leave stops watching a process that goes on. One that has ended is forgotten
// when its files are closed.
func (w *watch) leave(p *Process) {
	for _, fd := range [...]int{p.out[0].read, p.out[1].read, p.pidfd} {
		if fd > 0 {
			_ = unix.EpollCtl(w.fd, unix.EPOLL_CTL_DEL, fd, nil) // it may not be in there
		}
	}
}

// free lets another process have the watch.
func (w *watch) free() {
	select {
	case spare <- w:
	default:
		_ = unix.Close(w.fd)
	}
}
