package faas_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/engine/memory"
	"github.com/navvy-run/navvy/gateway/faas"
	"github.com/navvy-run/navvy/internal/holder"
	"github.com/navvy-run/navvy/policy"
	"github.com/navvy-run/navvy/runner"
	runnerdriver "github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/server/auth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a holder behind a gateway, whose functions are in Go: what they do is told by
// their names. Those of real Python are in test/faas.
type world struct {
	h    *holder.Holder
	http *httptest.Server
	me   auth.Identity // who calls
}

func newWorld(t testing.TB, o *faas.Options) *world {
	t.Helper()
	w := &world{h: hold(t), me: auth.Identity{Name: "tester", Role: auth.RoleAdmin, Local: true}}
	w.http = httptest.NewServer(faas.New(w.h.Conn(), func(r *http.Request) (auth.Identity, error) {
		if name := r.Header.Get("Test-Name"); name != "" {
			return auth.Identity{Name: name, Role: auth.RoleUser, Serial: "1"}, nil
		}
		return w.me, nil
	}, o))
	w.http.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	t.Cleanup(w.http.Close)
	return w
}

// hold starts a holder until the test ends.
func hold(t testing.TB) *holder.Holder {
	t.Helper()
	dir, err := holder.OpenDir(t.TempDir() + "/data")
	if err != nil {
		t.Fatal(err)
	}
	lock, _, err := dir.TryLock()
	if err != nil || lock == nil {
		t.Fatalf("no lock: %v", err)
	}
	p, err := policy.Parse("policy.yaml", []byte("roles: {user: {isolate: off}}"))
	if err != nil {
		t.Fatal(err)
	}
	h, err := holder.Start(t.Context(), lock, holder.Config{
		Dir: dir, Owner: "tester", Policy: p, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		OpenStore: func(context.Context, func(bool), func(error)) (driver.Store, error) { return memory.New(), nil },
		Runners: func(_ context.Context, journal *runner.Journal) ([]*runner.Runner, error) {
			return []*runner.Runner{runner.New(goFunctions{}, &runner.Options{Journal: journal})}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if _, err := h.Close(ctx, true); err != nil {
			t.Error(err)
		}
	})
	return h
}

// inside is a client of the holder itself, for whoever runs it.
func (w *world) inside() *client.Client { return client.New(w.h.Conn()) }

// call makes a call of the gateway; body is JSON, or nothing.
func (w *world) call(t testing.TB, method, path, body string, header ...string) (status int, answer map[string]any, h http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, w.http.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := w.http.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &answer); err != nil {
			t.Fatalf("%s %s: %v: %q", method, path, err, text)
		}
	}
	return resp.StatusCode, answer, resp.Header
}

// text is a field of an answer.
func text(answer map[string]any, field string) string {
	s, _ := answer[field].(string)
	return s
}

// object is a JSON object of strings.
func object(pairs ...string) string {
	o := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		o[pairs[i]] = pairs[i+1]
	}
	b, _ := json.Marshal(o)
	return string(b)
}

// wrapped is base 64 as Python's codecs write it.
func wrapped(b []byte) string {
	var out strings.Builder
	for len(b) > 0 {
		n := min(57, len(b))
		out.WriteString(base64.StdEncoding.EncodeToString(b[:n]) + "\n")
		b = b[n:]
	}
	return out.String()
}

// none is a payload.
var none = wrapped([]byte("\x80\x04N."))

// register registers a function.
func (w *world) register(t testing.TB, name string, header ...string) string {
	t.Helper()
	status, answer, _ := w.call(t, "POST", "/register_function", object("name", name, "payload", none), header...)
	if status != http.StatusCreated {
		t.Fatalf("register: %d %v", status, answer)
	}
	return text(answer, "function_id")
}

// execute calls a function, with an input.
func (w *world) execute(t testing.TB, id, payload string, header ...string) string {
	t.Helper()
	status, answer, _ := w.call(t, "POST", "/execute_function", object("function_id", id, "payload", payload), header...)
	if status != http.StatusCreated {
		t.Fatalf("execute: %d %v", status, answer)
	}
	return text(answer, "task_id")
}

// result asks for a result until there is one.
func (w *world) result(t testing.TB, task string) (status string, value []byte) {
	t.Helper()
	for {
		code, answer, _ := w.call(t, "GET", "/result/"+task, "")
		if code != http.StatusOK || text(answer, "task_id") != task {
			t.Fatalf("result: %d %v", code, answer)
		}
		if status = text(answer, "status"); status == "QUEUED" || status == "RUNNING" {
			if text(answer, "result") != "" {
				t.Fatalf("%s with a result", status)
			}
			continue
		}
		value, err := base64.StdEncoding.DecodeString(text(answer, "result")) // which passes over newlines
		if err != nil || wrapped(value) != text(answer, "result") {
			t.Fatalf("no payload, %v: %.200q", err, text(answer, "result"))
		}
		return status, value
	}
}

// goFunctions run functions by their names.
type goFunctions struct{}

func (goFunctions) Capabilities() runnerdriver.Capabilities {
	return runnerdriver.Capabilities{Kind: navvy.KindFunction, Output: true}
}

func (goFunctions) Start(ctx context.Context, t *runnerdriver.Task) (runnerdriver.Execution, error) {
	f, err := t.Function(ctx)
	if err != nil {
		return nil, err
	}
	x := &goFunction{t: t, name: f.Name, stop: make(chan struct{}, 1)}
	return x, nil
}

func (goFunctions) Recover(context.Context, []byte, *runnerdriver.Task) (runnerdriver.Execution, error) {
	return nil, navvy.ErrNotFound
}

func (goFunctions) Close() error { return nil }

type goFunction struct {
	t    *runnerdriver.Task
	name string
	stop chan struct{}
}

func (x *goFunction) Handle() []byte { return nil }

// large is the length of what the function of that name returns.
const large = 3<<20 + 17

func (x *goFunction) Wait(ctx context.Context) (runnerdriver.End, error) {
	var end runnerdriver.End
	refuse := func(r navvy.Reason, message string) { end.Refusal = &runnerdriver.Refusal{Reason: r, Message: message} }
	var value []byte
	switch x.name {
	case "echo":
		_, _ = io.WriteString(x.t.Stdout, "printed\n")
		value = x.t.Input
	case "raise":
		value = x.t.Input
		refuse(navvy.ReasonException, "ValueError: bad")
	case "die":
		refuse(navvy.ReasonSignal, "worker process died: signal 9")
	case "late":
		refuse(navvy.ReasonTimeout, "timed out after 1 s")
	case "partly", "largely":
		value = []byte("\x80\x04")
		if x.name == "largely" {
			value = bytes.Repeat([]byte("v"), large)
		}
		refuse(navvy.ReasonTimeout, "timed out after 1 s")
	case "unloadable":
		value = x.t.Input
		refuse(navvy.ReasonStart, "function f cannot be loaded")
	case "large":
		value = bytes.Repeat([]byte("v"), large)
	case "empty":
	default: // until it is stopped
		select {
		case <-ctx.Done():
			return end, ctx.Err()
		case <-x.stop:
		}
		refuse(navvy.ReasonStopped, "stopped")
	}
	_, err := x.t.Value.Write(value)
	return end, err
}

func (x *goFunction) Stop(context.Context, bool) error {
	select {
	case x.stop <- struct{}{}:
	default:
	}
	return nil
}
