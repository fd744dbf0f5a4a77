// Package sdk makes a Go program a service of navvy: it answers requests that come by
// queues of any broker.
//
//	func main() {
//		if err := sdk.Serve(sdk.Func(answer)); err != nil {
//			log.Fatal(err)
//		}
//	}
//
// Such a program is started by navvy (--service grpc-cmd:PROGRAM); or by hand with the
// arguments of navvy worker start, and then it is a worker of its own service:
//
//	./mysvc --requests amqp://localhost/requests --responses amqp://localhost/responses
//
// docs/services.md says what navvy promises to a service, and what it expects.
package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	servicev1 "github.com/navvy-run/navvy/api/navvy/service/v1"
)

// What Serve finds in its environment.
const (
	// EnvAddr is where navvy wants the service to listen: unix: and a path, or HOST:PORT.
	// It is set if navvy has started the program.
	EnvAddr = "NAVVY_SERVICE_ADDR"
	// EnvBin is the navvy that a program started by hand becomes. Defaults to the one in PATH.
	EnvBin = "NAVVY_BIN"
)

// Service is what the author of a service writes.
type Service interface {
	// Initialize makes the service ready, before the first request.
	Initialize(ctx context.Context) error
	// Invoke answers one request; many run at once. When ctx ends nobody wants the answer
	// any more. An error that wraps ErrInvalid says that the request will never do, one
	// that wraps ErrUnavailable that the request is not to blame and comes back later;
	// after any other it is tried again a few times.
	Invoke(ctx context.Context, input []byte) (output []byte, err error)
	// Dispose ends the service, after the last request.
	Dispose(ctx context.Context) error
}

// What an error of Invoke may wrap.
var (
	// ErrInvalid says that the request is no good, however often it is tried.
	ErrInvalid = errors.New("invalid request")
	// ErrUnavailable says that the service cannot answer now.
	ErrUnavailable = errors.New("service unavailable")
)

// Func is a service that has nothing to make ready: its Invoke.
type Func func(ctx context.Context, input []byte) ([]byte, error)

// Initialize implements Service.
func (Func) Initialize(context.Context) error { return nil }

// Invoke implements Service.
func (f Func) Invoke(ctx context.Context, input []byte) ([]byte, error) { return f(ctx, input) }

// Dispose implements Service.
func (Func) Dispose(context.Context) error { return nil }

// Request is what there is to know about a request beside its input.
type Request struct {
	// ID is its id as the broker has it; empty if that has none.
	ID string
	// Attempt is how many times it was begun, with this one; 0 if that is not known.
	Attempt int
}

type requestKey struct{}

// RequestOf gives the request that a call of Invoke is for, from its context.
func RequestOf(ctx context.Context) Request {
	r, _ := ctx.Value(requestKey{}).(Request)
	return r
}

// Serve is the whole main of a service. Started by navvy, it serves svc until it is told
// to stop, by SIGTERM or by the end of the pipe that is its standard input. Started by hand it does not
// return, but becomes navvy worker start with the program's arguments and itself as the
// service; an error says why it cannot.
func Serve(svc Service) error {
	if addr := os.Getenv(EnvAddr); addr != "" {
		return serve(svc, addr)
	}
	return become(os.Args[1:])
}

// maxMessage is how large requests and answers may be: as far as gRPC goes. navvy has a bound of its own.
const maxMessage = 1<<31 - 1

// lastCalls is how long calls may go on after the service was told to stop.
const lastCalls = 30 * time.Second

// serve serves at an address until it is told to stop.
func serve(svc Service, addr string) error {
	network, path := "tcp", addr
	if rest, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, path = "unix", rest
	}
	listener, err := net.Listen(network, path)
	if err != nil {
		return fmt.Errorf("sdk: listen at %s, as %s says: %w", addr, EnvAddr, err)
	}
	ctx, unnotify := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer unnotify()
	ctx, told := context.WithCancel(ctx)
	defer told()
	if about, err := os.Stdin.Stat(); err == nil && about.Mode()&os.ModeNamedPipe != 0 {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin) // it ends with navvy, however that ends
			told()
		}()
	}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage))
	s := &host{svc: svc, health: health.NewServer()}
	servicev1.RegisterUserServiceServer(server, s)
	grpc_health_v1.RegisterHealthServer(server, s.health)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err = <-served:
		return fmt.Errorf("sdk: serve at %s: %w", addr, err)
	case <-ctx.Done():
	}
	s.health.Shutdown()
	timer := time.AfterFunc(lastCalls, server.Stop)
	defer timer.Stop()
	server.GracefulStop()
	return s.dispose(context.Background())
}

// host offers a service to navvy.
type host struct {
	servicev1.UnimplementedUserServiceServer
	svc    Service
	health *health.Server

	mu    sync.Mutex
	ready bool
}

// Initialize implements UserService. One that has been made ready stays so: navvy asks
// again after a connection was lost.
func (h *host) Initialize(ctx context.Context, _ *servicev1.InitializeRequest) (*servicev1.InitializeResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.ready {
		if err := h.svc.Initialize(ctx); err != nil {
			return nil, toStatus(err)
		}
		h.ready = true
	}
	return &servicev1.InitializeResponse{}, nil
}

// Invoke implements UserService.
func (h *host) Invoke(ctx context.Context, r *servicev1.InvokeRequest) (response *servicev1.InvokeResponse, err error) {
	defer func() {
		// One bad request must not end the others. The stack is in the log of navvy.
		if p := recover(); p != nil {
			response, err = nil, status.Errorf(codes.Internal, "panic: %v", p)
			_, _ = fmt.Fprintf(os.Stderr, "panic in Invoke: %v\n%s", p, debug.Stack())
		}
	}()
	ctx = context.WithValue(ctx, requestKey{}, Request{ID: r.GetId(), Attempt: int(r.GetAttempt())})
	output, err := h.svc.Invoke(ctx, r.GetInput())
	if err != nil {
		return nil, toStatus(err)
	}
	return &servicev1.InvokeResponse{Output: output}, nil
}

// Dispose implements UserService.
func (h *host) Dispose(ctx context.Context, _ *servicev1.DisposeRequest) (*servicev1.DisposeResponse, error) {
	if err := h.dispose(ctx); err != nil {
		return nil, toStatus(err)
	}
	return &servicev1.DisposeResponse{}, nil
}

// dispose disposes of the service, if it is there.
func (h *host) dispose(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.ready {
		return nil
	}
	h.ready = false
	return h.svc.Dispose(ctx)
}

// toStatus tells navvy what an error of the service means.
func toStatus(err error) error {
	code := codes.Unknown
	switch {
	case errors.Is(err, ErrInvalid):
		code = codes.InvalidArgument
	case errors.Is(err, ErrUnavailable):
		code = codes.Unavailable
	case errors.Is(err, context.Canceled):
		code = codes.Canceled
	}
	if s, ok := status.FromError(err); ok {
		return s.Err() // the author's own
	}
	return status.Error(code, err.Error())
}

// become executes navvy worker start in the place of this program.
func become(args []string) error {
	if len(args) == 0 {
		return errors.New("sdk: this is a service of navvy: start it with the queues, --requests URL --responses URL, or have navvy start it: navvy worker start --service grpc-cmd:PROGRAM")
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("sdk: find this program: %w", err)
	}
	bin := os.Getenv(EnvBin)
	if bin == "" {
		bin = "navvy"
	}
	path, err := exec.LookPath(bin)
	if err != nil {
		return fmt.Errorf("sdk: navvy runs the worker of this service: put it into PATH, or name it in %s: %w", EnvBin, err)
	}
	argv := append([]string{path, "worker", "start", "--service", "grpc-cmd:" + quote(self)}, args...)
	if err := syscall.Exec(path, argv, os.Environ()); err != nil { //nolint:gosec // the user names the program, as in PATH
		return fmt.Errorf("sdk: become %s: %w", path, err)
	}
	return nil
}

// quote makes one word of a command line of s.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
