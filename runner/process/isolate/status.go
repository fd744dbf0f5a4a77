package isolate

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/process/boot"
)

// Status is the pipe through which one attempt tells how it fares. It is for one
// goroutine at a time.
type Status struct {
	plan        *Plan
	read, write int
	waiting     []byte // was read and not yet looked at
}

// Status makes the pipe of an attempt.
func (p *Plan) Status() (*Status, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("isolate: a status pipe: %w", err)
	}
	return &Status{plan: p, read: fds[0], write: fds[1]}, nil
}

// Files are the descriptors that the process is given from StatusFD on.
func (s *Status) Files() []uintptr { return []uintptr{uintptr(s.write), s.plan.image.File()} }

// ExecError says that the program could not be executed, for the kernel's reason.
type ExecError struct{ Errno unix.Errno }

// Error names the reason.
func (e *ExecError) Error() string { return "isolate: execute the program: " + e.Errno.Error() }

// Unwrap is the reason.
func (e *ExecError) Unwrap() error { return e.Errno }

// CallError says which part of the set-up failed, for the kernel's reason.
type CallError struct {
	Call  string
	Errno unix.Errno
}

// Error names both.
func (e *CallError) Error() string { return "isolate: " + e.Call + ": " + e.Errno.Error() }

// Unwrap is the reason.
func (e *CallError) Unwrap() error { return e.Errno }

// Started closes this process's copy of the pipe's end, once the attempt has its
// own, and waits until the program is being executed, which takes as long as the
// set-up. If it will never be, the process is about to end, or has, and the
// error is an *ExecError, a *driver.Refusal if the box asks for what cannot be,
// or a *CallError.
func (s *Status) Started() error {
	s.closeWrite()
	r, err := s.next()
	switch {
	case err != nil:
		return err
	case r.Kind == boot.Started:
		return nil
	case r.Kind != 0:
		return refusal(r)
	case s.plan.init:
		return fmt.Errorf("isolate: the process was killed before it had started: %w", navvy.ErrUnavailable)
	default: // the pipe was closed by the execution of the program
		return nil
	}
}

// Exit is how the main process ended, known is false if nobody knows since the
// init was killed before. It is called once the process that was started has
// been waited for, and does not block. Without an init (Plan.Init) the process
// is the main process itself, and nothing is known here.
func (s *Status) Exit() (status unix.WaitStatus, known bool, err error) {
	s.closeWrite()
	if err := unix.SetNonblock(s.read, true); err != nil {
		return 0, false, fmt.Errorf("isolate: status pipe: %w", err)
	}
	for {
		switch r, err := s.next(); {
		case err != nil:
			return 0, false, err
		case r.Kind == boot.Ended:
			return r.Status, true, nil
		case r.Kind == 0:
			return 0, false, nil
		case r.Kind != boot.Started:
			return 0, false, refusal(r)
		}
	}
}

// next is the next report, none if there is none.
func (s *Status) next() (boot.Report, error) {
	for len(s.waiting) < boot.ReportSize {
		buf := make([]byte, 4*boot.ReportSize)
		n, err := unix.Read(s.read, buf)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN || err == nil && n == 0:
			return boot.Report{}, nil
		case err != nil:
			return boot.Report{}, fmt.Errorf("isolate: read the status: %w", err)
		}
		s.waiting = append(s.waiting, buf[:n]...)
	}
	raw := s.waiting[:boot.ReportSize]
	s.waiting = s.waiting[boot.ReportSize:]
	return s.plan.image.Parse(raw)
}

func (s *Status) closeWrite() {
	if s.write >= 0 {
		_ = unix.Close(s.write)
		s.write = -1
	}
}

// Close frees what the status holds, in whatever state the attempt is.
func (s *Status) Close() {
	s.closeWrite()
	if s.read >= 0 {
		_ = unix.Close(s.read)
		s.read = -1
	}
}

// refusal says in the caller's words what went wrong at a start.
func refusal(r boot.Report) error {
	if r.Kind == boot.Unstarted {
		return &ExecError{r.Errno}
	}
	failed := &CallError{r.Call, r.Errno}
	if dir, ok := strings.CutPrefix(r.Call, dirCall); ok {
		return dirRefusal(dir, r.Errno, failed)
	}
	if name, ok := strings.CutPrefix(r.Call, ulimitCall); ok {
		return &driver.Refusal{Reason: navvy.ReasonStart, Message: fmt.Sprintf("ulimit %s: %s: it is above the hard limit of navvy itself", name, r.Errno)}
	}
	return failed
}

func dirRefusal(dir string, errno unix.Errno, failed error) error {
	switch errno {
	case unix.EACCES, unix.EPERM:
		return &driver.Refusal{Reason: navvy.ReasonPermission, Message: "working directory " + dir + ": permission denied to the user that the attempt runs as"}
	case unix.ENOENT:
		return &driver.Refusal{Reason: navvy.ReasonNotFound, Message: "working directory " + dir + ": does not exist"}
	case unix.ENOTDIR:
		return &driver.Refusal{Reason: navvy.ReasonNotFound, Message: "working directory " + dir + ": is not a directory"}
	default:
		return failed
	}
}
