package holder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	"github.com/navvy-run/navvy/client"
)

// maxSocketPath is what fits into sockaddr_un with its closing zero; see unix(7).
const maxSocketPath = 107

// withSocket calls fn with a path that reaches a socket and is short enough
// for the kernel: one through an open directory where the real one is too long.
func (d *Dir) withSocket(name string, fn func(path string) error) error {
	path := d.join(name)
	if len(path) <= maxSocketPath {
		return fn(path)
	}
	dir, err := os.Open(d.path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return fn(filepath.Join("/proc/self/fd", fmt.Sprint(dir.Fd()), name))
}

// listen opens a socket; the lock's owner takes an old one away.
func (d *Dir) listen(name string) (*ownListener, error) {
	if err := os.Remove(d.join(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, dirError(d.path, err)
	}
	var l net.Listener
	err := d.withSocket(name, func(path string) (err error) {
		l, err = net.Listen("unix", path)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("data directory %s: open the socket: %w", d.path, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // its path may go through a directory that is closed by now
	if err := os.Chmod(d.join(name), 0o600); err != nil {
		return nil, errors.Join(dirError(d.path, err), l.Close())
	}
	return &ownListener{Listener: l, uid: os.Geteuid(), peer: peer}, nil
}

// ownListener accepts connections of one user and of root only, and counts them.
type ownListener struct {
	net.Listener
	uid  int
	peer func(net.Conn) (uid int, err error)
	open guests
}

// Accept waits for the next connection of somebody who may call.
func (l *ownListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if uid, err := l.peer(conn); err != nil || uid != l.uid && uid != 0 {
			_ = conn.Close() // it is not ours to talk to
			continue
		}
		l.open.enter()
		return &countedConn{Conn: conn, closed: sync.OnceFunc(l.open.exit)}, nil
	}
}

// connected is how many connections are open.
func (l *ownListener) connected() int { return l.open.count() }

// nobody gives a channel that is closed once no connection is open.
func (l *ownListener) nobody() <-chan struct{} { return l.open.nobody() }

// countedConn tells its listener when it closes.
type countedConn struct {
	net.Conn
	closed func()
}

// Close closes the connection.
func (c *countedConn) Close() error {
	defer c.closed()
	return c.Conn.Close()
}

// peer is the user at the other end, as the kernel knows it; see SO_PEERCRED in unix(7).
func peer(conn net.Conn) (uid int, err error) {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, credErr
	}
	return int(cred.Uid), nil
}

// Dial connects to the holder of the directory. It fails at once if nobody
// listens, and with the error of ctx if somebody does and has not answered when it ends.
func (d *Dir) Dial(ctx context.Context) (*grpc.ClientConn, error) {
	first, err := d.dial(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := d.client(first)
	if err != nil {
		return nil, errors.Join(err, first.Close())
	}
	if err := client.AwaitReady(ctx, conn, fmt.Errorf("the holder hung up: %w", navvy.ErrUnavailable)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// Pipe passes on what comes in to the holder of the directory, and what that says, until either
// end has ended.
func (d *Dir) Pipe(ctx context.Context, in io.Reader, out io.Writer) error {
	conn, err := d.dial(ctx)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	go func() { // it ends with its input, or with the process
		_, _ = io.Copy(conn, in)
		_ = conn.Close()
	}()
	_, err = io.Copy(out, conn)
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return err
}

// client makes a client whose first connection is there already.
func (d *Dir) client(first net.Conn) (*grpc.ClientConn, error) {
	firsts := make(chan net.Conn, 1)
	firsts <- first
	return grpc.NewClient("passthrough:navvy",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(api.MaxMessage)),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			select {
			case conn := <-firsts:
				return conn, nil
			default:
				return d.dial(ctx)
			}
		}))
}

func (d *Dir) dial(ctx context.Context) (conn net.Conn, err error) {
	err = d.withSocket(socketName, func(path string) (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, "unix", path)
		return err
	})
	return conn, err
}
