package auth

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/navvy-run/navvy"
)

// Gate stands before all calls: it finds out who makes one, asks the table, refuses
// what was revoked, and writes the audit log. It keeps in memory which
// certificates were revoked; whoever stores that durably tells it with Revoke at
// each start. Its methods may be called at once.
type Gate struct {
	opts GateOptions

	mu      sync.Mutex
	revoked map[string]time.Time          // by serial: until when it matters, zero for ever
	open    map[string]map[*stay]struct{} // streams and connections by serial
}

// GateOptions are the settings of a Gate.
type GateOptions struct {
	// Revoked is asked beside what Revoke was told. Defaults to never.
	Revoked func(serial string) bool
	// Audit takes a line for each refused call and each action of an admin.
	// Defaults to one that discards.
	Audit *slog.Logger
	// Local is who makes calls in this process and over a unix socket, whose peer
	// was checked by whoever listens there. One in this process whose context carries
	// an identity is that one's instead. Defaults to nobody: such calls are refused.
	Local *Identity
	// JoinTime is how long a connection without a certificate may last. Defaults to 30 s.
	JoinTime time.Duration
	// Clock tells the time. Defaults to time.Now.
	Clock func() time.Time
}

// joinTime is the default of GateOptions.JoinTime.
const joinTime = 30 * time.Second

// stay is a stream or a connection that ends when its certificate is revoked.
type stay struct{ end func(error) }

// NewGate makes a gate.
func NewGate(o *GateOptions) *Gate {
	g := &Gate{revoked: map[string]time.Time{}, open: map[string]map[*stay]struct{}{}}
	if o != nil {
		g.opts = *o
	}
	if g.opts.Audit == nil {
		g.opts.Audit = slog.New(slog.DiscardHandler)
	}
	if g.opts.JoinTime <= 0 {
		g.opts.JoinTime = joinTime
	}
	if g.opts.Clock == nil {
		g.opts.Clock = time.Now
	}
	return g
}

// Revoked tells whether a certificate was revoked, for ServerTLS.
func (g *Gate) Revoked(serial string) bool {
	g.mu.Lock()
	_, ok := g.revoked[serial]
	g.mu.Unlock()
	return ok || g.opts.Revoked != nil && g.opts.Revoked(serial)
}

// Revoke refuses a certificate from now on: new connections and calls at once, its
// open streams end, and so do its connections, if they are Credentials'.
func (g *Gate) Revoke(serial string) { g.revoke(serial, time.Time{}) }

// RevokeToken refuses an API token likewise, which would have expired at a time.
func (g *Gate) RevokeToken(id string, expires time.Time) { g.revoke(tokenKey(id), expires) }

// Forget takes out of memory which API tokens were revoked that have expired.
func (g *Gate) Forget(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	maps.DeleteFunc(g.revoked, func(_ string, until time.Time) bool { return !until.IsZero() && now.After(until) })
}

func (g *Gate) revoke(serial string, until time.Time) {
	g.mu.Lock()
	g.revoked[serial] = until
	var ends []func(error)
	for s := range g.open[serial] {
		ends = append(ends, s.end)
	}
	g.mu.Unlock()
	for _, end := range ends {
		end(errRevoked(serial))
	}
}

// enter notes what ends with a certificate. leave must be called when it is over.
func (g *Gate) enter(serial string, end func(error)) (leave func()) {
	s := &stay{end}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open[serial] == nil {
		g.open[serial] = map[*stay]struct{}{}
	}
	g.open[serial][s] = struct{}{}
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if delete(g.open[serial], s); len(g.open[serial]) == 0 {
			delete(g.open, serial)
		}
	}
}

// Unary is the gate for calls with one answer.
func (g *Gate) Unary() grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		id, err := g.identify(ctx)
		if err != nil {
			return nil, g.refuse(ctx, id, info.FullMethod, err)
		}
		if err := g.allow(ctx, id, info.FullMethod); err != nil {
			return nil, err
		}
		if ctx = With(ctx, id); !administers(info.FullMethod) {
			return handler(ctx, req)
		}
		ctx, n := noting(ctx)
		resp, err := handler(ctx, req)
		if err != nil {
			n.add(slog.String("failed", status.Convert(err).Message()))
		}
		g.Acted(ctx, id, info.FullMethod, n.all()...)
		return resp, err
	}
}

// Stream is the gate for streams. The context of one is cancelled when its
// certificate is revoked; the cause says so.
func (g *Gate) Stream() grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		id, err := g.admit(stream.Context(), info.FullMethod)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancelCause(With(stream.Context(), id))
		defer cancel(nil)
		for _, key := range id.keys() {
			defer g.enter(key, cancel)()
		}
		if err := g.stays(id); err != nil { // revoked while we entered
			return g.refuse(ctx, id, info.FullMethod, err)
		}
		err = handler(srv, &gatedStream{stream, ctx})
		if cause := context.Cause(ctx); err != nil && errors.Is(cause, navvy.ErrDenied) {
			return g.refuse(ctx, id, info.FullMethod, cause)
		}
		return err
	}
}

// gatedStream is a stream with the context that the gate has made.
type gatedStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // of the call, as grpc has it
}

// Context is the call's, with who makes it.
func (s *gatedStream) Context() context.Context { return s.ctx }

// admit finds out who makes a call and whether it may.
func (g *Gate) admit(ctx context.Context, method string) (Identity, error) {
	id, err := g.identify(ctx)
	if err != nil {
		return id, g.refuse(ctx, id, method, err)
	}
	return id, g.Admit(ctx, id, method)
}

// Admit asks the gate for a call that comes in another way than over gRPC, by
// somebody whom that way has identified, as of HTTP with a certificate. It writes
// the audit log as it does for others. The error is a status of gRPC,
// PermissionDenied.
func (g *Gate) Admit(ctx context.Context, id Identity, method string) error {
	err := g.allow(ctx, id, method)
	if err == nil && administers(method) {
		g.Acted(ctx, id, method)
	}
	return err
}

// allow is Admit without the line for what an admin does.
func (g *Gate) allow(ctx context.Context, id Identity, method string) error {
	err := g.stays(id)
	if err == nil && !MayCall(id, method) {
		err = mayNot(id, method)
	}
	if err != nil {
		return g.refuse(ctx, id, method, err)
	}
	return nil
}

func mayNot(id Identity, method string) error {
	if id.Role == RoleNobody {
		return fmt.Errorf("%s needs a certificate; one without may only join: %w", method, navvy.ErrDenied)
	}
	return fmt.Errorf("%s has the role %s, which may not call %s: %w", id.Name, id.Role, method, navvy.ErrDenied)
}

// inproc is the network of calls in this process.
const inproc = "inproc"

// identify tells who is at the other end of a call. One in this process may be made
// for somebody whom a gate has let in before: its context carries that identity,
// which over no network can be.
func (g *Gate) identify(ctx context.Context) (Identity, error) {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return Identity{}, fmt.Errorf("nobody knows where this call comes from: %w", navvy.ErrDenied)
	}
	switch info := p.AuthInfo.(type) {
	case connInfo:
		return g.certified(info.TLSInfo.State.PeerCertificates, info.id, info.err)
	case credentials.TLSInfo:
		if certs := info.State.PeerCertificates; len(certs) > 0 && len(info.State.VerifiedChains) > 0 {
			id, err := Of(certs[0])
			return g.certified(certs, id, err)
		}
		return Identity{}, nil
	}
	network := p.Addr.Network()
	if id := From(ctx); network == inproc && id != (Identity{}) {
		return id, nil
	}
	if g.opts.Local != nil && (network == "unix" || network == inproc) {
		return *g.opts.Local, nil
	}
	return Identity{}, fmt.Errorf("a call over %s without TLS: %w", p.Addr.Network(), navvy.ErrDenied)
}

// certified is the identity of a certificate whose time is not over.
func (g *Gate) certified(certs []*x509.Certificate, id Identity, err error) (Identity, error) {
	if err == nil && len(certs) > 0 && g.opts.Clock().After(certs[0].NotAfter) {
		err = fmt.Errorf("the certificate of %s has expired on %s; ask an administrator for another one (navvy cert issue): %w",
			id.Name, certs[0].NotAfter.Format(time.DateTime), navvy.ErrDenied)
	}
	return id, err
}

// refuse writes the refusal of a call down and gives what the caller is told.
func (g *Gate) refuse(ctx context.Context, id Identity, method string, why error) error {
	g.opts.Audit.LogAttrs(ctx, slog.LevelWarn, "call refused", append(g.attrs(ctx, id, method), slog.String("why", why.Error()))...)
	return status.Error(codes.PermissionDenied, why.Error())
}

// Acted writes down that somebody used the rights of an admin: the gate does so
// itself for calls that only an admin may make, the server for what an admin does
// to another's job. more says what it was done to.
func (g *Gate) Acted(ctx context.Context, id Identity, method string, more ...slog.Attr) {
	g.opts.Audit.LogAttrs(ctx, slog.LevelInfo, "admin action", append(g.attrs(ctx, id, method), more...)...)
}

func (g *Gate) attrs(ctx context.Context, id Identity, method string) []slog.Attr {
	from := id.From
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil && from == "" {
		from = p.Addr.String()
	}
	attrs := []slog.Attr{
		slog.String("name", id.Name), slog.String("role", string(id.Role)), slog.String("serial", id.Serial),
		slog.Bool("local", id.Local), slog.String("method", method), slog.String("from", from),
	}
	if id.Token != "" {
		attrs = append(attrs, slog.String("token", id.Token))
	}
	return attrs
}
