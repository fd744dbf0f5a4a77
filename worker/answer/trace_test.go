package answer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/worker/answer"
)

// tracer records spans.
func tracer(t *testing.T) (trace.Tracer, *tracetest.SpanRecorder) {
	t.Helper()
	recorder := tracetest.NewSpanRecorder()
	provider := sdk.NewTracerProvider(sdk.WithSpanProcessor(recorder), sdk.WithSampler(sdk.AlwaysSample()))
	t.Cleanup(func() {
		if err := provider.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return provider.Tracer("test"), recorder
}

// attributes are those of a span, by name, as text.
func attributes(s sdk.ReadOnlySpan) map[string]string {
	all := map[string]string{}
	for _, a := range s.Attributes() {
		all[string(a.Key)] = a.Value.String()
	}
	return all
}

// told is what the spans say, in the order of their ends: a line each, the calls of the
// service indented.
func told(t *testing.T, spans []sdk.ReadOnlySpan) []string {
	t.Helper()
	var lines []string
	for _, s := range spans {
		a := attributes(s)
		line := fmt.Sprintf("%s %s %s %s", s.Name(), a["messaging.message.id"], a["navvy.attempt"], s.Status().Code)
		if s.Status().Code == codes.Error {
			line += " " + s.Status().Description
		}
		switch s.Name() {
		case answer.OperationProcess:
			if s.SpanKind() != trace.SpanKindConsumer || s.Parent().IsValid() {
				t.Errorf("%s is of kind %s, and in %v", line, s.SpanKind(), s.Parent())
			}
			line += ": " + a["navvy.outcome"]
		case answer.OperationInvoke:
			if s.SpanKind() != trace.SpanKindClient || !s.Parent().IsValid() {
				t.Errorf("%s is of kind %s, and in %v", line, s.SpanKind(), s.Parent())
			}
			line = "  " + line
		}
		lines = append(lines, line)
	}
	return lines
}

// Each delivery is a span that tells what became of it, and holds one for each call.
func TestSpans(t *testing.T) {
	inWorld(t, func(w *world) {
		tracer, recorder := tracer(w.T)
		away := true
		service := func(ctx context.Context, r *answer.Request) ([]byte, error) {
			if !trace.SpanFromContext(ctx).SpanContext().IsValid() {
				w.Error("the service is called outside of the trace")
			}
			switch string(r.Body) {
			case "away":
				if away = !away; !away {
					return nil, navvy.ErrUnavailable
				}
			case "bad":
				return nil, errors.New("no: " + strings.Repeat("é", 1<<10))
			case "never":
				return nil, fmt.Errorf("that is none: %w", navvy.ErrInvalid)
			}
			return r.Body, nil
		}
		r := w.start(service, &answer.Options{Slots: 1, Attempts: 2, Tracer: tracer, System: "memory", Kind: "grpc"}, 0)
		for _, body := range []string{"good", "away"} {
			w.ask(body)
			w.hear(w.responses)
		}
		w.ask("never", "bad")
		w.silent(w.responses)
		r.stop()
		no := "no: " + strings.Repeat("é", (1<<10-len("no: "))/2)
		want := []string{
			"  InvokeService id-good 1 Unset", "ProcessMessage id-good 1 Unset: answered",
			"  InvokeService id-away 1 Error unavailable", "  InvokeService id-away 1 Unset", "ProcessMessage id-away 1 Unset: answered",
			"  InvokeService id-never 1 Error that is none: invalid", "ProcessMessage id-never 1 Error that is none: invalid: dead",
			"  InvokeService id-bad 1 Error " + no, "ProcessMessage id-bad 1 Error " + no + ": failed",
			"  InvokeService id-bad 2 Error " + no, "ProcessMessage id-bad 2 Error " + no + ": dead",
		}
		if diff := cmp.Diff(want, told(w.T, recorder.Ended())); diff != "" {
			w.Error(diff)
		}
		for i, s := range recorder.Ended()[:2] {
			for key, value := range map[attribute.Key][2]string{
				"messaging.system": {"", "memory"}, "navvy.service": {"grpc", "grpc"}, "messaging.operation.type": {"", "process"},
				"messaging.destination.name": {"", "mem://requests"}, "messaging.message.body.size": {"4", ""}, "navvy.waited_seconds": {"", "0"},
			} {
				if got := attributes(s)[string(key)]; got != value[i] {
					w.Errorf("%s: %s is %q, not %q", s.Name(), key, got, value[i])
				}
			}
		}
		if call, all := recorder.Ended()[0], recorder.Ended()[1]; call.Parent().SpanID() != all.SpanContext().SpanID() {
			w.Error("the call is not in the delivery")
		}
	})
}

// What was not ended by its answer is told as what it is.
func TestSpansOfTheEnd(t *testing.T) {
	inWorld(t, func(w *world) {
		tracer, recorder := tracer(w.T)
		begun := make(chan struct{})
		r := w.start(func(ctx context.Context, _ *answer.Request) ([]byte, error) {
			close(begun)
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}, &answer.Options{Tracer: tracer}, time.Hour)
		w.ask("long")
		<-begun
		r.hard()
		r.stop()
		want := []string{"  InvokeService id-long 1 Error the worker ends", "ProcessMessage id-long 1 Error the worker ends: returned"}
		if diff := cmp.Diff(want, told(w.T, recorder.Ended())); diff != "" {
			w.Error(diff)
		}
	})
}

// What somebody else has sent is told as OTLP can carry it.
func TestSpansOfStrangeIDs(t *testing.T) {
	inWorld(t, func(w *world) {
		tracer, recorder := tracer(w.T)
		r := w.start(upper, &answer.Options{Tracer: tracer}, 0)
		long := strings.Repeat("x", 3<<10)
		if err := w.requests.Send(w.Context(), queue.Message{ID: "a\xff" + long, Correlation: "c\xfe" + long, Body: []byte("a")}); err != nil {
			w.Fatal(err)
		}
		w.hear(w.responses)
		r.stop()
		for _, s := range recorder.Ended() {
			for key, text := range attributes(s) {
				if !utf8.ValidString(text) || len(text) > 1<<10 {
					w.Errorf("%s: %s is %q", s.Name(), key, text)
				}
			}
		}
		if n := len(recorder.Ended()); n != 2 {
			w.Errorf("%d spans", n)
		}
	})
}
