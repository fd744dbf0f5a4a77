package isolate

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/navvy-run/navvy"
)

// Box says how an attempt is to be set apart.
type Box struct {
	// Isolate gives it processes, mounts, a host name, System V IPC and message
	// queues, /proc, /tmp, /var/tmp and /dev/shm of its own, no rights that a
	// program does not need, and a filter of system calls.
	Isolate bool
	// UID is the user and the group that it runs as, if Isolate is set; the
	// caller must be root. Defaults to the caller's.
	UID int
	// Network is navvy.NetworkNone or navvy.NetworkHost. Defaults to the host's.
	Network string
	// Ulimits are set in it, before it gives up the right to raise them.
	Ulimits []navvy.Ulimit
	// Dir is its working directory, absolute. One under a directory that Isolate
	// hides is there all the same, with what is in it. Defaults to the one that it is started in.
	Dir string
	// Private makes the directory that it is started in, which may be in a place
	// that it cannot reach, its working directory and its home, at WorkDir. Only with Isolate, and not with Dir.
	Private bool
	// Program is the program that it runs, if that has an absolute path: under a
	// directory that Isolate hides, this one file is there all the same.
	Program string
	// Socket is the absolute path of a unix socket that it sees at SocketPath, also if it
	// could not get to the directory in which it is. Only with Isolate. Defaults to none.
	Socket string
	// See are directories, absolute ones, that it reads, and cannot write to, also under a
	// directory that Isolate hides. Those that are not there are left out. Only with
	// Isolate. Whoever names them lets the attempt past the rights of what leads there.
	See []string
	// Tree is the absolute path of a directory that it sees at TreeDir, where it starts, and
	// cannot write to, also if it could not get to it. Only with Isolate. Defaults to none.
	Tree string
	// Mounts are directories that it sees in its private one, and cannot write to, whoever may
	// read what leads to them. Only with Private.
	Mounts []Mount
	// Hostname defaults to DefaultHostname. Only with Isolate.
	Hostname string
}

// Mount is a directory that an attempt sees in its private one.
type Mount struct {
	Source string // absolute
	Path   string // below WorkDir, as io/fs has it
}

// DefaultHostname is the name of the host that an isolated attempt sees.
const DefaultHostname = "navvy"

// WorkDir is where an isolated attempt sees its private working directory.
const WorkDir = "/tmp/work"

// TreeDir is where an isolated attempt sees the tree of its Box.
const TreeDir = "/tmp/package"

// SocketPath is where an isolated attempt sees the socket of its Box.
const SocketPath = "/tmp/navvy.sock"

// maxHostname is the kernel's, in bytes.
const maxHostname = 64

// Empty tells whether a process needs nothing of this package.
func (b *Box) Empty() bool {
	return !b.Isolate && b.Network != navvy.NetworkNone && len(b.Ulimits) == 0
}

// validate finds what makes no sense. Its error wraps navvy.ErrInvalid.
func (b *Box) validate() error {
	switch {
	case !b.Isolate && b.apart():
		return fmt.Errorf("isolate: a private directory, a user, a socket, a tree, directories to see or a host name need isolation: %w", navvy.ErrInvalid)
	case b.Private && b.Dir != "":
		return fmt.Errorf("isolate: working directory %s and a private one: %w", b.Dir, navvy.ErrInvalid)
	case b.UID < 0 || int64(b.UID) >= 1<<32-1:
		return fmt.Errorf("isolate: there is no user %d: %w", b.UID, navvy.ErrInvalid)
	case len(b.Hostname) > maxHostname:
		return fmt.Errorf("isolate: host name %q is longer than %d bytes: %w", b.Hostname, maxHostname, navvy.ErrInvalid)
	case strings.ContainsRune(b.Dir+b.Program+b.Hostname+b.Socket+b.Tree, 0):
		return fmt.Errorf("isolate: a zero byte in %q: %w", []string{b.Dir, b.Program, b.Hostname, b.Socket, b.Tree}, navvy.ErrInvalid)
	}
	return b.validatePaths()
}

// validatePaths is validate for what must be absolute.
func (b *Box) validatePaths() error {
	switch {
	case relative(b.Dir):
		return fmt.Errorf("isolate: working directory %q is not absolute: %w", b.Dir, navvy.ErrInvalid)
	case relative(b.Socket):
		return fmt.Errorf("isolate: the socket %q is not absolute: %w", b.Socket, navvy.ErrInvalid)
	case relative(b.Tree):
		return fmt.Errorf("isolate: the tree %q is not absolute: %w", b.Tree, navvy.ErrInvalid)
	case slices.ContainsFunc(b.See, func(dir string) bool { return !filepath.IsAbs(dir) || strings.ContainsRune(dir, 0) }):
		return fmt.Errorf("isolate: directories %q to see: want absolute ones: %w", b.See, navvy.ErrInvalid)
	case len(b.Mounts) > 0 && !b.Private || slices.ContainsFunc(b.Mounts, func(m Mount) bool { return !m.valid() }):
		return fmt.Errorf("isolate: mounts %q: want absolute directories, and paths in a private one: %w", b.Mounts, navvy.ErrInvalid)
	}
	return nil
}

func (m *Mount) valid() bool {
	return filepath.IsAbs(m.Source) && !strings.ContainsRune(m.Source+m.Path, 0) && fs.ValidPath(m.Path) && m.Path != "."
}

// apart tells whether something is asked for that only isolation gives.
func (b *Box) apart() bool {
	return b.Private || b.UID != 0 || b.Hostname != "" || b.Socket != "" || b.Tree != "" || b.See != nil
}

// relative tells whether there is a path, and it is not absolute.
func relative(path string) bool { return path != "" && !filepath.IsAbs(path) }
