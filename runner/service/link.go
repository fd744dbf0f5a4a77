package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/navvy-run/navvy"
)

// server is what a gRPC service is reached at, and started from if it has a program.
type server struct {
	opts    *Options
	address string   // HOST:PORT or unix:PATH; ownAddress for a socket of each process's own
	program *program // nil: it runs already
	// greet makes a server ready to which there is a connection; nil: it is.
	greet func(ctx context.Context, l *link) error
	// part says good-bye to one that lives; nil: not at all.
	part func(ctx context.Context, l *link)
}

// link is one life of a gRPC server, as far as we see: a connection, and its process if
// we have started it.
type link struct {
	*server
	conn  *grpc.ClientConn
	child *child         // nil: it ran already
	given []func() error // take back what it was given, the last first
	quit  context.CancelFunc
	jobs  sync.WaitGroup // what watches it
	lost  chan struct{}  // closed when it serves no more

	nobody atomic.Bool // nobody listened at its address when we tried last

	mu      sync.Mutex
	calls   int   // under way
	crowd   int   // how many were when the first of them lost the connection; 0 while none has
	cause   error // why it serves no more
	sick    error // why it must not be invoked now; nil if it may be
	changed chan struct{}
}

// open starts the server, if it has a program, and waits until it is ready.
func (s *server) open(ctx context.Context) (*link, error) {
	l := &link{server: s, lost: make(chan struct{}), changed: make(chan struct{}), quit: func() {}}
	dial, err := l.begin()
	if err != nil {
		return nil, errors.Join(err, l.takeBack())
	}
	var dead <-chan struct{}
	if l.child != nil {
		dead = l.child.done
	}
	bounded, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-dead:
			cancel(l.child.death())
		case <-bounded.Done():
		}
	}()
	err = l.connect(bounded, dial)
	if cause := context.Cause(bounded); err != nil && cause != nil && !errors.Is(cause, context.DeadlineExceeded) {
		err = cause
	}
	cancel(nil)
	<-watched
	if err != nil {
		kind, now := context.WithCancel(context.WithoutCancel(ctx))
		now()
		return nil, errors.Join(err, l.end(kind))
	}
	return l, nil
}

// Pauses between tries to connect to a server that comes up.
const (
	firstTry   = 5 * time.Millisecond
	longestTry = 250 * time.Millisecond
)

// connect waits until the server can be connected to and is ready.
func (l *link) connect(ctx context.Context, dial func(context.Context) (net.Conn, error)) (err error) {
	l.conn, err = grpc.NewClient("passthrough:///service",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			conn, err := dial(ctx)
			l.nobody.Store(err != nil)
			return conn, err
		}),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: firstTry, Multiplier: 1.6, Jitter: 0.2, MaxDelay: longestTry}, MinConnectTimeout: time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(l.opts.MaxAnswer+overhead), grpc.MaxCallSendMsgSize(1<<31-1)),
		grpc.WithStatsHandler(marker{}), grpc.WithIdleTimeout(0), grpc.WithDisableRetry(), grpc.WithNoProxy(),
	)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	l.conn.Connect()
	for state := l.conn.GetState(); state != connectivity.Ready; state = l.conn.GetState() {
		if state == connectivity.Idle {
			l.conn.Connect()
		}
		if !l.conn.WaitForStateChange(ctx, state) {
			return fmt.Errorf("the service is not up after %s: %s", l.opts.StartTimeout, l.unheard())
		}
	}
	watching, quit := context.WithCancel(context.WithoutCancel(ctx))
	l.quit = quit
	healthy := make(chan struct{})
	l.jobs.Go(func() { l.watch(watching) })
	l.jobs.Go(func() { l.watchHealth(watching, healthy) })
	if l.child != nil {
		l.jobs.Go(func() {
			select {
			case <-l.child.done:
				l.gives(l.child.death())
			case <-watching.Done():
			}
		})
	}
	if l.greet != nil {
		if err := l.greet(ctx, l); err != nil {
			return err
		}
	}
	select {
	case <-healthy:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the service is not up after %s: its health is not SERVING", l.opts.StartTimeout)
	}
}

// unheard says why there is no connection.
func (l *link) unheard() string {
	switch {
	case !l.nobody.Load():
		return "what listens at its address does not speak gRPC"
	case l.child == nil:
		return "nobody listens at " + l.address
	case l.address == ownAddress, l.address == ownPort:
		return "it does not listen at the address that " + EnvAddr + " names in its environment"
	}
	return "it does not listen at " + l.address
}

// overhead is how much longer a message may be than the answer in it.
const overhead = 1 << 10

// gives notes that the server serves no more.
func (l *link) gives(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause == nil {
		l.cause = cause
		close(l.lost)
	}
}

// watch notices the end of the connection.
func (l *link) watch(ctx context.Context) {
	for l.conn.GetState() == connectivity.Ready {
		if !l.conn.WaitForStateChange(ctx, connectivity.Ready) {
			return
		}
	}
	if l.child == nil {
		l.gives(errors.New("the connection to the service was lost"))
		return
	}
	// Most often because it dies, which says more.
	timer := time.NewTimer(parting)
	defer timer.Stop()
	select {
	case <-l.child.done:
	case <-ctx.Done():
	case <-timer.C:
		l.gives(errors.New("the service has closed its connection"))
	}
}

// watchHealth follows the server's health, where it tells that. healthy is closed as
// soon as it is well, or does not tell.
func (l *link) watchHealth(ctx context.Context, healthy chan struct{}) {
	var once sync.Once
	well := func() { once.Do(func() { close(healthy) }) }
	defer well()
	stream, err := grpc_health_v1.NewHealthClient(l.conn).Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	var sickSince *time.Timer
	defer func() {
		if sickSince != nil {
			sickSince.Stop()
		}
	}()
	for err == nil {
		var r *grpc_health_v1.HealthCheckResponse
		if r, err = stream.Recv(); err != nil {
			break
		}
		if sickSince != nil {
			sickSince.Stop()
			sickSince = nil
		}
		if s := r.GetStatus(); s == grpc_health_v1.HealthCheckResponse_NOT_SERVING {
			l.ails(fmt.Errorf("the health of the service is %s", s))
			sickSince = time.AfterFunc(l.opts.StartTimeout, func() { l.gives(fmt.Errorf("the health of the service was %s for %s", s, l.opts.StartTimeout)) })
			continue
		}
		l.ails(nil)
		well()
	}
	if code := status.Code(err); code == codes.Unimplemented {
		l.ails(nil) // it does not tell
	}
}

// ails notes what keeps the server from being invoked; nil: nothing.
func (l *link) ails(sick error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if (l.sick == nil) == (sick == nil) {
		return
	}
	l.sick = sick
	close(l.changed)
	l.changed = make(chan struct{})
}

// gone implements instance.
func (l *link) gone() <-chan struct{} { return l.lost }

// why implements instance.
func (l *link) why() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cause
}

// unfit implements instance.
func (l *link) unfit() (<-chan struct{}, error) {
	if l.conn.GetState() != connectivity.Ready {
		return l.lost, errGone // soon
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed, l.sick
}

// end implements instance. It also ends what open has left half done.
func (l *link) end(ctx context.Context) error {
	if l.part != nil && l.why() == nil && ctx.Err() == nil && l.conn != nil {
		bounded, cancel := context.WithTimeout(ctx, l.opts.Grace)
		l.part(bounded, l)
		cancel()
	}
	l.quit()
	l.jobs.Wait()
	var err error
	if l.child != nil {
		err = l.child.stop(ctx)
	}
	if l.conn != nil {
		err = errors.Join(err, l.conn.Close())
	}
	return errors.Join(err, l.takeBack())
}

// takeBack takes back what the process was given.
func (l *link) takeBack() error {
	var err error
	for _, back := range slices.Backward(l.given) {
		err = errors.Join(err, back())
	}
	l.given = nil
	return err
}

// fate says how far a call came.
type fate struct {
	sent     bool // the server may have seen it
	answered bool // the server has said how it ended
}

type fateKey struct{}

// marker notes the fates of calls.
type marker struct{}

// TagRPC implements stats.Handler.
func (marker) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC implements stats.Handler.
func (marker) HandleRPC(ctx context.Context, s stats.RPCStats) {
	f, _ := ctx.Value(fateKey{}).(*fate)
	if f == nil {
		return
	}
	switch s.(type) {
	case *stats.OutPayload:
		f.sent = true
	case *stats.InTrailer:
		f.answered = true
	}
}

// TagConn implements stats.Handler.
func (marker) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (marker) HandleConn(context.Context, stats.ConnStats) {}

// apart is how far two clocks may be apart that measure one deadline.
const apart = 100 * time.Millisecond

// call makes a call of a request within the timeout of an invocation, and tells what its
// error means.
func (l *link) call(ctx context.Context, do func(ctx context.Context) error) error {
	f := &fate{}
	bounded := context.WithValue(withTrace(ctx), fateKey{}, f)
	if l.opts.Timeout > 0 {
		var cancel context.CancelFunc
		bounded, cancel = context.WithTimeout(bounded, l.opts.Timeout)
		defer cancel()
	}
	err := l.counted(bounded, do)
	if err == nil {
		return nil
	}
	s := status.Convert(err)
	if at, ok := bounded.Deadline(); ok && late(s) && time.Until(at) < apart {
		<-bounded.Done() // the other end's clock was a little before ours
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if bounded.Err() != nil {
		return failf("the service took longer than %s for the request", l.opts.Timeout)
	}
	err = meaning(s, f)
	if cut(s, f) {
		err = &Failure{Message: err.Error(), crowd: l.crowded()}
	}
	return err
}

// counted makes a call, and counts it as long as it lasts. The first one that loses the
// connection counts the others, which all do.
func (l *link) counted(ctx context.Context, do func(ctx context.Context) error) error {
	l.mu.Lock()
	l.calls++
	l.mu.Unlock()
	err := do(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	if f, ok := ctx.Value(fateKey{}).(*fate); ok && l.crowd == 0 && err != nil && cut(status.Convert(err), f) {
		l.crowd = l.calls
	}
	l.calls--
	return err
}

func (l *link) crowded() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.crowd
}

// cut tells whether the connection was lost under a call that the server may work on.
func cut(s *status.Status, f *fate) bool {
	return s.Code() == codes.Unavailable && f.sent && !f.answered
}

// late tells whether a service says that it had no more time: some give Go's own error back
// as it is.
func late(s *status.Status) bool {
	return s.Code() == codes.DeadlineExceeded || s.Code() == codes.Unknown && s.Message() == context.DeadlineExceeded.Error()
}

// meaning tells what the error of a call means that came so far.
func meaning(s *status.Status, f *fate) error {
	said := navvy.Shorten(s.Message())
	switch code := s.Code(); {
	case cut(s, f):
		return failf("the connection to the service was lost during the request")
	case code == codes.Unavailable && !f.answered:
		return errGone
	case code == codes.Unavailable:
		return fmt.Errorf("the service is away: %s: %w", said, navvy.ErrUnavailable)
	case code == codes.InvalidArgument, code == codes.Unimplemented:
		return &Failure{Message: code.String() + ": " + said, Final: true}
	case code == codes.Unknown && said != "":
		return failf("%s", said)
	default:
		return failf("%s: %s", code, said)
	}
}
