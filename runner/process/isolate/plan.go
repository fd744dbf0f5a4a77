package isolate

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/process/boot"
)

// The descriptors at which the process finds its status pipe and the program that
// it begins with: they follow standard input, output and error.
const (
	StatusFD = 3
	imageFD  = 4
)

// Plan is a Box, ready to start any number of attempts, also at once.
type Plan struct {
	box   Box
	init  bool
	image *boot.Image
	flags uintptr
	raise []uintptr // capabilities that the process needs over its execution

	socket bool // it sees its socket at SocketPath
}

// Plan prepares attempts in such a box. The error wraps navvy.ErrUnsupported,
// with the reason in words, if this host does not let the caller do it.
func (h *Host) Plan(b Box) (*Plan, error) {
	if err := b.validate(); err != nil {
		return nil, err
	}
	if err := h.allows(&b); err != nil {
		return nil, err
	}
	return h.plan(b, h.rootless())
}

// plan is Plan whatever the host allows.
func (h *Host) plan(b Box, rootless bool) (*Plan, error) {
	b.Ulimits, b.See, b.Mounts = slices.Clone(b.Ulimits), slices.Clone(b.See), slices.Clone(b.Mounts)
	program := &boot.Program{Init: b.Isolate, Status: StatusFD, Before: closeRest()}
	p := &Plan{box: b, init: b.Isolate, flags: flagsOf(&b), socket: b.Socket != "" && h.hides(filepath.Dir(SocketPath))}
	if rootless && p.flags != 0 {
		p.flags |= unix.CLONE_NEWUSER
		p.raise = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SETPCAP, unix.CAP_NET_ADMIN}
		program.Before = append(program.Before, mapUser(h.uid, h.gid)...)
	}
	limits, err := ulimits(b.Ulimits)
	if err != nil {
		return nil, err
	}
	program.After = limits
	if b.Isolate {
		err = h.isolate(program, &b, rootless)
	} else {
		if b.Network == navvy.NetworkNone {
			program.Before = append(program.Before, loopback()...)
		}
		if len(p.raise) > 0 {
			program.After = append(program.After, h.dropRights(0)...)
		}
		program.After = append(program.After, changeDir(b.Dir)...)
	}
	if err != nil {
		return nil, err
	}
	p.image, err = boot.NewImage(program)
	return p, err
}

func flagsOf(b *Box) (flags uintptr) {
	if b.Isolate {
		flags |= unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	}
	if b.Network == navvy.NetworkNone {
		flags |= unix.CLONE_NEWNET
	}
	return flags
}

// isolate adds what Box.Isolate asks for.
func (h *Host) isolate(p *boot.Program, b *Box, rootless bool) error {
	hostname := b.Hostname
	if hostname == "" {
		hostname = DefaultHostname
	}
	p.Before = append(p.Before,
		call("set the umask", unix.SYS_UMASK, boot.Int(usualUmask)),
		// What is unmounted on the host is unmounted here too, and nothing goes the other way.
		call("make mounts private", unix.SYS_MOUNT, boot.Text("none"), boot.Text("/"), boot.Int(0), boot.Int(unix.MS_REC|unix.MS_SLAVE), boot.Int(0)),
		call("set the host name", unix.SYS_SETHOSTNAME, boot.Text(hostname), boot.Int(len(hostname))))
	if b.Network == navvy.NetworkNone {
		p.Before = append(p.Before, loopback()...)
	}
	dir, err := h.mounts(p, b, b.UID == 0 && h.uid == 0 && !rootless)
	if err != nil {
		return err
	}
	p.After = append(p.After,
		call("restore the umask", unix.SYS_UMASK, boot.Int(h.umask)),
		call("begin a session", unix.SYS_SETSID))
	p.After = append(p.After, h.dropRights(b.UID)...)
	p.After = append(p.After, changeDir(dir)...)
	p.After = append(p.After, filter()...)
	p.Settle = initRights(b.UID)
	return nil
}

// dirCall is how the call that changes the working directory is named in errors.
const dirCall = "working directory "

func changeDir(dir string) []boot.Call {
	if dir == "" {
		return nil
	}
	return []boot.Call{call(dirCall+dir, unix.SYS_CHDIR, boot.Text(dir))}
}

// Socket is where the attempt sees a socket of this path: that of its box at
// SocketPath, and others, as on a host without a /tmp to put it in, where they are.
func (p *Plan) Socket(path string) string {
	if p.socket && path == p.box.Socket {
		return SocketPath
	}
	return path
}

// Path is the program to execute, by a process that has the Files of its Status.
func (p *Plan) Path() string { return boot.Path(imageFD) }

// Args are the arguments to execute it with, to run program with args, of which
// the first is its name. A relative program starts at the working directory.
func (p *Plan) Args(program string, args []string) []string {
	return append([]string{program}, args...)
}

// Env is the environment of the attempt, env with another home if it has one: it
// cannot reach that of the caller. Temporary files go to its own /tmp.
func (p *Plan) Env(env []string) []string {
	if !p.init {
		return env
	}
	set := []string{"TMPDIR=/tmp"}
	switch {
	case p.box.Private:
		set = append(set, "HOME="+WorkDir)
	case p.box.UID != 0:
		set = append(set, "HOME=/tmp")
	}
	env = slices.DeleteFunc(slices.Clone(env), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return slices.ContainsFunc(set, func(s string) bool { return strings.HasPrefix(s, name+"=") })
	})
	return append(env, set...)
}

// Init tells whether the process is an init, whose end is that of all that the
// attempt has started, and whose exit is not the attempt's: Status.Exit is.
// SIGTERM that is sent to it reaches all of the attempt, and SIGKILL ends it.
func (p *Plan) Init() bool { return p.init }

// Set adds to the attributes what the process needs. An init leads a process
// group of its own, and its child a session: one more would cost a group of the
// scheduler, too.
func (p *Plan) Set(sys *syscall.SysProcAttr) {
	sys.Cloneflags |= p.flags
	sys.AmbientCaps = p.raise
	if p.init {
		sys.Setpgid = true
	}
}

// Close frees the plan. Attempts that have been started do not need it any more.
func (p *Plan) Close() error { return p.image.Close() }

// mapUser makes a user namespace one in which the caller's user and group are
// what they are outside, and all others nobody: files keep their owner's name.
func mapUser(uid, gid int) []boot.Call {
	var calls []boot.Call
	for _, f := range [...]struct{ name, text string }{
		{"setgroups", "deny"}, {"uid_map", identity(uid)}, {"gid_map", identity(gid)},
	} {
		path := "/proc/self/" + f.name
		calls = append(calls, writeFile(path, f.text)...)
	}
	return calls
}

// closeRest closes the image, and the descriptors that the process was left by
// mistake, so that those that it opens have numbers that are known here.
func closeRest() []boot.Call {
	return []boot.Call{call("close files", unix.SYS_CLOSE_RANGE, boot.Int(StatusFD+1), boot.Int(^uint32(0)>>1), boot.Int(0))}
}

// firstFD is the descriptor of what is opened after closeRest, if nothing else is open.
const firstFD = StatusFD + 1

func writeFile(path, text string) []boot.Call {
	name := "write " + path
	at := unix.AT_FDCWD
	return []boot.Call{
		call(name, unix.SYS_OPENAT, boot.Int(at), boot.Text(path), boot.Int(os.O_WRONLY|unix.O_CLOEXEC), boot.Int(0)),
		call(name, unix.SYS_WRITE, boot.Int(firstFD), boot.Text(text), boot.Int(len(text))),
		call(name, unix.SYS_CLOSE, boot.Int(firstFD)),
	}
}
