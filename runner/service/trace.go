package service

import (
	"context"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"
)

// traceContext is the trace in which ctx is, as W3C's Trace Context has it (traceparent,
// tracestate): names and values in turns, in order. Nothing outside of a trace.
func traceContext(ctx context.Context) []string {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return nil
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	var all []string
	for _, name := range slices.Sorted(slices.Values(carrier.Keys())) {
		all = append(all, name, carrier.Get(name))
	}
	return all
}

// withTrace gives a call the trace in which ctx is, as metadata.
func withTrace(ctx context.Context) context.Context {
	if words := traceContext(ctx); words != nil {
		return metadata.AppendToOutgoingContext(ctx, words...)
	}
	return ctx
}

// traceEnv is the trace in which ctx is, as OpenTelemetry gives it to programs: TRACEPARENT,
// TRACESTATE.
func traceEnv(ctx context.Context) []string {
	words := traceContext(ctx)
	if words == nil {
		return nil
	}
	env := []string{"TRACESTATE="} // that of our own environment is of another trace
	for i := 0; i < len(words); i += 2 {
		env = append(env, strings.ToUpper(words[i])+"="+words[i+1])
	}
	return env
}
