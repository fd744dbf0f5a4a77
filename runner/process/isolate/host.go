package isolate

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
)

// Host is what this host lets the caller do. All methods may be called at once.
type Host struct {
	uid, gid     int
	umask        int
	capabilities int // how many the kernel knows
	hidden       []string
	mqueue       bool
	found        func() findings
}

// findings are what trying has shown.
type findings struct {
	rootless  bool
	abilities []navvy.Ability
	lacks     map[navvy.Ability]error
}

// Open returns the host. What it allows is tried when it is first asked for,
// with a few processes that end at once.
func Open() *Host {
	h := &Host{
		uid: os.Getuid(), gid: os.Getgid(), umask: umaskOf(), capabilities: countCapabilities(),
		hidden: findHidden(), mqueue: findMqueue(),
	}
	h.found = sync.OnceValue(h.find)
	return h
}

// Abilities lists which of navvy.AbilityIsolate, AbilityUser, AbilityNetwork and
// AbilityUlimits attempts can have here.
func (h *Host) Abilities() []navvy.Ability { return slices.Clone(h.found().abilities) }

// Lacks says in words why Abilities does not list them all, and what would mend
// it; empty if it does.
func (h *Host) Lacks() string {
	var words []string
	for _, a := range abilities {
		if err := h.found().lacks[a]; err != nil {
			if w := fmt.Sprintf("%s: %v", a, err); !slices.Contains(words, w) {
				words = append(words, w)
			}
		}
	}
	return strings.Join(words, "; ")
}

// Users tells whether attempts can run as users of their own: the caller is root.
func (h *Host) Users() bool { return slices.Contains(h.found().abilities, navvy.AbilityUser) }

func (h *Host) rootless() bool { return h.found().rootless }

// allows is the reason why the host does not let attempts have such a box.
func (h *Host) allows(b *Box) error {
	for _, need := range [...]struct {
		wanted  bool
		ability navvy.Ability
	}{
		{len(b.Ulimits) > 0, navvy.AbilityUlimits}, {b.Isolate, navvy.AbilityIsolate},
		{b.UID != 0 && b.UID != h.uid, navvy.AbilityUser}, {b.Network == navvy.NetworkNone, navvy.AbilityNetwork},
	} {
		if err := h.found().lacks[need.ability]; need.wanted && err != nil {
			return fmt.Errorf("isolate: this host cannot enforce %s: %w: %w", need.ability, err, navvy.ErrUnsupported)
		}
	}
	return nil
}

// abilities are those that this package may have.
var abilities = []navvy.Ability{navvy.AbilityUlimits, navvy.AbilityIsolate, navvy.AbilityUser, navvy.AbilityNetwork}

// find tries what the host allows: as root, and where that has not the right,
// in a user namespace. A host that allows all of it is found out by one process.
func (h *Host) find() findings {
	if h.uid == 0 && h.try(Box{Isolate: true, UID: FirstUID, Network: navvy.NetworkNone}, false) == nil {
		return findings{abilities: abilities}
	}
	boxes := map[navvy.Ability]Box{
		navvy.AbilityUlimits: {},
		navvy.AbilityIsolate: {Isolate: true},
		navvy.AbilityUser:    {Isolate: true, UID: FirstUID},
		navvy.AbilityNetwork: {Network: navvy.NetworkNone},
	}
	f := findings{lacks: make(map[navvy.Ability]error)}
	f.rootless = errors.Is(h.try(boxes[navvy.AbilityNetwork], false), unix.EPERM)
	if f.rootless {
		f.lacks[navvy.AbilityUser] = errors.New("only root can start processes of other users")
	}
	for _, a := range abilities {
		if f.lacks[a] != nil {
			continue
		}
		if err := h.try(boxes[a], f.rootless); err != nil {
			f.lacks[a] = explain(err, f.rootless)
			continue
		}
		f.abilities = append(f.abilities, a)
	}
	return f
}

// try runs an attempt in a box, as far as to the execution of a program that does not exist.
func (h *Host) try(b Box, rootless bool) error {
	p, err := h.plan(b, rootless)
	if err != nil {
		return err
	}
	defer p.Close()
	s, err := p.Status()
	if err != nil {
		return err
	}
	defer s.Close()
	var sys syscall.SysProcAttr
	p.Set(&sys)
	pid, err := syscall.ForkExec(p.Path(), p.Args("", nil), &syscall.ProcAttr{Files: append([]uintptr{0, 1, 2}, s.Files()...), Sys: &sys})
	if err != nil {
		return fmt.Errorf("make namespaces: %w", err)
	}
	err = s.Started()
	for {
		if _, waitErr := syscall.Wait4(pid, nil, 0, nil); waitErr != syscall.EINTR {
			break
		}
	}
	var reached *ExecError
	if errors.As(err, &reached) && reached.Errno == unix.ENOENT {
		return nil
	}
	if err == nil {
		err = errors.New("the program that does not exist was executed")
	}
	return err
}

// explain adds to an error what the host's owner can do about it.
func explain(err error, rootless bool) error {
	var advice string
	read := func(path string) string {
		raw, _ := os.ReadFile(path)
		return strings.TrimSpace(string(raw))
	}
	switch {
	case errors.Is(err, navvy.ErrUnsupported):
		return err
	case errors.Is(err, unix.ENOSYS):
		advice = "this kernel is older than Linux 5.9, or a filter of system calls is in the way"
	case errors.Is(err, unix.ENOSPC) || read("/proc/sys/user/max_user_namespaces") == "0":
		advice = "namespaces are used up or forbidden; raise them with sysctl user.max_user_namespaces and its like"
	case !rootless:
		advice = "the container or the service that navvy runs in forbids it"
	case read("/proc/sys/kernel/unprivileged_userns_clone") == "0":
		advice = "user namespaces are for root only; allow them with sysctl kernel.unprivileged_userns_clone=1, or run navvy as root"
	case read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
		advice = "AppArmor restricts user namespaces; allow navvy's by a profile with \"userns,\" or all by sysctl kernel.apparmor_restrict_unprivileged_userns=0, or run navvy as root"
	default:
		advice = "user namespaces do not work for this user, in a container perhaps; run navvy as root"
	}
	return fmt.Errorf("%w (%s)", err, advice)
}
