package service_test

import (
	"context"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	servicev1 "github.com/navvy-run/navvy/api/navvy/service/v1"
	"github.com/navvy-run/navvy/runner/service"
)

// inTrace is a context in a trace, and what W3C's Trace Context calls it.
func inTrace(t *testing.T) (_ context.Context, parent, state string) {
	t.Helper()
	s, err := trace.ParseTraceState("vendor=a")
	if err != nil {
		t.Fatal(err)
	}
	span := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1: 0xab, 15: 1}, SpanID: trace.SpanID{7: 2}, TraceFlags: trace.FlagsSampled, TraceState: s,
	})
	return trace.ContextWithSpanContext(t.Context(), span), "00-00ab0000000000000000000000000001-0000000000000002-01", "vendor=a"
}

// Programs are told of the trace by their environment.
func TestTraceOfPrograms(t *testing.T) {
	t.Parallel()
	s := opened(t, `cgi-raw:sh -c 'echo "$TRACEPARENT $TRACESTATE"'`, service.Options{})
	if got := ask(t, s, ""); got != " \n" {
		t.Errorf("outside of a trace it is told of %q", got)
	}
	ctx, parent, state := inTrace(t)
	answer, err := s.Invoke(ctx, &service.Request{})
	if want := parent + " " + state + "\n"; err != nil || string(answer) != want {
		t.Errorf("it is told of %q, %v; want %q", answer, err, want)
	}
}

// listener is a service that tells of the trace in which it is called.
type listener struct {
	servicev1.UnimplementedUserServiceServer
}

func (listener) Initialize(context.Context, *servicev1.InitializeRequest) (*servicev1.InitializeResponse, error) {
	return &servicev1.InitializeResponse{}, nil
}

func (listener) Dispose(context.Context, *servicev1.DisposeRequest) (*servicev1.DisposeResponse, error) {
	return &servicev1.DisposeResponse{}, nil
}

func (listener) Invoke(ctx context.Context, _ *servicev1.InvokeRequest) (*servicev1.InvokeResponse, error) {
	var words []byte
	in, _ := metadata.FromIncomingContext(ctx)
	for _, key := range []string{"traceparent", "tracestate"} {
		for _, v := range in.Get(key) {
			words = append(words, v+" "...)
		}
	}
	return &servicev1.InvokeResponse{Output: words}, nil
}

// Servers are told of the trace by the metadata of their calls.
func TestTraceOfServers(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	servicev1.RegisterUserServiceServer(server, listener{})
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() {
		server.Stop()
		serving.Wait()
	})
	s := opened(t, "grpc:unix:"+path, service.Options{})
	ready(t, s)
	if got := ask(t, s, ""); got != "" {
		t.Errorf("outside of a trace it is told of %q", got)
	}
	ctx, parent, state := inTrace(t)
	answer, err := s.Invoke(ctx, &service.Request{})
	if want := parent + " " + state + " "; err != nil || string(answer) != want {
		t.Errorf("it is told of %q, %v; want %q", answer, err, want)
	}
}
