package isolate

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy/runner/process/boot"
)

// What a filter of system calls answers, seccomp(2).
const (
	allow   = unix.SECCOMP_RET_ALLOW
	deny    = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	unknown = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	kill    = unix.SECCOMP_RET_KILL_PROCESS
)

// Where struct seccomp_data has what; of 64-bit arguments the low half counts.
const (
	atNumber = 0
	atArch   = 4
	atArgs   = 16
)

// namespaces are the flags of clone(2) that make namespaces.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// filter is the calls that install the filter. It does what container engines'
// do: what changes the kernel, the host or namespaces is denied, calls that are
// newer than the list do not exist, and all others are allowed.
func filter() []boot.Call {
	instructions := instructions()
	var raw []byte
	for _, i := range instructions {
		raw = binary.LittleEndian.AppendUint16(raw, i.Code)
		raw = append(raw, i.Jt, i.Jf)
		raw = binary.LittleEndian.AppendUint32(raw, i.K)
	}
	return []boot.Call{call("filter system calls", unix.SYS_SECCOMP,
		boot.Int(unix.SECCOMP_SET_MODE_FILTER), boot.Int(0), boot.Words(boot.Int(len(instructions)), boot.Bytes(raw)))}
}

// instructions are the filter's. A call of another architecture (of 32 bits)
// ends the process: it would find other calls behind the numbers.
func instructions() []unix.SockFilter {
	var c code
	no, yes, none, end := c.answer(deny), c.answer(allow), c.answer(unknown), c.answer(kill)
	verdicts := slices.Repeat([]label{yes}, lastKnown+2)
	for _, number := range denied {
		verdicts[number] = no
	}
	c.inspect(verdicts, yes, no)
	verdicts[unix.SYS_CLONE3] = none // libc falls back to clone, whose flags can be seen
	verdicts[lastKnown+1] = none
	c.load(atNumber, c.search(spansOf(verdicts)))
	c.load(atArch, c.branch(unix.BPF_JEQ, architecture, c.here(), end))
	slices.Reverse(c.backwards)
	return c.backwards
}

// lastKnown is the newest call that the list judges, of Linux 6.17.
const lastKnown = unix.SYS_FILE_SETATTR

// inspect adds the calls whose arguments decide.
func (c *code) inspect(verdicts []label, yes, no label) {
	const (
		personalityQuery = 0xffffffff
		personalityLinux = 0
		personality32    = 0x0000008 // PER_LINUX32
		personalityOld   = 0x0020000 // UNAME26
	)
	verdicts[unix.SYS_CLONE] = c.load(atArgs, c.branch(unix.BPF_JSET, namespaces, no, yes))
	verdicts[unix.SYS_PERSONALITY] = c.load(atArgs, c.oneOf(yes, no,
		personalityLinux, personality32, personalityOld, personalityOld|personality32, personalityQuery))
	// Hypervisors listen there, whatever the network namespace.
	verdicts[unix.SYS_SOCKET] = c.load(atArgs, c.oneOf(no, yes, unix.AF_VSOCK))
	// Both type into the caller's terminal.
	verdicts[unix.SYS_IOCTL] = c.load(atArgs+8, c.oneOf(no, yes, unix.TIOCSTI, unix.TIOCLINUX))
}
