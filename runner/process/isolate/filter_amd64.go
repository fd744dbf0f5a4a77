package isolate

import "golang.org/x/sys/unix"

// architecture is the one whose calls the filter knows. Those of x32 have
// numbers above lastKnown.
const architecture = unix.AUDIT_ARCH_X86_64

// deniedHere are calls that this architecture alone has.
var deniedHere = []int{
	unix.SYS_IOPL, unix.SYS_IOPERM, unix.SYS_USELIB, unix.SYS_USTAT, unix.SYS_SYSFS, unix.SYS__SYSCTL,
	unix.SYS_CREATE_MODULE, unix.SYS_GET_KERNEL_SYMS, unix.SYS_QUERY_MODULE,
}
