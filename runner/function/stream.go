package function

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// stream is the standard output, or error, of a host. What comes belongs to the one
// call that runs; what comes between calls to none, and is dropped.
type stream struct {
	file *os.File
	raw  syscall.RawConn

	mu  sync.Mutex // held over each piece, from the pipe to the writer
	to  io.Writer  // nil drops
	buf []byte
}

// pieceSize is how much of a host's output is read at once.
const pieceSize = 64 << 10

// newStream makes a pipe. The other end is for the host.
func newStream(to io.Writer) (s *stream, other *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("function: open a pipe: %w", err)
	}
	other = os.NewFile(uintptr(fds[1]), "pipe")
	// Only our end: the flag belongs to each end, and programs expect a blocking one.
	if err := unix.SetNonblock(fds[0], true); err != nil {
		_, _ = unix.Close(fds[0]), other.Close()
		return nil, nil, fmt.Errorf("function: set up a pipe: %w", err)
	}
	s = &stream{file: os.NewFile(uintptr(fds[0]), "pipe"), to: to}
	s.raw, _ = s.file.SyscallConn() // fails for a nil file only
	return s, other, nil
}

// copy hands on what comes, until the pipe ends or is closed.
func (s *stream) copy() {
	_ = s.raw.Read(func(fd uintptr) bool {
		for {
			s.mu.Lock()
			n, err := s.take(int(fd), pieceSize)
			s.mu.Unlock()
			if errors.Is(err, unix.EAGAIN) {
				return false // until there is more
			}
			if n <= 0 {
				return true
			}
		}
	})
}

// take reads once and hands on. mu is held.
func (s *stream) take(fd, most int) (int, error) {
	if s.buf == nil {
		n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
		if err == nil && n == 0 {
			// Nothing, or the end: that needs no room to be told apart.
			var none [1]byte
			return s.read(fd, none[:])
		}
		s.buf = make([]byte, pieceSize)
	}
	return s.read(fd, s.buf[:min(most, len(s.buf))])
}

func (s *stream) read(fd int, buf []byte) (int, error) {
	n, err := unix.Read(fd, buf)
	for err == unix.EINTR {
		n, err = unix.Read(fd, buf)
	}
	if n > 0 && s.to != nil {
		if _, err := s.to.Write(buf[:n]); err != nil {
			s.to = nil // nobody wants the rest
		}
	}
	return n, err
}

// turn hands all that is in the pipe now to whom it belongs, and what comes from now
// on to another.
func (s *stream) turn(to io.Writer) {
	_ = s.raw.Control(func(fd uintptr) {
		s.mu.Lock()
		defer s.mu.Unlock()
		// Not until it is empty: something may go on writing.
		left, err := unix.IoctlGetInt(int(fd), unix.TIOCINQ)
		for err == nil && left > 0 {
			var n int
			if n, err = s.take(int(fd), left); n <= 0 {
				break
			}
			left -= n
		}
		s.to = to
	})
}
