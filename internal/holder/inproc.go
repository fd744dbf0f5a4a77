package holder

import (
	"context"
	"fmt"
	"reflect"

	"github.com/fullstorydev/grpchan/inprocgrpc"
	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/server/auth"
)

// sharing passes messages between client and server of one process without
// copying what they hold: package api asks both not to change what was sent.
type sharing struct{}

var _ inprocgrpc.Cloner = sharing{}

// Clone gives the message itself.
func (sharing) Clone(in any) (any, error) { return in, nil }

// Copy makes out hold what in holds. Generated messages are structs that may be
// copied as long as nobody uses them: out was just made, in was given away.
func (sharing) Copy(out, in any) error {
	to, from := reflect.ValueOf(out), reflect.ValueOf(in)
	if to.Type() != from.Type() || to.Kind() != reflect.Pointer || to.IsNil() || from.IsNil() {
		return fmt.Errorf("in process: a %T was sent where a %T is read: %w", in, out, navvy.ErrInvalid)
	}
	to.Elem().Set(from.Elem())
	return nil
}

// NewChannel makes a connection in this process to what is registered with it,
// through the gate. Calls are those of whom their context names by auth.With: a
// gateway's are so those of its caller; of nobody, those of the gate's Local. before
// comes before the gate for streams; nil for nothing.
func NewChannel(gate *auth.Gate, before grpc.StreamServerInterceptor) *inprocgrpc.Channel {
	stream := behind(carryStream, gate.Stream())
	if before != nil {
		stream = behind(before, stream)
	}
	unary := gate.Unary()
	return (&inprocgrpc.Channel{}).WithCloner(sharing{}).WithServerStreamInterceptor(stream).WithServerUnaryInterceptor(
		func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			return unary(carry(ctx), req, info, handler)
		})
}

// carry gives the context of a call the identity that its caller's has.
func carry(ctx context.Context) context.Context {
	if caller := inprocgrpc.ClientContext(ctx); caller != nil {
		return auth.With(ctx, auth.From(caller))
	}
	return ctx
}

// carryStream is carry for streams.
func carryStream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return handler(srv, &carriedStream{stream, carry(stream.Context())})
}

// carriedStream is a stream whose context has the caller's identity.
type carriedStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // of the call, as grpc has it
}

// Context is the call's, with who makes it.
func (s *carriedStream) Context() context.Context { return s.ctx }

// behind is one interceptor after another.
func behind(first, second grpc.StreamServerInterceptor) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		return first(srv, stream, info, func(srv any, stream grpc.ServerStream) error {
			return second(srv, stream, info, handler)
		})
	}
}
