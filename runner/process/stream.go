package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A pipe that has carried growAfter bytes is made growTo bytes large: fewer
// switches between the writing process and us. Short tasks don't pay for it.
const (
	growAfter = 256 << 10
	growTo    = 1 << 20
)

// stream is one output of a process: the pipe that it writes to, and where it goes.
type stream struct {
	to          io.Writer // nil if the output is dropped and there is no pipe
	read, write int       // file descriptors; 0 if there is none
	file        *os.File  // read, once Go's poller has it
	carried     int
	refused     bool // nobody wants the rest
	left        int  // once the group is gone: how much of the pipe is still read, plus 1
}

// open makes the pipe and returns the descriptor that the process writes to.
func (s *stream) open(to io.Writer) (uintptr, error) {
	if to == nil {
		null, err := devNull()
		return uintptr(null), err
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return 0, fmt.Errorf("process: open a pipe: %w", err)
	}
	s.to, s.read, s.write = to, fds[0], fds[1]
	// Only our end: the flag belongs to each end, and programs expect a blocking one.
	if _, err := unix.FcntlInt(uintptr(s.read), unix.F_SETFL, unix.O_NONBLOCK); err != nil {
		return 0, fmt.Errorf("process: set up a pipe: %w", err)
	}
	return uintptr(s.write), nil
}

// same tells whether two writers are one. Those that cannot be compared are not.
func same(a, b io.Writer) bool {
	return a != nil && reflect.ValueOf(a).Comparable() && a == b
}

func (s *stream) closeWrite() {
	if s.write > 0 {
		_ = unix.Close(s.write)
		s.write = 0
	}
}

func (s *stream) close() {
	s.closeWrite()
	switch {
	case s.file != nil:
		_ = s.file.Close()
	case s.read > 0:
		_ = unix.Close(s.read)
	}
	s.read = 0
}

// waiting is how many bytes lie in the pipe.
func (s *stream) waiting() int {
	if s.read == 0 {
		return 0
	}
	n, err := unix.IoctlGetInt(s.read, unix.TIOCINQ)
	if err != nil {
		return 0
	}
	return n
}

// poll hands the pipe to Go's poller, so that Read can wait in it.
func (s *stream) poll() {
	if s.read > 0 {
		s.file = os.NewFile(uintptr(s.read), "pipe")
	}
}

// copy hands on what comes until the pipe ends. It returns no error: if nobody
// wants the output any more, the rest is read and dropped, so that the process
// does not hang on a full pipe.
func (s *stream) copy() {
	if !s.refused {
		_, err := io.Copy(s.to, s)
		s.refused = err != nil
	}
	if s.refused {
		_, _ = io.Copy(io.Discard, s)
	}
	s.close()
}

// give hands on what was read before.
func (s *stream) give(b []byte) {
	if !s.refused {
		_, err := s.to.Write(b)
		s.refused = err != nil
	}
}

// Read reads from the pipe. Once drain was called it takes what is in there and
// then ends, whoever else may still hold the other end.
func (s *stream) Read(p []byte) (int, error) {
	if s.left > 0 || s.file == nil {
		return s.readRest(p)
	}
	n, err := s.file.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return s.readRest(p)
	}
	if s.carried += n; s.carried >= growAfter && s.carried-n < growAfter {
		// Fails where the user's share of pipe memory is used up; it works without, too.
		_, _ = unix.FcntlInt(uintptr(s.read), unix.F_SETPIPE_SZ, growTo)
	}
	return n, err
}

func (s *stream) readRest(p []byte) (int, error) {
	if s.left == 0 {
		s.left = s.waiting() + 1
	}
	if s.left == 1 {
		return 0, io.EOF
	}
	n, err := unix.Read(s.read, p[:min(len(p), s.left-1)])
	for err == unix.EINTR {
		n, err = unix.Read(s.read, p[:min(len(p), s.left-1)])
	}
	if n <= 0 || err != nil {
		return 0, io.EOF
	}
	s.left -= n
	return n, nil
}

// drain makes a Read that is waiting, and each later one, take only what is in the pipe now.
func (s *stream) drain() {
	if s.file != nil {
		_ = s.file.SetReadDeadline(time.Unix(1, 0))
	}
}

// devNull is open for reading and writing as long as this process lives.
var devNull = sync.OnceValues(func() (int, error) {
	fd, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("process: open %s: %w", os.DevNull, err)
	}
	return fd, nil
})

// openInput returns what the process reads from. A file in memory holds c.Input:
// unlike a pipe it needs nobody to write to it while the process reads.
func openInput(c *Config) (int, error) {
	switch {
	case c.Stdin != nil:
		return int(c.Stdin.Fd()), nil
	case c.Input == nil:
		return devNull()
	}
	fd, err := unix.MemfdCreate("navvy-input", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("process: make a file for the input: %w", err)
	}
	for off := 0; off < len(c.Input); {
		n, err := unix.Pwrite(fd, c.Input[off:], int64(off))
		if err != nil && err != unix.EINTR {
			_ = unix.Close(fd)
			return -1, fmt.Errorf("process: write the input: %w", err)
		}
		off += max(n, 0)
	}
	return fd, nil
}

func closeInput(c *Config, fd int) {
	if c.Stdin == nil && c.Input != nil {
		_ = unix.Close(fd)
	}
}
