// Package process runs Linux processes, each in a process group of its own, and
// is the driver of the kind command. It can be used alone: Start, Wait and Stop
// need nothing else of navvy.
//
// An attempt is over when its main process has ended and its process group is
// empty; what the group's pipes hold then is still read. Processes that left the
// group (setsid) do not keep it alive.
//
// With a control group (Config.Groups) it is over when that is empty, which
// nothing can leave; with isolation (Config.Plan) when its init has ended, and
// with it everybody else.
//
// Most tasks are short, so a start is kept cheap: the pipes are plain file
// descriptors, and for the first milliseconds one blocking call waits for what
// they bring, which is kept in memory, and for the end of the process. Only what
// runs longer is handed to Go's poller, with a goroutine for each
// stream.
package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/process/cgroup"
	"github.com/navvy-run/navvy/runner/process/isolate"
)

// Config says what to run.
type Config struct {
	// Args is the program and its arguments. A program without a slash is looked
	// up in the PATH of Env, not in that of this process; a relative one starts at Dir.
	Args []string
	// Env is the whole environment, NAME=VALUE each.
	Env []string
	// Dir is the working directory. Defaults to that of this process.
	Dir string
	// Input is what the process reads from its standard input. Nil means
	// nothing, as from /dev/null.
	Input []byte
	// Stdin takes the place of Input. It may be closed once Start has returned.
	Stdin *os.File
	// Stdout and Stderr take the output, each from one goroutine at a time; nil
	// drops it. One that implements io.ReaderFrom reads by itself. A Write may
	// block; an error from it drops the rest. If both are the same, as == tells,
	// the process has one pipe for both: all that it writes comes in the order in
	// which it was written, from one goroutine.
	Stdout, Stderr io.Writer
	// Files take the place of Stdout and Stderr where they are set: the process has them
	// as they are, and what it writes to them is the caller's to read. They may be
	// closed once Start has returned.
	Files [2]*os.File
	// Main says that the process is over with its main process: what that has left running
	// is killed. Otherwise it is waited for.
	Main bool
	// Limits bound what the process uses, with all that it starts. All but ulimits,
	// which are the Plan's, need Groups.
	Limits navvy.Limits
	// Groups is where the process gets a control group of its own, which it and
	// whatever it starts cannot leave: the process is over when the group is
	// empty, and usage is the group's. Nil: a process group has to do, and a limit
	// is refused.
	Groups *cgroup.Tree
	// Name is the control group's. No two that run at once may share it. Required with Groups.
	Name string
	// Plan sets the process apart from its host, and sets its ulimits. It may be
	// shared by any number of processes. Nil: neither.
	Plan *isolate.Plan
}

// Process is one running process, with all that belongs to it. Wait is called
// once; the other methods at any time, by any number of goroutines.
type Process struct {
	pid   int
	pidfd int
	birth Birth
	out   [2]stream     // standard output and standard error
	watch *watch        // of the first milliseconds; nil after them
	early []piece       // what was taken out of the streams in these
	group *cgroup.Group // nil: there is only the process group
	boot  *booted       // nil: it was started without a plan
	alone bool          // what the main process leaves is killed

	mu      sync.Mutex
	reaped  bool // the main process has ended and end is known
	over    bool // the group is empty: its number may belong to somebody else now
	oom     bool // the kernel killed one for want of memory, and we the others
	end     driver.End
	hostErr error // the kernel did not tell how it ended
	leftErr error // the control group could not be removed
}

// Start begins a process. What keeps it from running by the fault of c is a
// *driver.Refusal; any other error is the host's.
func Start(c *Config) (*Process, error) {
	program, err := lookup(c, false)
	if err != nil {
		return nil, err
	}
	p := &Process{alone: c.Main}
	if p.group, err = newGroup(c); err != nil {
		return nil, err
	}
	if err := p.start(program, c); err != nil {
		return nil, errors.Join(err, p.removeGroup())
	}
	return p, nil
}

// start makes the pipes and forks. After an error nothing runs.
func (p *Process) start(program string, c *Config) error {
	stdin, err := openInput(c)
	if err != nil {
		return err
	}
	defer closeInput(c, stdin)
	files, err := p.openStreams(c)
	if err == nil {
		err = p.watchStreams()
	}
	if err != nil {
		p.closeStreams()
		return err
	}
	files[0] = uintptr(stdin)
	err = p.fork(program, c, files[:])
	if errors.Is(err, unix.ENOENT) {
		// The remembered place of the program may be out of date.
		if again, lookErr := lookup(c, true); lookErr == nil && again != program {
			program = again
			err = p.fork(program, c, files[:])
		}
	}
	for pause := time.Millisecond; errors.Is(err, unix.ETXTBSY) && pause < busyTime; pause *= 2 {
		<-time.After(pause)
		err = p.fork(program, c, files[:])
	}
	p.out[0].closeWrite()
	p.out[1].closeWrite()
	if err != nil {
		p.closeStreams()
		return startError(c, program, err)
	}
	return nil
}

// busyTime is half of how long a program is waited for that is being written to. One that
// this process itself has just written, as a task's file, is for a moment longer: another
// process that was forked meanwhile has it open until it has become its own program, and a
// little behind that, since the kernel lets the parent go before it closes what was not
// to be inherited.
const busyTime = 250 * time.Millisecond

// openStreams makes the pipes, and returns the descriptors that the process gets,
// but for the first.
func (p *Process) openStreams(c *Config) (files [3]uintptr, err error) {
	given := [2]uintptr{}
	for i, f := range c.Files {
		if f != nil {
			given[i] = f.Fd()
		}
	}
	if files[1] = given[0]; files[1] == 0 {
		if files[1], err = p.out[0].open(c.Stdout); err != nil {
			return files, err
		}
	}
	if files[2] = given[1]; files[2] > 0 {
		return files, nil
	}
	if given[0] == 0 && same(c.Stdout, c.Stderr) {
		files[2] = files[1]
		return files, nil
	}
	files[2], err = p.out[1].open(c.Stderr)
	return files, err
}

func (p *Process) closeStreams() {
	if p.watch != nil {
		p.watch.free()
		p.watch = nil
	}
	for i := range p.out {
		p.out[i].close()
	}
}

// Pid is the id of the main process, and of its group.
func (p *Process) Pid() int { return p.pid }

// Birth says when the process began, so that it can be told from a later one with its id.
func (p *Process) Birth() Birth { return p.birth }

// Stop asks the process group to end by SIGTERM, which also wakes it if it was
// stopped; with force it is killed. Stop does not wait, and is no error once
// the group is gone. The error wraps navvy.ErrDenied if the group runs as
// another user.
func (p *Process) Stop(force bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.over:
		return nil
	case p.group != nil && (force || !p.init()):
		return p.stopGroup(force)
	case p.reaped && p.renumbered():
		return nil
	}
	err := p.signal(force)
	switch {
	case err == nil, errors.Is(err, unix.ESRCH):
		return nil
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("process: end group %d: %w", p.pid, navvy.ErrDenied)
	default:
		return fmt.Errorf("process: end group %d: %w", p.pid, err)
	}
}

// signal signals the process group, or the init, which passes it on to all there
// are. mu is held.
func (p *Process) signal(force bool) error {
	to, sig := -p.pid, unix.SIGTERM
	if p.init() {
		to = p.pid
	}
	if force {
		sig = unix.SIGKILL
	}
	err := unix.Kill(to, sig)
	if err == nil && !force && !p.init() {
		err = unix.Kill(to, unix.SIGCONT)
	}
	return err
}

// reap takes the exit of the main process, if it has ended, and sees whether
// anybody is left of its group. It never blocks. Both happen under the lock, so
// that Stop never signals a group whose number the kernel has given away.
func (p *Process) reap() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	var status unix.WaitStatus
	var usage unix.Rusage
	pid, err := unix.Wait4(p.pid, &status, unix.WNOHANG, &usage)
	for err == unix.EINTR {
		pid, err = unix.Wait4(p.pid, &status, unix.WNOHANG, &usage)
	}
	switch {
	case err != nil:
		p.hostErr = fmt.Errorf("process: how %d ended is not known: %w", p.pid, err)
	case pid == 0:
		return false
	default:
		p.end = driver.End{Exit: exitOf(status), Usage: usageOf(&usage)}
		p.hostErr = p.boot.tell(&p.end)
	}
	p.reaped = true
	p.over = p.empty()
	return true
}

// groupEmpty tells whether no process, not even a zombie, is in the group.
func groupEmpty(pgid int) bool {
	return unix.Kill(-pgid, 0) == unix.ESRCH
}
