package isolate

import (
	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy/runner/process/boot"
)

// What tests look at from outside.
var (
	HasUser    = hasUser
	ValidToken = validToken
	RemoveTree = removeTree
)

// Limit makes the users a few.
func (u *Users) Limit(count int) { u.count, u.next = count, 0 }

// Sabotage replaces the call with this index among all of an isolated attempt,
// Before and After, by one that fails. It returns nil if there are not so many.
func (h *Host) Sabotage(b Box, index int) (*Plan, error) {
	p := &boot.Program{Init: true, Status: StatusFD, Before: closeRest()}
	if err := h.isolate(p, &b, false); err != nil {
		return nil, err
	}
	bad := call("sabotage", unix.SYS_CHDIR, boot.Text("/no/such/directory"))
	switch n := len(p.Before); {
	case index < n:
		p.Before[index] = bad
	case index < n+len(p.After):
		p.After[index-n] = bad
	default:
		return nil, nil //nolint:nilnil // there is no such call
	}
	image, err := boot.NewImage(p)
	return &Plan{box: b, init: true, flags: flagsOf(&b), image: image}, err
}

// KeptFD is where attempts of Kept find the pidfd of the first process of the
// namespaces that are kept.
const KeptFD = imageFD + 1

// Kept is a plan for attempts that are born in a PID namespace that others were in
// before, by a thread that has entered it. With whole they enter the other
// namespaces, too, and nothing is made anew; else they have those of their own.
func (h *Host) Kept(b Box, whole bool) (*Plan, error) {
	p := &boot.Program{Status: StatusFD, Before: closeRest()}
	flags := flagsOf(&b) &^ unix.CLONE_NEWPID
	if whole {
		p.Before = append([]boot.Call{call("enter", unix.SYS_SETNS, boot.Int(KeptFD), boot.Int(flags))}, p.Before...)
		p.After = append(h.dropRights(b.UID), filter()...)
		flags = 0
	} else if err := h.isolate(p, &b, false); err != nil {
		return nil, err
	}
	image, err := boot.NewImage(p)
	return &Plan{box: b, flags: flags, image: image}, err
}

// Instructions is how many the filter has.
func Instructions() int { return len(instructions()) }

// Verdict is what the filter answers to a call.
func Verdict(arch, number uint32, args [6]uint64) uint32 {
	code := instructions()
	var a uint32
	for pc := 0; ; pc++ {
		i := code[pc]
		yes := false
		switch i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			a = field(i.K, arch, number, args)
			continue
		case unix.BPF_RET | unix.BPF_K:
			return i.K
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(i.K)
			continue
		case unix.BPF_JMP | unix.BPF_K | unix.BPF_JEQ:
			yes = a == i.K
		case unix.BPF_JMP | unix.BPF_K | unix.BPF_JGE:
			yes = a >= i.K
		case unix.BPF_JMP | unix.BPF_K | unix.BPF_JSET:
			yes = a&i.K != 0
		default:
			panic("an instruction that the filter does not use")
		}
		if yes {
			pc += int(i.Jt)
		} else {
			pc += int(i.Jf)
		}
	}
}

func field(at, arch, number uint32, args [6]uint64) uint32 {
	switch {
	case at == atNumber:
		return number
	case at == atArch:
		return arch
	case at >= atArgs && (at-atArgs)%8 == 0:
		return uint32(args[(at-atArgs)/8])
	default:
		panic("no field of seccomp_data that the filter uses")
	}
}

// What the filter answers, and about which calls it does.
const (
	Allow        = uint32(allow)
	Deny         = uint32(deny)
	Unknown      = uint32(unknown)
	Kill         = uint32(kill)
	Architecture = uint32(architecture)
	LastKnown    = uint32(lastKnown)
)

// Denied are the calls that are denied, whatever their arguments.
var Denied = denied
