package isolate

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/process/boot"
)

// resources are the numbers of setrlimit(2) by the names of navvy.UlimitNames.
var resources = map[string]int{
	"as": unix.RLIMIT_AS, "core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA,
	"fsize": unix.RLIMIT_FSIZE, "locks": unix.RLIMIT_LOCKS, "memlock": unix.RLIMIT_MEMLOCK,
	"msgqueue": unix.RLIMIT_MSGQUEUE, "nice": unix.RLIMIT_NICE, "nofile": unix.RLIMIT_NOFILE,
	"nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS, "rtprio": unix.RLIMIT_RTPRIO,
	"rttime": unix.RLIMIT_RTTIME, "sigpending": unix.RLIMIT_SIGPENDING, "stack": unix.RLIMIT_STACK,
}

// ulimitCall is how the call that sets a limit is named in errors.
const ulimitCall = "ulimit "

// ulimits are the calls that set limits for the process that makes them.
func ulimits(list []navvy.Ulimit) ([]boot.Call, error) {
	var calls []boot.Call
	for _, u := range list {
		resource, ok := resources[u.Name]
		if !ok {
			return nil, fmt.Errorf("isolate: ulimit %q: there is no such limit: %w", u.Name, navvy.ErrInvalid)
		}
		calls = append(calls, call(ulimitCall+u.Name, unix.SYS_PRLIMIT64,
			boot.Int(0), boot.Int(resource), boot.Words(boot.Int(u.Soft), boot.Int(u.Hard)), boot.Int(0)))
	}
	return calls, nil
}

func call(name string, number uintptr, args ...boot.Arg) boot.Call {
	return boot.Call{Name: name, Number: number, Args: args}
}

// ignoring is a call of which one error is none.
func ignoring(errno unix.Errno, c boot.Call) boot.Call {
	c.Ignore = errno
	return c
}
