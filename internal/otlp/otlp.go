// Package otlp sends what is traced to an OpenTelemetry collector, or to whatever else takes
// OTLP, as the environment says: OTEL_EXPORTER_OTLP_ENDPOINT and the other variables that
// the OpenTelemetry specification has for exporters, samplers, batches and resources. Without
// an endpoint there is nothing to send to, and nothing is traced.
package otlp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/navvy-run/navvy"
)

// Options say what is sent, and as whom.
type Options struct {
	// Getenv reads the environment. The libraries below read some variables by themselves, so
	// it has to be that of the process.
	Getenv func(string) string
	// Name, Version and Instance are service.name, service.version and service.instance.id,
	// unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES say otherwise.
	Name, Version, Instance string
	// Logger hears, once a minute at most, that nothing can be sent.
	Logger *slog.Logger
}

// Sender sends spans in batches, behind those who make them: nobody waits for it, and what
// it cannot send in time is dropped.
type Sender struct {
	provider *sdk.TracerProvider // nil: nothing is sent
}

// Open prepares the sending; it connects later. Errors wrap navvy.ErrInvalid and name the
// variable.
func Open(ctx context.Context, o *Options) (*Sender, error) {
	if !wanted(o.Getenv) {
		return &Sender{}, nil
	}
	exporter, err := newExporter(ctx, o.Getenv)
	if err != nil {
		return nil, err
	}
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", o.Name), attribute.String("service.version", o.Version),
			attribute.String("service.instance.id", o.Instance)),
		resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w: %w", err, navvy.ErrInvalid), exporter.Shutdown(ctx))
	}
	otel.SetErrorHandler(&complaints{log: o.Logger})
	return &Sender{sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(about))}, nil
}

// wanted tells whether there is anybody to send to.
func wanted(getenv func(string) string) bool {
	if strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") || strings.EqualFold(getenv("OTEL_TRACES_EXPORTER"), "none") {
		return false
	}
	return endpoint(getenv) != ""
}

func endpoint(getenv func(string) string) string {
	return cmp.Or(getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), getenv("OTEL_EXPORTER_OTLP_ENDPOINT"))
}

// newExporter is one for the protocol of the environment.
func newExporter(ctx context.Context, getenv func(string) string) (sdk.SpanExporter, error) {
	if kind := cmp.Or(getenv("OTEL_TRACES_EXPORTER"), "otlp"); kind != "otlp" {
		return nil, fmt.Errorf("OTEL_TRACES_EXPORTER is %q: there is otlp, and none: %w", kind, navvy.ErrInvalid)
	}
	if where := endpoint(getenv); !strings.HasPrefix(where, "http://") && !strings.HasPrefix(where, "https://") {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_ENDPOINT: want a URL such as http://127.0.0.1:4318: %w", navvy.ErrInvalid)
	}
	switch protocol := cmp.Or(getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), getenv("OTEL_EXPORTER_OTLP_PROTOCOL"), "http/protobuf"); protocol {
	case "http/protobuf":
		return otlptracehttp.New(ctx)
	case "grpc":
		return otlptracegrpc.New(ctx)
	default:
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL is %q: there is http/protobuf, and grpc: %w", protocol, navvy.ErrInvalid)
	}
}

// Tracer makes spans that are sent; nil if there is nobody to send them to.
func (s *Sender) Tracer() trace.Tracer {
	if s.provider == nil {
		return nil
	}
	return s.provider.Tracer("github.com/navvy-run/navvy")
}

// Close sends what is left, and gives up when ctx ends.
func (s *Sender) Close(ctx context.Context) error {
	if s.provider == nil {
		return nil
	}
	if err := s.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("some of what was traced could not be sent: %w", err)
	}
	return nil
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
