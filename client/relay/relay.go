// Package relay lets tasks call the navvy that runs them: a worker serves a unix
// socket, on which a task shows the token of its attempt, and passes on what it asks
// of the key-value store to the server, in the name of the attempt. The server decides:
// it knows whether the attempt is leased to this worker, and whose it is.
//
// A token is good as long as its attempt runs here, for calls of the service KV and
// nothing else. What tasks can make the worker hold is bounded, see door.go.
package relay

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/client"
)

// Relay serves the socket. Its methods may be called at once.
type Relay struct {
	rpc      navvyv1.TaskKVClient
	opts     Options
	path     string
	tmp      string // a directory that goes with the socket; empty for none
	grpc     *grpc.Server
	listener *net.UnixListener
	door     *door
	serving  sync.WaitGroup

	mu     sync.Mutex
	passes map[string]*Pass // by token
	calls  int              // under way
}

// Options are the settings of a Relay.
type Options struct {
	// Session waits until the server knows what this worker runs, and gives what tells
	// whether it still does. An error, which wraps navvy.ErrUnavailable, is what the
	// task is told. Defaults to not waiting.
	Session func(ctx context.Context) (goesOn func() bool, err error)
	// Logger takes what goes wrong. Defaults to one that discards.
	Logger *slog.Logger
}

// maxPath is what fits into sockaddr_un with its closing zero; see unix(7).
const maxPath = 107

// Listen serves a socket, in a directory that is closed to others: every account that
// reaches it may connect. One that is there is taken away. The calls of tasks go to the
// server at the other end of conn, which is a worker's. Where the path is too long for
// a socket, it is elsewhere: see Path. Close ends it.
func Listen(path string, conn grpc.ClientConnInterface, o *Options) (*Relay, error) {
	r := &Relay{rpc: navvyv1.NewTaskKVClient(conn), path: path, passes: map[string]*Pass{}}
	if o != nil {
		r.opts = *o
	}
	if r.opts.Session == nil {
		r.opts.Session = func(context.Context) (func() bool, error) { return func() bool { return true }, nil }
	}
	if r.opts.Logger == nil {
		r.opts.Logger = slog.New(slog.DiscardHandler)
	}
	if err := r.listen(); err != nil {
		return nil, errors.Join(fmt.Errorf("the socket for tasks: %w", err), r.remove())
	}
	r.grpc = grpc.NewServer(
		grpc.Creds(handshake{insecure.NewCredentials()}), grpc.InTapHandle(r.admit),
		grpc.MaxRecvMsgSize(maxRequest), grpc.MaxConcurrentStreams(maxCalls), grpc.ConnectionTimeout(strangerTime), grpc.WaitForHandlers(true),
		grpc.StaticStreamWindowSize(window), grpc.StaticConnWindowSize(window),
		grpc.ReadBufferSize(bufferSize), grpc.WriteBufferSize(bufferSize),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleTime}),
	)
	navvyv1.RegisterKVServer(r.grpc, &kv{relay: r})
	r.serving.Go(func() {
		if err := r.grpc.Serve(r.door); err != nil && !errors.Is(err, grpc.ErrServerStopped) { // Close was faster
			r.opts.Logger.Error("tasks are not served any more", "error", err)
		}
	})
	return r, nil
}

func (r *Relay) listen() error {
	if len(r.path) > maxPath {
		tmp, err := os.MkdirTemp("", "navvy-tasks-")
		if err != nil {
			return err
		}
		r.tmp, r.path = tmp, filepath.Join(tmp, filepath.Base(r.path))
	} else if err := os.MkdirAll(filepath.Dir(r.path), 0o700); err != nil {
		return err
	}
	if err := os.Remove(r.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: r.path, Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	r.listener, r.door = l, &door{Listener: l}
	if err := os.Chmod(r.path, 0o666); err != nil { //nolint:gosec // its directory is closed: who gets to it is let in, and needs a token
		return errors.Join(err, l.Close())
	}
	return nil
}

// Path is where the socket is.
func (r *Relay) Path() string { return r.path }

// Close ends all calls and takes the socket away.
func (r *Relay) Close() error {
	r.grpc.Stop()
	r.serving.Wait()
	return r.remove()
}

func (r *Relay) remove() error {
	err := os.Remove(r.path)
	if errors.Is(err, fs.ErrNotExist) || r.listener == nil {
		err = nil
	}
	if r.tmp != "" {
		err = errors.Join(err, os.Remove(r.tmp))
	}
	return err
}

// Pass is the right of one attempt to call. Its methods may be called at once.
type Pass struct {
	relay *Relay
	ref   client.AttemptRef
	token string
	over  context.Context //nolint:containedctx // the life of the attempt, which its calls share
	end   context.CancelCauseFunc
	calls int // under way; the relay's lock guards it
	conns row
}

// errEnded is why the calls of an attempt end with it.
var errEnded = status.Error(codes.FailedPrecondition, "the attempt that made this call has ended")

// Open gives an attempt a pass, whose token nobody else has. Close must be called when
// the attempt has ended.
func (r *Relay) Open(ref client.AttemptRef) *Pass {
	p := &Pass{relay: r, ref: ref, token: rand.Text()}
	p.over, p.end = context.WithCancelCause(context.Background())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.passes[p.token] = p
	return p
}

// Token is the credential that the attempt shows.
func (p *Pass) Token() string { return p.token }

// farewell is how long the connections of an attempt that has ended are left open, so
// that who is still there is told.
const farewell = time.Second

// Close ends the pass, and the calls that were made with it.
func (p *Pass) Close() {
	p.relay.mu.Lock()
	delete(p.relay.passes, p.token)
	p.relay.mu.Unlock()
	p.end(errEnded)
	if p.conns.count() > 0 {
		time.AfterFunc(farewell, p.conns.clear)
	}
}

// passKey is the key under which the context of a call has its pass.
type passKey struct{}

// admit looks at a call before any of it is read: package tap says when. It must not wait.
func (r *Relay) admit(ctx context.Context, info *tap.Info) (context.Context, error) {
	token := metadata.MD(info.Header).Get(client.TaskTokenKey)
	if len(token) != 1 {
		return nil, status.Errorf(codes.PermissionDenied, "a call without the token of a task, which is in the environment of each as %s", client.EnvTaskToken)
	}
	r.mu.Lock()
	p := r.passes[token[0]]
	switch {
	case p == nil:
		r.mu.Unlock()
		return nil, status.Errorf(codes.PermissionDenied, "%s is the token of no attempt that runs here now: it is good until the attempt ends", client.EnvTaskToken)
	case !strings.HasPrefix(info.FullMethodName, "/"+navvyv1.KV_ServiceDesc.ServiceName+"/"):
		r.mu.Unlock()
		return nil, status.Errorf(codes.PermissionDenied, "a task may use the key-value store and nothing else: %s is refused", info.FullMethodName)
	case p.calls >= maxCalls:
		r.mu.Unlock()
		return nil, status.Errorf(codes.ResourceExhausted, "the attempt has %d calls under way, and may have no more at once", maxCalls)
	case r.calls >= maxAllCalls:
		r.mu.Unlock()
		return nil, status.Errorf(codes.ResourceExhausted, "the tasks of this worker have %d calls under way, and may have no more at once", maxAllCalls)
	}
	p.calls++
	r.calls++
	r.mu.Unlock()
	context.AfterFunc(ctx, p.leave) // when the call is over
	if v := visitorOf(ctx); v != nil {
		v.meet(p)
	}
	return context.WithValue(ctx, passKey{}, p), nil
}

// leave ends one call.
func (p *Pass) leave() {
	p.relay.mu.Lock()
	defer p.relay.mu.Unlock()
	p.calls--
	p.relay.calls--
}
