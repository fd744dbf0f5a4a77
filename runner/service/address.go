package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/process"
	"github.com/navvy-run/navvy/runner/process/isolate"
)

// EnvAddr is where a gRPC service that navvy starts finds the address to listen at:
// unix: and the path of a socket that it makes.
const EnvAddr = "NAVVY_SERVICE_ADDR"

// What stands in the place of an address that navvy chooses.
const (
	ownAddress = "-"     // a socket
	ownPort    = "-:tcp" // a port
)

// parseAddress reads HOST:PORT or unix:PATH, of this machine.
func parseAddress(s string) (string, error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		path = strings.TrimPrefix(path, "//")
		if path == "" {
			return "", fmt.Errorf("address %q names no socket: %w", s, navvy.ErrInvalid)
		}
		abs, err := filepath.Abs(path)
		if err != nil {
			return "", fmt.Errorf("address %q: %w", s, err)
		}
		return "unix:" + abs, nil
	}
	s = strings.TrimPrefix(s, "http://")
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", fmt.Errorf("address %q: write HOST:PORT or unix:PATH: %w", s, navvy.ErrInvalid)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("address %q: %q is no port: %w", s, port, navvy.ErrInvalid)
	}
	if ip, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return "", fmt.Errorf("address %q is not of this machine, and nothing would protect the connection: use localhost, a loopback address or unix:PATH: %w", s, navvy.ErrUnsupported)
	}
	return s, nil
}

// reachable refuses what could never be connected to, or must not be: we connect with our
// own rights, to what whoever is isolated could not reach.
func (s *server) reachable() error {
	path := strings.HasPrefix(s.address, "unix:")
	atSocket := s.address == ownAddress || path
	switch {
	case s.program == nil && len(s.opts.spec(nil).Needs()) > 0:
		return fmt.Errorf("what runs already can be given no limits and no isolation: have navvy start it, as with grpc-cmd:CMD: %w", navvy.ErrInvalid)
	case path && s.opts.Isolate:
		return fmt.Errorf("an isolated service listens at no socket of this host, only where %s says: %w", EnvAddr, navvy.ErrInvalid)
	case s.program != nil && !atSocket && s.opts.Network == navvy.NetworkNone:
		return fmt.Errorf("a service without a network cannot be reached at a port: have it listen at a socket, or give it the network: %w", navvy.ErrInvalid)
	}
	return nil
}

// begin starts the program. dial connects to the server.
func (l *link) begin() (dial func(context.Context) (net.Conn, error), err error) {
	if l.address == ownAddress && l.opts.Isolate {
		return l.beginIsolated()
	}
	network, address := "tcp", l.address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	switch {
	case l.program == nil:
	case l.address == ownAddress:
		network = "unix"
		address, err = l.beginAtSocket()
	case l.address == ownPort:
		if address, err = freePort(); err == nil {
			err = l.run(func(c *process.Config) { c.Env = append(c.Env, EnvAddr+"="+address) })
		}
	default:
		err = l.run(func(c *process.Config) { c.Env = append(c.Env, EnvAddr+"="+l.address) })
	}
	var dialer net.Dialer
	return func(ctx context.Context) (net.Conn, error) { return dialer.DialContext(ctx, network, address) }, err
}

// socketName is what a service's own socket is called.
const socketName = "service.sock"

// beginAtSocket starts the program with a socket of its own to listen at, in a directory
// that nobody else can enter, and returns where we see that.
func (l *link) beginAtSocket() (string, error) {
	dir, err := os.MkdirTemp("", "navvy-service-")
	if err != nil {
		return "", fmt.Errorf("make a directory for the service's socket: %w", err)
	}
	l.given = append(l.given, func() error { return os.RemoveAll(dir) })
	path := filepath.Join(dir, socketName)
	return path, l.run(func(c *process.Config) { c.Env = append(c.Env, EnvAddr+"=unix:"+path) })
}

// freePort is an address at which nobody listens. Somebody else may come first: then the
// service dies, and the next one gets another.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a port for the service: %w", err)
	}
	return l.Addr().String(), l.Close()
}

// beginIsolated is begin for a process that sees no directories of ours: the socket is in
// its own, which we reach by a descriptor, however long its path is.
func (l *link) beginIsolated() (dial func(context.Context) (net.Conn, error), err error) {
	if l.opts.Dir != "" {
		return nil, fmt.Errorf("an isolated gRPC service makes its socket in a directory of its own: name no working directory: %w", navvy.ErrInvalid)
	}
	dir := ""
	if err := l.run(func(c *process.Config) {
		dir = c.Dir
		c.Env = append(c.Env, EnvAddr+"=unix:"+filepath.Join(isolate.WorkDir, socketName))
	}); err != nil {
		return nil, err
	}
	open, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open the service's directory: %w", err)
	}
	l.given = append(l.given, open.Close)
	return func(ctx context.Context) (net.Conn, error) { return dialIn(ctx, open) }, nil
}

// dialIn connects to the socket in somebody else's directory. What is there in its place
// is not followed: it could lead to a socket that we may connect to, and they may not.
func dialIn(ctx context.Context, dir *os.File) (net.Conn, error) {
	fd, err := unix.Openat(int(dir.Fd()), socketName, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("the service's socket: %w", err)
	}
	defer unix.Close(fd) //nolint:errcheck // it was only looked at
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, fmt.Errorf("the service's socket is none: %w", errors.Join(err, navvy.ErrInvalid))
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, "unix", "/proc/self/fd/"+strconv.Itoa(fd))
}

// run starts the process. Its standard input ends with navvy, however that ends.
func (l *link) run(change func(*process.Config)) error {
	theirs, ours, err := pipe()
	if err != nil {
		return err
	}
	defer theirs.Close()
	l.given = append(l.given, ours.Close)
	l.child, err = l.program.start(func(c *process.Config) {
		c.Stdin = theirs
		change(c)
	})
	return err
}
