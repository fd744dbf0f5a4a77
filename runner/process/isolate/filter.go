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
// newer than the list do not exist, and all others are allowed. It is a tree of
// comparisons, since the kernel tries it on each number when it is installed.
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
	return slices.Concat([]unix.SockFilter{
		load(atArch),
		jump(unix.BPF_JEQ, architecture, 1, 0),
		answer(kill),
		load(atNumber),
	}, tree(ranges()))
}

// lastKnown is the newest call that the list judges, of Linux 6.17.
const lastKnown = unix.SYS_FILE_SETATTR

// span is a range of numbers with the same verdict.
type span struct {
	from uint32
	body []unix.SockFilter // decides, with the number loaded
}

// ranges are the verdicts over all numbers, in order.
func ranges() []span {
	verdicts := make([][]unix.SockFilter, lastKnown+2)
	for i := range verdicts {
		verdicts[i] = []unix.SockFilter{answer(allow)}
	}
	for _, number := range denied {
		verdicts[number] = []unix.SockFilter{answer(deny)}
	}
	for number, body := range inspected() {
		verdicts[number] = body
	}
	verdicts[lastKnown+1] = []unix.SockFilter{answer(unknown)}
	var spans []span
	for number, body := range verdicts {
		if n := len(spans); n == 0 || !slices.Equal(spans[n-1].body, body) {
			spans = append(spans, span{uint32(number), body})
		}
	}
	return spans
}

// inspected are the calls whose arguments decide.
func inspected() map[int][]unix.SockFilter {
	const (
		personalityQuery = 0xffffffff
		personalityLinux = 0
		personality32    = 0x0000008 // PER_LINUX32
		personalityOld   = 0x0020000 // UNAME26
	)
	return map[int][]unix.SockFilter{
		// libc falls back to clone, whose flags can be seen.
		unix.SYS_CLONE3: {answer(unknown)},
		unix.SYS_CLONE:  {load(atArgs), jump(unix.BPF_JSET, namespaces, 0, 1), answer(deny), answer(allow)},
		unix.SYS_PERSONALITY: oneOf(atArgs, allow, deny,
			personalityLinux, personality32, personalityOld, personalityOld|personality32, personalityQuery),
		// Hypervisors listen there, whatever the network namespace.
		unix.SYS_SOCKET: oneOf(atArgs, deny, allow, unix.AF_VSOCK),
		// Both type into the caller's terminal.
		unix.SYS_IOCTL: oneOf(atArgs+8, deny, allow, unix.TIOCSTI, unix.TIOCLINUX),
	}
}

// oneOf answers yes if the word at an offset is one of values, else no.
func oneOf(at, yes, no uint32, values ...uint32) []unix.SockFilter {
	body := []unix.SockFilter{load(at)}
	for i, v := range values {
		body = append(body, jump(unix.BPF_JEQ, v, uint8(len(values)-i), 0))
	}
	return append(body, answer(no), answer(yes))
}

// tree searches the spans for the number that is loaded.
func tree(spans []span) []unix.SockFilter {
	if len(spans) == 1 {
		return spans[0].body
	}
	// Half of the numbers, not of the spans, on either side: the kernel tries them all.
	half := (spans[0].from + spans[len(spans)-1].from) / 2
	middle := slices.IndexFunc(spans[1:], func(s span) bool { return s.from >= half }) + 1
	low, high := tree(spans[:middle]), tree(spans[middle:])
	const far = 255 // how far a comparison can jump
	var code []unix.SockFilter
	if len(low) <= far {
		code = append(code, jump(unix.BPF_JGE, spans[middle].from, uint8(len(low)), 0))
	} else {
		code = append(code, jump(unix.BPF_JGE, spans[middle].from, 0, 1), unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(len(low))})
	}
	return slices.Concat(code, low, high)
}

func load(at uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
}

func jump(op uint16, k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | op, Jt: yes, Jf: no, K: k}
}

func answer(k uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k}
}
