package otlp_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy"
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
		s, err := otlp.Open(t.Context(), options(in(t, env), t.Output()))
		if err != nil || s.Tracer() != nil || s.Close(t.Context()) != nil {
			t.Errorf("%v: %v, %v", env, s, err)
		}
	}
}

// What the environment says wrongly is refused by its name.
func TestMistakes(t *testing.T) {
	for says, env := range map[string]map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT: want a URL":      {"OTEL_EXPORTER_OTLP_ENDPOINT": "127.0.0.1:4318"},
		"OTEL_EXPORTER_OTLP_PROTOCOL is \"http/json\"": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
		"OTEL_TRACES_EXPORTER is \"zipkin\"":           {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_TRACES_EXPORTER": "zipkin"},
		"OTEL_RESOURCE_ATTRIBUTES":                     {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_RESOURCE_ATTRIBUTES": "a"},
	} {
		t.Run(says, func(t *testing.T) {
			if _, err := otlp.Open(t.Context(), options(in(t, env), t.Output())); !errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), says) {
				t.Errorf("got %v", err)
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
	s, err := otlp.Open(t.Context(), options(env, t.Output()))
	if err != nil {
		t.Fatal(err)
	}
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
			s, err := otlp.Open(t.Context(), options(in(t, env), warned))
			if err != nil {
				t.Fatal(err)
			}
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
