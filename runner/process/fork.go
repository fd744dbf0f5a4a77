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
		status, err := c.Plan.Status()
		if err != nil {
			return err
		}
		p.boot = &booted{status: status, init: c.Plan.Init()}
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
	if err = p.boot.started(err); err != nil && p.pid > 0 {
		p.discard()
	}
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
}

// started is called behind the fork, with its error, and waits until the program
// is being executed. That this cannot be is the kernel's errno, as after a plain
// fork; a *driver.Refusal; or an error of the host.
func (b *booted) started(err error) error {
	if b == nil {
		return err
	}
	if err == nil {
		if err = b.status.Started(); err == nil {
			return nil
		}
	}
	b.status.Close()
	if exec, ok := errors.AsType[*isolate.ExecError](err); ok {
		return exec.Errno
	}
	return err
}

// discard takes the end of a process that did not come to its program.
func (p *Process) discard() {
	_, _ = syscall.Wait4(p.pid, nil, 0, nil)
	if p.pidfd >= 0 {
		_ = unix.Close(p.pidfd)
	}
	p.pid, p.boot = 0, nil
}

// tell corrects the end of the process that was started to that of the task. It is
// called once.
func (b *booted) tell(end *driver.End) error {
	if b == nil {
		return nil
	}
	defer b.status.Close()
	status, known, err := b.status.Exit()
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
