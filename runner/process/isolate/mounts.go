package isolate

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/process/boot"
)

// memoryShare is how much of the host's memory may be in the directories that an
// attempt has instead of the hidden ones; a limit of its memory counts it, too.
const memoryShare = "50%"

// findHidden are the directories that all users of the host write to. An isolated
// attempt does not see them: empty ones in memory take their place. The paths
// are free of symbolic links.
func findHidden() []string {
	var list []string
	for _, dir := range []string{"/tmp", "/var/tmp", "/dev/shm"} {
		real, err := filepath.EvalSymlinks(dir)
		if err != nil || real == "/" {
			continue
		}
		if info, err := os.Stat(real); err != nil || !info.IsDir() {
			continue
		}
		if !slices.ContainsFunc(list, func(o string) bool { return within(real, o) }) {
			list = append(list, real)
		}
	}
	return list
}

// within tells whether path is dir or below it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, dir+"/")
}

// kept is something below a hidden directory that the attempt sees all the same.
type kept struct {
	name   string // for errors
	source string
	target string
	file   bool
	sealed bool // it cannot be written to
}

// mounts adds the calls that give an attempt the file system that it sees, and
// returns the working directory that it has there.
func (h *Host) mounts(p *boot.Program, b *Box, asRoot bool) (dir string, err error) {
	keep, err := h.keep(b)
	if err != nil {
		return "", err
	}
	if asRoot {
		keep = append(keep, devices()...)
	}
	for _, k := range keep {
		// Held by a descriptor, until the place where it was is hidden.
		at := unix.AT_FDCWD
		p.Before = append(p.Before, call(k.name, unix.SYS_OPEN_TREE, boot.Int(at), boot.Text(k.source),
			boot.Int(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)))
	}
	p.Before = append(p.Before, call("mount /proc", unix.SYS_MOUNT, boot.Text("proc"), boot.Text("/proc"), boot.Text("proc"),
		boot.Int(unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC), boot.Int(0)))
	if asRoot {
		p.Before = append(p.Before, h.privateDev()...)
	}
	p.Before = append(p.Before, h.hide()...)
	if h.mqueue {
		p.Before = append(p.Before, call("mount /dev/mqueue", unix.SYS_MOUNT, boot.Text("mqueue"), boot.Text("/dev/mqueue"), boot.Text("mqueue"),
			boot.Int(unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC), boot.Int(0)))
	}
	for i, k := range keep {
		p.Before = append(p.Before, h.place(k, firstFD+i)...)
	}
	if asRoot {
		p.Before = append(p.Before, masks()...)
	}
	switch {
	case b.Tree != "":
		return TreeDir, nil
	case b.Private:
		return WorkDir, nil
	}
	return b.Dir, nil
}

// hide puts empty directories in the place of those that are hidden. They are in
// one file system, which costs less than one each and bounds them together.
func (h *Host) hide() []boot.Call {
	if len(h.hidden) == 0 {
		return nil
	}
	at := unix.AT_FDCWD
	first := h.hidden[0]
	calls := []boot.Call{
		call("mount "+first, unix.SYS_MOUNT, boot.Text("tmpfs"), boot.Text(first), boot.Text("tmpfs"),
			boot.Int(unix.MS_NOSUID|unix.MS_NODEV), boot.Text("mode=755,size="+memoryShare)),
		call("set the umask", unix.SYS_UMASK, boot.Int(0)),
	}
	for i := range h.hidden {
		dir := fmt.Sprintf("%s/%d", first, i)
		calls = append(calls, call("make "+dir, unix.SYS_MKDIRAT, boot.Int(at), boot.Text(dir), boot.Int(0o1777)))
	}
	for i, path := range slices.Backward(h.hidden) { // the first last: then the others cannot be reached through it
		dir := fmt.Sprintf("%s/%d", first, i)
		calls = append(calls, call("mount "+path, unix.SYS_MOUNT, boot.Text(dir), boot.Text(path), boot.Int(0), boot.Int(unix.MS_BIND), boot.Int(0)))
	}
	return append(calls, call("set the umask", unix.SYS_UMASK, boot.Int(usualUmask)))
}

// keep lists what the user named in hidden directories, and what navvy puts there.
func (h *Host) keep(b *Box) ([]kept, error) {
	keep, err := h.own(b)
	if err != nil {
		return nil, err
	}
	if b.Dir != "" {
		if real, err := filepath.EvalSymlinks(b.Dir); err == nil && h.below(real) {
			info, err := os.Stat(real)
			noDir := err == nil && !info.IsDir() // which is found out later, and told
			keep = append(keep, kept{name: dirCall + b.Dir, source: real, target: real, file: noDir})
		}
	}
	if b.Socket != "" && h.hides(filepath.Dir(SocketPath)) {
		keep = append(keep, kept{name: "socket " + b.Socket, source: b.Socket, target: SocketPath, file: true})
	}
	if !filepath.IsAbs(b.Program) {
		return keep, nil
	}
	real, err := filepath.EvalSymlinks(b.Program)
	if err != nil {
		return keep, nil //nolint:nilerr // what is wrong with it shows when it is executed
	}
	for _, path := range slices.Compact([]string{real, filepath.Clean(b.Program)}) { // a script looks for itself by its name
		if h.below(path) && !slices.ContainsFunc(keep, func(k kept) bool { return within(path, k.target) }) {
			keep = append(keep, kept{name: "program " + b.Program, source: real, target: path, file: true})
		}
	}
	return keep, nil
}

// own lists the directories that it is to see, and those that are its own.
func (h *Host) own(b *Box) ([]kept, error) {
	keep := h.seen(b)
	if (b.Private || b.Tree != "") && !h.hides(filepath.Dir(WorkDir)) {
		return nil, fmt.Errorf("isolate: this host has no %s to put a private directory in: %w", filepath.Dir(WorkDir), navvy.ErrUnsupported)
	}
	if b.Tree != "" {
		keep = append(keep, kept{name: "package", source: b.Tree, target: TreeDir, sealed: true})
	}
	if b.Private {
		keep = append(keep, kept{name: "private directory", source: ".", target: WorkDir})
	}
	for _, m := range b.Mounts {
		keep = append(keep, kept{name: "mount " + m.Path, source: m.Source, target: WorkDir + "/" + m.Path, sealed: true})
	}
	return keep, nil
}

// seen lists the directories to see that are hidden, under all names that they have.
func (h *Host) seen(b *Box) []kept {
	var list []kept
	for _, dir := range b.See {
		real, err := filepath.EvalSymlinks(dir)
		if err != nil {
			continue
		}
		if info, err := os.Stat(real); err != nil || !info.IsDir() {
			continue
		}
		for _, path := range slices.Compact([]string{real, filepath.Clean(dir)}) {
			if h.below(path) && !slices.ContainsFunc(list, func(k kept) bool { return within(path, k.target) }) {
				list = append(list, kept{name: "directory " + dir, source: real, target: path, sealed: true})
			}
		}
	}
	return list
}

// below tells whether path is below a hidden directory, and not one itself:
// who names /tmp means whatever /tmp there is.
func (h *Host) below(path string) bool {
	return slices.ContainsFunc(h.hidden, func(dir string) bool { return path != dir && within(path, dir) })
}

func (h *Host) hides(path string) bool {
	return slices.Contains(h.hidden, path)
}

// place puts what descriptor fd holds at its target, with the directories that lead there.
func (h *Host) place(k kept, fd int) []boot.Call {
	var calls []boot.Call
	at := unix.AT_FDCWD
	mkdir := func(path string) {
		calls = append(calls, ignoring(unix.EEXIST, call("make "+path, unix.SYS_MKDIRAT, boot.Int(at), boot.Text(path), boot.Int(0o755))))
	}
	for i, c := range k.target {
		if c == '/' && h.below(k.target[:i]) {
			mkdir(k.target[:i])
		}
	}
	if k.file {
		calls = append(calls, ignoring(unix.EEXIST, call("make "+k.target, unix.SYS_MKNODAT, boot.Int(at), boot.Text(k.target), boot.Int(unix.S_IFREG|0o600), boot.Int(0))))
	} else {
		mkdir(k.target)
	}
	calls = append(calls, call(k.name, unix.SYS_MOVE_MOUNT, boot.Int(fd), boot.Text(""), boot.Int(at), boot.Text(k.target), boot.Int(unix.MOVE_MOUNT_F_EMPTY_PATH)))
	if k.sealed {
		calls = append(calls, protect(k.target))
	}
	return calls
}

// findMqueue tells whether the host has a file system of message queues, which
// would show the host's in the attempt.
func findMqueue() bool {
	var queues, dev unix.Stat_t
	return unix.Stat("/dev/mqueue", &queues) == nil && unix.Stat("/dev", &dev) == nil && queues.Dev != dev.Dev
}

// loopback brings the loopback interface up: a new network namespace has nothing else.
func loopback() []boot.Call {
	request := make([]byte, unix.SizeofSockaddrAny) // larger than struct ifreq, netdevice(7)
	copy(request, "lo")
	binary.NativeEndian.PutUint16(request[unix.IFNAMSIZ:], unix.IFF_UP)
	const name = "bring the loopback interface up"
	return []boot.Call{
		call(name, unix.SYS_SOCKET, boot.Int(unix.AF_INET), boot.Int(unix.SOCK_DGRAM|unix.SOCK_CLOEXEC), boot.Int(0)),
		call(name, unix.SYS_IOCTL, boot.Int(firstFD), boot.Int(unix.SIOCSIFFLAGS), boot.Bytes(request)),
		call(name, unix.SYS_CLOSE, boot.Int(firstFD)),
	}
}

// identity is a map of a user namespace with one entry, user_namespaces(7).
func identity(id int) string { return fmt.Sprintf("%d %d 1", id, id) }
