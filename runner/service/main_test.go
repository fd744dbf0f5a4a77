package service_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver/drivertest"
	"github.com/navvy-run/navvy/runner/process"
	"github.com/navvy-run/navvy/runner/process/cgroup"
	"github.com/navvy-run/navvy/runner/service"
)

// envAct makes the test binary, started again, one of the services of actors.
const envAct = "NAVVY_TEST_ACT"

func TestMain(m *testing.M) {
	if act := actors[os.Getenv(envAct)]; act != nil {
		if err := act(); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// In a group that was delegated to us we step aside before our children are there.
	_ = cgroup.Open(&cgroup.Options{Name: "navvy-test-main-" + strconv.Itoa(os.Getpid())}).Close()
	goleak.VerifyTestMain(m)
}

// self is the test binary as a word of a command.
func self(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return "'" + path + "'"
}

// acting is the environment in which the test binary is a service.
func acting(name string) []string { return []string{envAct + "=" + name} }

// processes returns a driver that lives as long as the test.
func processes(t testing.TB, o process.Options) *process.Driver {
	t.Helper()
	o.Work = filepath.Join(t.TempDir(), "work")
	d := process.NewDriver(&o)
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// logged takes what a service has logged.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// opened opens a service that is closed with the test.
func opened(t testing.TB, spec string, o service.Options) service.Service {
	t.Helper()
	s, err := tryOpen(t, spec, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func tryOpen(t testing.TB, spec string, o service.Options) (service.Service, error) {
	t.Helper()
	if o.Processes == nil {
		o.Processes = processes(t, process.Options{})
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	return service.Open(t.Context(), spec, &o)
}

// ask invokes a service, which must answer.
func ask(t testing.TB, s service.Service, body string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), drivertest.Patience)
	defer cancel()
	answer, err := s.Invoke(ctx, &service.Request{ID: "r1", Attempt: 1, Body: []byte(body)})
	if err != nil {
		t.Fatalf("invoke with %.80q: %v", body, err)
	}
	return string(answer)
}

// fails invokes a service, which must fail the request with these words. It tells
// whether that is final.
func fails(t testing.TB, s service.Service, body, words string) (final bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), drivertest.Patience)
	defer cancel()
	answer, err := s.Invoke(ctx, &service.Request{Body: []byte(body)})
	failure, ok := errors.AsType[*service.Failure](err)
	if !ok || !strings.Contains(failure.Message, words) {
		t.Fatalf("invoke with %.80q: %q, %v; want a failure with %q", body, answer, err, words)
	}
	return failure.Final
}

// ready waits until a service is up.
func ready(t testing.TB, s service.Service) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), drivertest.Patience)
	defer cancel()
	if err := s.Ready(ctx); err != nil {
		t.Fatal(err)
	}
}

// many invokes a service n times at once and checks each answer.
func many(t *testing.T, s service.Service, n int, body, want func(i int) string) {
	t.Helper()
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			answer, err := s.Invoke(t.Context(), &service.Request{Body: []byte(body(i))})
			if err != nil || string(answer) != want(i) {
				t.Errorf("%d: %q, %v; want %q", i, answer, err, want(i))
			}
		})
	}
	all.Wait()
}

// cancels checks that an invocation which is cancelled after begun was closed is given
// back with the cause, soon.
func cancels(t *testing.T, s service.Service, body string, begun func() bool) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	lost := errors.New("the lease is lost")
	ended := make(chan error, 1)
	go func() {
		_, err := s.Invoke(ctx, &service.Request{Body: []byte(body)})
		ended <- err
	}()
	until(t, begun)
	cancel(lost)
	select {
	case err := <-ended:
		if !errors.Is(err, lost) {
			t.Errorf("a cancelled invocation ended with %v", err)
		}
	case <-time.After(drivertest.Patience):
		t.Fatal("a cancelled invocation does not end")
	}
}

// until waits for something that somebody else's process does.
func until(t testing.TB, there func() bool) {
	t.Helper()
	deadline := time.Now().Add(drivertest.Patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !there() {
		if <-tick.C; time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
	}
}

// exists tells whether there is a file.
func exists(path string) func() bool {
	return func() bool {
		_, err := os.Stat(path)
		return err == nil
	}
}

func TestForms(t *testing.T) {
	t.Parallel()
	for spec, words := range map[string]string{
		"":                              "no such form",
		"soap:x":                        "no such form",
		"echo:x":                        "write echo",
		"cgi":                           "write cgi:CMD",
		"cgi:":                          "names no program",
		"cgi:a | b":                     "is for a shell",
		"cgi-raw:'a":                    "not closed",
		"lines:no-such-program-at-all":  "no-such-program-at-all: command not found",
		"grpc:":                         "HOST:PORT or unix:PATH",
		"grpc:localhost:http":           "is no port",
		"grpc:10.0.0.1:80":              "is not of this machine",
		"grpc:unix:":                    "names no socket",
		"grpc-any-cmd:python3 x.py":     "first word says where",
		"grpc-cmd:no-such-program-here": "command not found in PATH",
	} {
		if s, err := tryOpen(t, spec, service.Options{}); err == nil || !strings.Contains(err.Error(), words) ||
			!errors.Is(err, navvy.ErrInvalid) && !errors.Is(err, navvy.ErrUnsupported) {
			t.Errorf("%q: %v, %v; want %q", spec, s, err, words)
		}
	}
	_, err := service.Open(t.Context(), "cgi:cat", nil)
	if !errors.Is(err, navvy.ErrUnsupported) {
		t.Errorf("without processes: %v", err)
	}
	_, err = tryOpen(t, "cgi:cat", service.Options{Limits: navvy.Limits{Memory: 1 << 30}})
	if !errors.Is(err, navvy.ErrUnsupported) || !strings.Contains(err.Error(), "cannot enforce memory") {
		t.Errorf("with a limit that is not enforced: %v", err)
	}
}

func TestEcho(t *testing.T) {
	t.Parallel()
	s := opened(t, "echo", service.Options{})
	ready(t, s)
	many(t, s, 100, strconv.Itoa, strconv.Itoa)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Invoke(ctx, &service.Request{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	closes(t, s)
}

// closes closes a service, which then serves nobody; and once more.
func closes(t *testing.T, s service.Service) {
	t.Helper()
	for range 2 {
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.Invoke(t.Context(), &service.Request{}); !errors.Is(err, navvy.ErrClosed) {
		t.Errorf("invoked after its end: %v", err)
	}
	if err := s.Ready(t.Context()); !errors.Is(err, navvy.ErrClosed) {
		t.Errorf("ready after its end: %v", err)
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	for line, want := range map[string][]string{
		"a":                       {"a"},
		" a\tb  c ":               {"a", "b", "c"},
		`sh -c 'a | b > "$c"'`:    {"sh", "-c", `a | b > "$c"`},
		`"a b"c'd'\ e`:            {"a bcd e"},
		`a "" ''`:                 {"a", "", ""},
		`"\"\\\$\a"`:              {`"\$\a`},
		`'it'\''s'`:               {"it's"},
		`a --x=*.c ~/y [z] a#b !`: {"a", "--x=*.c", "~/y", "[z]", "a#b", "!"},
	} {
		got, err := service.Words(line)
		if err != nil || strings.Join(got, "\x00") != strings.Join(want, "\x00") || len(got) != len(want) {
			t.Errorf("%s: %q, %v", line, got, err)
		}
	}
	for _, line := range []string{"", "  ", "'a", `"a`, `a\`, "a|b", "a;b", "a&", "a>b", "a$b", `"$a"`, "a`b`", "a\nb", "''", "a\x00"} {
		if got, err := service.Words(line); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%q: %q, %v", line, got, err)
		}
	}
}

func FuzzWords(f *testing.F) {
	f.Add(`a 'b' "c" \d`)
	f.Fuzz(func(t *testing.T, line string) {
		words, err := service.Words(line)
		if err != nil {
			return
		}
		quoted := make([]string, len(words))
		for i, w := range words {
			quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		again, err := service.Words(strings.Join(quoted, " "))
		if err != nil || strings.Join(again, "\x00") != strings.Join(words, "\x00") {
			t.Errorf("%q became %q, %v", words, again, err)
		}
	})
}
