// Package otlp sends what is traced to an OpenTelemetry collector, or to whatever else takes
// OTLP, as the environment says: OTEL_EXPORTER_OTLP_ENDPOINT and the other variables that
// the OpenTelemetry specification has for exporters, samplers, batches and resources. Without
// an endpoint there is nothing to send to, and nothing is traced. A variable that says nothing
// that is known here keeps nobody from working: it is warned of, and nothing is traced.
package otlp

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Options say what is sent, and as whom.
type Options struct {
	// Getenv reads the environment. The libraries below read some variables by themselves, so
	// it has to be that of the process.
	Getenv func(string) string
	// Name, Version and Instance are service.name, service.version and service.instance.id,
	// unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES say otherwise.
	Name, Version, Instance string
	// Logger hears why nothing is traced, and, once a minute at most, that nothing can be sent.
	Logger *slog.Logger
}

// Sender sends spans in batches, behind those who make them: nobody waits for it, and what
// it cannot send in time is dropped.
type Sender struct {
	provider *sdk.TracerProvider // nil: nothing is sent
}

// Open prepares the sending; it connects later.
func Open(ctx context.Context, o *Options) *Sender {
	if !wanted(o.Getenv) {
		return &Sender{}
	}
	// The libraries tell of what they cannot read with all that is in it, secrets too.
	otel.SetLogger(logr.Discard())
	s, err := open(ctx, o)
	if err != nil {
		o.Logger.Warn("nothing is traced", "error", err)
		return &Sender{}
	}
	return s
}

func open(ctx context.Context, o *Options) (*Sender, error) {
	if err := check(o.Getenv); err != nil {
		return nil, err
	}
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", o.Name), attribute.String("service.version", o.Version),
			attribute.String("service.instance.id", o.Instance)),
		resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, errors.New("OTEL_RESOURCE_ATTRIBUTES: want NAME=VALUE,… with % for what is not of letters and digits") //nolint:err113 // it is for people
	}
	exporter, err := newExporter(ctx, o.Getenv)
	if err != nil {
		return nil, err
	}
	otel.SetErrorHandler(&complaints{log: o.Logger})
	return &Sender{sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(about))}, nil
}

// wanted tells whether there is anybody to send to.
func wanted(getenv func(string) string) bool {
	if strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") || strings.EqualFold(getenv("OTEL_TRACES_EXPORTER"), "none") {
		return false
	}
	_, endpoint := either(getenv, "ENDPOINT")
	return endpoint != ""
}

// newExporter is one for the protocol of the environment, which has been checked.
func newExporter(ctx context.Context, getenv func(string) string) (sdk.SpanExporter, error) {
	if _, protocol := either(getenv, "PROTOCOL"); protocol == "grpc" {
		return otlptracegrpc.New(ctx)
	}
	return otlptracehttp.New(ctx)
}

// Tracer makes spans that are sent; nil if there is nobody to send them to.
func (s *Sender) Tracer() trace.Tracer {
	if s.provider == nil {
		return nil
	}
	return s.provider.Tracer("github.com/navvy-run/navvy")
}

// Close sends what is left, and gives up when ctx ends, with its error.
func (s *Sender) Close(ctx context.Context) error {
	if s.provider == nil {
		return nil
	}
	return s.provider.Shutdown(ctx)
}

// complaints take the errors of the libraries, which have no other place for them.
type complaints struct {
	log *slog.Logger

	mu   sync.Mutex
	last time.Time
}

// Handle implements otel.ErrorHandler.
func (c *complaints) Handle(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.last) < time.Minute {
		return
	}
	c.last = time.Now()
	c.log.Warn("what is traced cannot be sent", "error", err)
}
