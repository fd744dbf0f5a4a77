package otlp_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy/internal/otlp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// in sets the environment of the test, which the libraries read, too; so tests run in turns.
func in(t *testing.T, env map[string]string) func(string) string {
	t.Helper()
	for name, value := range env {
		t.Setenv(name, value)
	}
	return func(name string) string { return env[name] }
}

func options(getenv func(string) string, log io.Writer) *otlp.Options {
	return &otlp.Options{Getenv: getenv, Name: "worker", Version: "1.2", Instance: "a", Logger: slog.New(slog.NewTextHandler(log, nil))}
}

// Without an endpoint nothing is traced, and nothing said.
func TestNobody(t *testing.T) {
	for _, env := range []map[string]string{
		{}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
	} {
		var said strings.Builder
		s := otlp.Open(t.Context(), options(in(t, env), &said))
		if s.Tracer() != nil || s.Close(t.Context()) != nil || said.String() != "" {
			t.Errorf("%v: it says %s", env, said.String())
		}
	}
}

// What the environment says wrongly is told by its name, without what may be secret, and
// nothing is traced: whoever works goes on.
func TestMistakes(t *testing.T) {
	const here = "OTEL_EXPORTER_OTLP_ENDPOINT"
	for says, env := range map[string]map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT: want a URL":        {here: "127.0.0.1:4318"},
		"OTEL_EXPORTER_OTLP_ENDPOINT: want a URL s":      {here: "http://"},
		"OTEL_EXPORTER_OTLP_ENDPOINT: want a URL su":     {here: "http://user:s3cret@["},
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: want a URL": {here: "http://a", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "b"},
		"OTEL_EXPORTER_OTLP_PROTOCOL: it is":             {here: "http://a", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
		"OTEL_TRACES_EXPORTER: it is":                    {here: "http://a", "OTEL_TRACES_EXPORTER": "zipkin"},
		"OTEL_RESOURCE_ATTRIBUTES: want":                 {here: "http://a", "OTEL_RESOURCE_ATTRIBUTES": "a"},
		"OTEL_EXPORTER_OTLP_HEADERS: header 2: want":     {here: "http://a", "OTEL_EXPORTER_OTLP_HEADERS": "a=b,Authorization: Bearer s3cret"},
		"OTEL_EXPORTER_OTLP_CERTIFICATE: open /none":     {here: "http://a", "OTEL_EXPORTER_OTLP_CERTIFICATE": "/none"},
		"OTEL_TRACES_SAMPLER: it is":                     {here: "http://a", "OTEL_TRACES_SAMPLER": "ratio"},
		"OTEL_TRACES_SAMPLER_ARG: it is":                 {here: "http://a", "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1%"},
		"OTEL_BSP_SCHEDULE_DELAY: it is":                 {here: "http://a", "OTEL_BSP_SCHEDULE_DELAY": "5s"},
		"OTEL_EXPORTER_OTLP_TIMEOUT: it is":              {here: "http://a", "OTEL_EXPORTER_OTLP_TIMEOUT": "-1"},
	} {
		t.Run(says, func(t *testing.T) {
			var said strings.Builder
			s := otlp.Open(t.Context(), options(in(t, env), &said))
			if text := said.String(); s.Tracer() != nil || !strings.Contains(text, says) || strings.Contains(text, "s3cret") {
				t.Errorf("it says %s", text)
			}
		})
	}
}

// What is traced arrives when the sender is closed, with its resource and the headers that
// the environment has.
func TestSends(t *testing.T) {
	got := make(chan []byte, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Authorization") != "Bearer s3cret" {
			t.Errorf("%s %v: %v", r.URL, r.Header, err)
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
		got <- body
	}))
	defer server.Close()
	env := in(t, map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": server.URL, "OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20s3cret",
		"OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=box-7,team=red",
	})
	s := otlp.Open(t.Context(), options(env, t.Output()))
	_, span := s.Tracer().Start(t.Context(), "ProcessMessage")
	span.End()
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	body := <-got // protobuf, in which texts are as they are
	for _, text := range []string{"ProcessMessage", "worker", "1.2", "box-7", "red", "github.com/navvy-run/navvy"} {
		if !bytes.Contains(body, []byte(text)) {
			t.Errorf("there is no %s in %q", text, body)
		}
	}
}

// A collector that is away, or takes nothing, costs those who work no time, and is told of.
func TestAway(t *testing.T) {
	stuck := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-stuck }))
	defer server.Close()
	defer close(stuck)
	for name, env := range map[string]map[string]string{
		"http": {"OTEL_EXPORTER_OTLP_ENDPOINT": server.URL},
		"grpc": {"OTEL_EXPORTER_OTLP_ENDPOINT": server.URL, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
	} {
		t.Run(name, func(t *testing.T) {
			env["OTEL_EXPORTER_OTLP_TIMEOUT"], env["OTEL_BSP_EXPORT_TIMEOUT"] = "50", "100" // ms
			warned := make(warnings, 1)
			s := otlp.Open(t.Context(), options(in(t, env), warned))
			for range 10_000 { // more than are kept
				_, span := s.Tracer().Start(t.Context(), "ProcessMessage")
				span.End()
			}
			if err := s.Close(t.Context()); err != nil { // it has tried, each time as long as it may
				t.Error(err)
			}
			if text := <-warned; !strings.Contains(text, "what is traced cannot be sent") {
				t.Errorf("logged: %s", text)
			}
		})
	}
}

// warnings keep the first line of a log, from whatever goroutine.
type warnings chan string

func (w warnings) Write(line []byte) (int, error) {
	select {
	case w <- string(line):
	default:
	}
	return len(line), nil
}
