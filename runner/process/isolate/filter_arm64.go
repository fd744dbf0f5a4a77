package isolate

import "golang.org/x/sys/unix"

// architecture is the one whose calls the filter knows.
const architecture = unix.AUDIT_ARCH_AARCH64

var deniedHere []int
