package service

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

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

// reachable refuses what could never be connected to.
func (s *server) reachable() error {
	atSocket := s.address == ownAddress || strings.HasPrefix(s.address, "unix:")
	if s.program != nil && !atSocket && s.opts.Network == navvy.NetworkNone {
		return fmt.Errorf("a service without a network cannot be reached at a port: have it listen at a socket, or give it the network: %w", navvy.ErrInvalid)
	}
	return nil
}

// begin starts the program. dial connects to the server.
func (l *link) begin() (dial func(context.Context) (net.Conn, error), err error) {
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

// beginAtSocket starts the program with a socket of its own to listen at, in a directory
// that nobody else can enter, and returns where we see that.
func (l *link) beginAtSocket() (string, error) {
	const name = "service.sock"
	if l.opts.Isolate {
		return l.beginIsolated(name)
	}
	dir, err := os.MkdirTemp("", "navvy-service-")
	if err != nil {
		return "", fmt.Errorf("make a directory for the service's socket: %w", err)
	}
	l.given = append(l.given, func() error { return os.RemoveAll(dir) })
	path := filepath.Join(dir, name)
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

// beginIsolated is beginAtSocket for a process that sees no directories of ours: the
// socket is in its own, which we reach by a descriptor, however long its path is.
func (l *link) beginIsolated(name string) (string, error) {
	if l.opts.Dir != "" {
		return "", fmt.Errorf("an isolated gRPC service makes its socket in a directory of its own: name no working directory: %w", navvy.ErrInvalid)
	}
	dir := ""
	if err := l.run(func(c *process.Config) {
		dir = c.Dir
		c.Env = append(c.Env, EnvAddr+"=unix:"+filepath.Join(isolate.WorkDir, name))
	}); err != nil {
		return "", err
	}
	open, err := os.Open(dir)
	if err != nil {
		return "", fmt.Errorf("open the service's directory: %w", err)
	}
	l.given = append(l.given, open.Close)
	return filepath.Join("/proc/self/fd", strconv.Itoa(int(open.Fd())), name), nil
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
