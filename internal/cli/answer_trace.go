package cli

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/navvy-run/navvy/internal/otlp"
)

// messagingSystems are the names that OpenTelemetry has for brokers, by the schemes of
// their URLs; others are called as their schemes are.
var messagingSystems = map[string]string{
	"amqp": "rabbitmq", "amqps": "rabbitmq", "azqueue": "azure_storage_queue", "azservicebus": "servicebus",
	"rediss": "redis", "tls": "nats",
}

// openTracing prepares that what the worker does is told to whom the environment names.
func (s *answering) openTracing(ctx context.Context) {
	host, _ := os.Hostname() // it is for people
	s.spans = otlp.Open(ctx, &otlp.Options{
		Getenv: s.app.env, Name: "navvy-worker", Version: s.app.version, Instance: host, Logger: s.log,
	})
}

// traceTime is how long the last traces may take.
const traceTime = 5 * time.Second

// closeTracing sends what is left of it.
func (s *answering) closeTracing() {
	ctx, cancel := context.WithTimeout(context.Background(), traceTime)
	defer cancel()
	if err := s.spans.Close(ctx); err != nil {
		s.log.Warn("some of what was traced could not be sent", "error", err)
	}
}

// system is what OpenTelemetry calls the broker of the requests.
func (s *answering) system() string {
	scheme, _, _ := strings.Cut(s.requests.url, "://")
	if system := messagingSystems[scheme]; system != "" {
		return system
	}
	return scheme
}

// kind is all that is told of the service: a command may have secrets in it.
func (s *answering) kind() string {
	kind, _, _ := strings.Cut(s.service, ":")
	return kind
}
