package answer

import (
	"context"
	"errors"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/navvy-run/navvy/queue"
)

// The operations that a worker traces, by CloudWorker's names: one for each delivery of a
// request, and in it one for each call of the service.
const (
	OperationProcess = "ProcessMessage"
	OperationInvoke  = "InvokeService"
)

// Attributes of these operations. Those of messaging are OpenTelemetry's semantic
// conventions for messaging.
const (
	attrSystem       = attribute.Key("messaging.system")
	attrType         = attribute.Key("messaging.operation.type")
	attrQueue        = attribute.Key("messaging.destination.name")
	attrMessage      = attribute.Key("messaging.message.id")
	attrConversation = attribute.Key("messaging.message.conversation_id")
	attrSize         = attribute.Key("messaging.message.body.size") // in bytes
	attrService      = attribute.Key("navvy.service")
	attrAttempt      = attribute.Key("navvy.attempt")
	attrOutcome      = attribute.Key("navvy.outcome")
	attrWaited       = attribute.Key("navvy.waited_seconds") // from when it was sent, by the broker's clock and ours
)

// outcome is what became of a delivery.
type outcome string

const (
	outcomeAnswered outcome = "answered"
	outcomeFailed   outcome = "failed"   // it is tried again
	outcomeDead     outcome = "dead"     // it is a dead letter
	outcomeLost     outcome = "lost"     // the lease was over: it comes again
	outcomeReturned outcome = "returned" // the worker ended
)

// longestText bounds what a span tells of a text, in bytes.
const longestText = 1 << 10

// clean is a text of somebody else's as OTLP can carry it: a batch with one that is not UTF-8
// would be dropped as a whole.
func clean(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), longestText)], "")
}

// tracing makes spans.
type tracing struct {
	tracer       trace.Tracer
	system, kind string // as Options.System and Kind
}

func newTracing(o *Options) tracing {
	if o.Tracer == nil {
		return tracing{tracer: noop.Tracer{}}
	}
	return tracing{o.Tracer, o.System, o.Kind}
}

// process begins the span of a delivery.
func (t tracing) process(ctx context.Context, from *queue.Queue, l *queue.Lease, attempt int) (context.Context, trace.Span) {
	ctx, span := t.tracer.Start(ctx, OperationProcess, trace.WithSpanKind(trace.SpanKindConsumer))
	if !span.IsRecording() {
		return ctx, span
	}
	span.SetAttributes(attrSystem.String(t.system), attrService.String(t.kind), attrType.String("process"), attrQueue.String(clean(from.Name())), attrMessage.String(clean(l.ID())), attrAttempt.Int(attempt))
	if c := l.Correlation(); c != "" {
		span.SetAttributes(attrConversation.String(clean(c)))
	}
	if sent := l.Enqueued(); !sent.IsZero() {
		span.SetAttributes(attrWaited.Float64(max(0, time.Since(sent)).Seconds()))
	}
	return ctx, span
}

// invoke begins the span of a call of the service.
func (t tracing) invoke(ctx context.Context, r *Request) (context.Context, trace.Span) {
	ctx, span := t.tracer.Start(ctx, OperationInvoke, trace.WithSpanKind(trace.SpanKindClient))
	if span.IsRecording() {
		span.SetAttributes(attrService.String(t.kind), attrMessage.String(clean(r.ID)), attrAttempt.Int(r.Attempt), attrSize.Int(len(r.Body)))
	}
	return ctx, span
}

// finish ends the span of a delivery, which is well if it was answered.
func finish(span trace.Span, became outcome, err error) {
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(attrOutcome.String(string(became)))
	if err == nil && became != outcomeAnswered {
		err = errors.New(string(became))
	}
	endSpan(span, err)
}

// endSpan ends a span, which failed if there is an error.
func endSpan(span trace.Span, err error) {
	if err != nil && span.IsRecording() {
		span.SetStatus(codes.Error, clean(err.Error()))
	}
	span.End()
}
