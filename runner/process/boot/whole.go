package boot

import (
	"math"

	"golang.org/x/sys/unix"
)

// sizeofSet is the size of the kernel's sets of signals, in bytes.
const sizeofSet = 8

// awaited are the signals that the init waits for: all but those that cannot be
// blocked, and those that tell a process of its own doing. Of these SIGPIPE
// reaches the init if nobody reads its reports any more; it stays blocked.
var awaited = ^set(unix.SIGKILL, unix.SIGSTOP, unix.SIGPIPE, unix.SIGSEGV, unix.SIGBUS, unix.SIGILL, unix.SIGFPE, unix.SIGTRAP, unix.SIGSYS)

// set is a set of signals, as the kernel has them on 64 bits.
func set(signals ...unix.Signal) (s uint64) {
	for _, sig := range signals {
		s |= 1 << (sig - 1)
	}
	return s
}

// whole are the calls of the three phases, with those that each program makes.
func (p *Program) whole() [3][]Call {
	mask := Int(dataAddress + atMask) // where the signals that were blocked are kept
	before, after, settle := p.Before, p.After, p.Settle
	if p.Init {
		before = append([]Call{
			{Name: "block signals", Number: unix.SYS_RT_SIGPROCMASK, Args: []Arg{Int(unix.SIG_BLOCK), Words(Int(uint64(math.MaxUint64))), mask, Int(sizeofSet)}},
			// A SIGCHLD that is ignored, as navvy may have found it, would leave nobody to wait for.
			{Name: "reset SIGCHLD", Number: unix.SYS_RT_SIGACTION, Args: []Arg{Int(int(unix.SIGCHLD)), Words(Int(0), Int(0), Int(0), Int(0)), Int(0), Int(sizeofSet)}},
		}, before...)
		after = append([]Call{
			{Name: "unblock signals", Number: unix.SYS_RT_SIGPROCMASK, Args: []Arg{Int(unix.SIG_SETMASK), mask, Int(0), Int(sizeofSet)}},
		}, after...)
		settle = append([]Call{
			{Name: "close files", Number: unix.SYS_CLOSE_RANGE, Args: []Arg{Int(p.Status + 1), Int(math.MaxInt32)}, Ignore: unix.ENOSYS},
			{Name: "set the name", Number: unix.SYS_PRCTL, Args: []Arg{Int(unix.PR_SET_NAME), Text("navvy-init")}, IgnoreAll: true},
		}, settle...)
		for fd := range p.Status {
			settle = append(settle, Call{Name: "close files", Number: unix.SYS_CLOSE, Args: []Arg{Int(fd)}, IgnoreAll: true})
		}
	}
	after = append([]Call{
		{Name: "close the status pipe", Number: unix.SYS_FCNTL, Args: []Arg{Int(p.Status), Int(unix.F_SETFD), Int(unix.FD_CLOEXEC)}},
		{Name: "close files", Number: unix.SYS_CLOSE_RANGE, Args: []Arg{Int(p.Status + 1), Int(math.MaxInt32)}, Ignore: unix.ENOSYS},
	}, after...)
	return [3][]Call{before, after, settle}
}
