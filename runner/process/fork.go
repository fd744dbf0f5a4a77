package process

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/process/isolate"
)

func (p *Process) fork(program string, c *Config, files []uintptr) (err error) {
	path, args := program, c.Args
	sys := &syscall.SysProcAttr{Setpgid: true, PidFD: &p.pidfd}
	attr := &syscall.ProcAttr{Dir: c.Dir, Env: c.Env, Files: files, Sys: sys}
	if c.Plan != nil {
		if p.boot, err = bootOf(program, c); err != nil {
			return err
		}
		path, args = c.Plan.Path(), c.Plan.Args(program, c.Args)
		attr.Env, attr.Files = c.Plan.Env(c.Env), append(slices.Clip(files), p.boot.status.Files()...)
		c.Plan.Set(sys)
		defer runtime.KeepAlive(c.Plan) // whose memory is being executed
	}
	fork := func() error {
		p.pid, err = syscall.ForkExec(path, args, attr)
		return err
	}
	// Nothing is read from /proc at a start: the kernel stamps the process's
	// birth between these two readings of the same clock.
	p.pidfd = -1
	p.birth.After = ticks()
	if p.group != nil {
		err = p.group.Fork(sys, fork)
	} else {
		err = fork()
	}
	p.birth.Before = ticks()
	p.birth.PID = p.pid
	p.boot.begun(err)
	if err == nil && p.pidfd < 0 {
		_ = p.Stop(true)
		_, _ = syscall.Wait4(p.pid, nil, 0, nil)
		return fmt.Errorf("process: this kernel has no pidfd, Linux 5.4 is the oldest that does: %w", navvy.ErrUnsupported)
	}
	return err
}

// booted is a process that makes calls of its own before it becomes the program,
// or its init, and tells how that went. Nil is one that does not.
type booted struct {
	status *isolate.Status
	init   bool
	refuse func(errno error) error // what it means that the program cannot be executed
}

func bootOf(program string, c *Config) (*booted, error) {
	status, err := c.Plan.Status()
	if err != nil {
		return nil, err
	}
	seen := Config{Args: c.Args, Env: c.Env, Dir: c.Dir}
	return &booted{
		status: status, init: c.Plan.Init(),
		refuse: func(errno error) error { return startError(&seen, program, errno) },
	}, nil
}

// begun is called behind the fork, with its error.
func (b *booted) begun(err error) {
	switch {
	case b == nil:
	case err != nil:
		b.status.Close()
	default:
		b.status.Begun()
	}
}

// tell corrects the end of the process that was started to that of the task. The
// error says that the host could not start it. It is called once.
func (b *booted) tell(end *driver.End) error {
	if b == nil {
		return nil
	}
	defer b.status.Close()
	status, known, err := b.status.Exit()
	if exec, ok := errors.AsType[*isolate.ExecError](err); ok {
		err = b.refuse(exec.Errno)
	}
	if refusal, ok := errors.AsType[*driver.Refusal](err); ok {
		end.Refusal = refusal
		return nil
	}
	switch {
	case err != nil:
		return fmt.Errorf("process: %w", err)
	case known:
		end.Exit = exitOf(status)
	case b.init: // it was killed, and all with it
		end.Exit = navvy.Exit{Signal: int(unix.SIGKILL)}
	}
	return nil
}

// init tells whether the main process is an init: with it all others end.
func (p *Process) init() bool { return p.boot != nil && p.boot.init }
