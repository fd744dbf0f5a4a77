package cli

import (
	"context"
	"os"
	"strings"

	"github.com/navvy-run/navvy/internal/otlp"
)

// messagingSystems are the names that OpenTelemetry has for brokers, by the schemes of
// their URLs; others are called as their schemes are.
var messagingSystems = map[string]string{
	"amqp": "rabbitmq", "amqps": "rabbitmq", "azqueue": "azure_storage_queue", "azservicebus": "servicebus",
	"rediss": "redis", "tls": "nats",
}

// openTracing prepares that what the worker does is told to whom the environment names.
func (s *answering) openTracing(ctx context.Context) (err error) {
	host, _ := os.Hostname() // it is for people
	s.spans, err = otlp.Open(ctx, &otlp.Options{
		Getenv: s.app.env, Name: "navvy-worker", Version: s.app.version, Instance: host, Logger: s.log,
	})
	if err != nil {
		return &usageError{err}
	}
	return nil
}

// closeTracing sends what is left of it.
func (s *answering) closeTracing() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	if err := s.spans.Close(ctx); err != nil {
		s.log.Warn("traces", "error", err)
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
