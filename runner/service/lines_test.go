package service_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver/drivertest"
	"github.com/navvy-run/navvy/runner/service"
)

func TestLines(t *testing.T) {
	t.Parallel()
	s := opened(t, "lines:cat", service.Options{})
	ready(t, s)
	many(t, s, 2000, strconv.Itoa, strconv.Itoa)
	for _, body := range []string{"", "\xff\x00\r", strings.Repeat("x", 1<<20)} {
		if got := ask(t, s, body); got != body {
			t.Errorf("%.40q came back as %.40q", body, got)
		}
	}
	if !fails(t, s, "a\nb", "has a newline") {
		t.Error("a body with a newline may be tried again")
	}
	many(t, s, 10, strconv.Itoa, strconv.Itoa)
	closes(t, s)
}

// TestLinesDie has a service that dies of one request: that one has failed, those behind
// it had not begun, and the service is started again.
func TestLinesDie(t *testing.T) {
	t.Parallel()
	s := opened(t, "lines:"+self(t), service.Options{Env: acting("lines")})
	pid := ask(t, s, "pid")
	var all sync.WaitGroup
	all.Go(func() { fails(t, s, "die 50", "the service died: exit code 7: I die, during the request") })
	all.Wait()
	ready(t, s)
	if now := ask(t, s, "pid"); now == pid {
		t.Error("it is the same process as before")
	}
}

// TestLinesBehind kills a service that works for one request while others wait.
func TestLinesBehind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := opened(t, "lines:"+self(t), service.Options{Env: acting("lines"), Dir: dir, Patience: time.Millisecond})
	head := make(chan error, 1)
	go func() {
		_, err := s.Invoke(t.Context(), &service.Request{Body: []byte("begin sleep")})
		head <- err
	}()
	until(t, exists(filepath.Join(dir, "begun")))
	pid, err := os.ReadFile(filepath.Join(dir, "begun"))
	if err != nil {
		t.Fatal(err)
	}
	var behind sync.WaitGroup
	for range 20 {
		behind.Go(func() {
			if _, err := s.Invoke(t.Context(), &service.Request{Body: []byte("x")}); !errors.Is(err, navvy.ErrUnavailable) {
				t.Errorf("behind it: %v", err)
			}
		})
	}
	kill(t, string(pid))
	if _, ok := errors.AsType[*service.Failure](<-head); !ok {
		t.Error("the request at which the service died is not to blame")
	}
	behind.Wait()
	ready(t, s)
	ask(t, s, "x")
}

// kill kills a process of a test.
func kill(t testing.TB, pid string) {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(pid))
	if err != nil {
		t.Fatal(err)
	}
	p, err := os.FindProcess(n)
	if err == nil {
		err = p.Kill()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestBadStarts opens services that never come up.
func TestBadStarts(t *testing.T) {
	t.Parallel()
	babbling := babbler(t)
	for spec, words := range map[string]string{
		"lines:sh -c 'echo no licence >&2; exit 4'":         "the service died: exit code 4: no licence",
		"lines:sh -c 'echo Welcome; cat'":                   "answers no request",
		"lines:true":                                        "the service died: exit code 0",
		"grpc-cmd:sh -c 'echo no licence; exit 4'":          "the service died: exit code 4: no licence",
		"grpc-cmd:sleep 1000":                               "not listen at the address that NAVVY_SERVICE_ADDR names",
		"grpc-any-cmd:- sleep 1000":                         "not up after 1s",
		"grpc:" + babbling:                                  "does not speak gRPC",
		"grpc:unix:" + filepath.Join(t.TempDir(), "nobody"): "not up after 1s: nobody listens at unix:/",
	} {
		t.Run(strings.NewReplacer(" ", "_", "/", "_").Replace(spec), func(t *testing.T) {
			t.Parallel()
			o := service.Options{StartTimeout: drivertest.Patience, Grace: 100 * time.Millisecond, Settle: drivertest.Patience}
			if silent := !strings.Contains(words, "die") && !strings.HasPrefix(spec, "lines:"); silent {
				o.StartTimeout = time.Second
			}
			_, err := tryOpen(t, spec, o)
			if !errors.Is(err, navvy.ErrUnavailable) || !strings.Contains(err.Error(), words) {
				t.Errorf("%s: %v; want %q", spec, err, words)
			}
		})
	}
}

// babbler listens, and says what no gRPC server does.
func babbler(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("220 mail.example.com ESMTP\r\n"))
			_ = c.Close()
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	return l.Addr().String()
}

// TestLinesAway has a service that comes up once only: it is away, and nobody is to blame.
func TestLinesAway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := opened(t, "lines:sh -c 'mkdir once || exit 5; read line; exit 6'", service.Options{Dir: dir, Patience: time.Millisecond})
	fails(t, s, "x", "exit code 6")
	until(t, func() bool {
		_, err := s.Invoke(t.Context(), &service.Request{})
		return errors.Is(err, navvy.ErrUnavailable) && strings.Contains(err.Error(), "exit code 5")
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Ready(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("ready: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "once")); err != nil {
		t.Fatal(err)
	}
	ready(t, s)
	closes(t, s)
}

// TestLinesTwice has a service that answers a request with two lines.
func TestLinesTwice(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"lines", "lines-json"} {
		log := &logged{}
		s := opened(t, form+":"+self(t), service.Options{Env: acting(form), Logger: slog.New(slog.NewTextHandler(log, nil))})
		pid := ask(t, s, "pid")
		if got := ask(t, s, "twice"); got != "twice" {
			t.Errorf("answered %q", got)
		}
		until(t, func() bool { return strings.Contains(log.String(), "answers no request, or one twice") })
		until(t, func() bool {
			now, err := s.Invoke(t.Context(), &service.Request{Body: []byte("pid")})
			return err == nil && string(now) != pid
		})
	}
}

// TestLinesBounds has answers that take too long, or are too long.
func TestLinesBounds(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"lines", "lines-json"} {
		s := opened(t, form+":"+self(t), service.Options{
			Env: acting(form), Timeout: time.Second, Grace: 100 * time.Millisecond, MaxAnswer: 1000, Dir: t.TempDir(),
		})
		fails(t, s, "sleep", "longer than 1s")
		ready(t, s)
		ask(t, s, "x")
		fails(t, s, "long", "of more than 1000 bytes")
		ready(t, s)
		ask(t, s, "x")
	}
}

// TestLinesCancelled takes a request back. A service that goes on with it is ended after
// the grace; one with JSON can let go.
func TestLinesCancelled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := opened(t, "lines:"+self(t), service.Options{Env: acting("lines"), Dir: dir, Grace: 100 * time.Millisecond})
	cancels(t, s, "begin sleep", exists(filepath.Join(dir, "begun")))
	pid, err := os.ReadFile(filepath.Join(dir, "begun"))
	if err != nil {
		t.Fatal(err)
	}
	until(t, func() bool {
		now, err := s.Invoke(t.Context(), &service.Request{Body: []byte("pid")})
		return err == nil && string(now) != string(pid)
	})

	dir = t.TempDir()
	s = opened(t, "lines-json:"+self(t), service.Options{Env: acting("lines-json"), Dir: dir})
	before := ask(t, s, "pid")
	cancels(t, s, "begin sleep", exists(filepath.Join(dir, "begun")))
	until(t, exists(filepath.Join(dir, "cancelled")))
	if now := ask(t, s, "pid"); now != before {
		t.Error("a service that let go of a request was ended")
	}
}

// TestLinesJSON has answers come in another order than their requests.
func TestLinesJSON(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := opened(t, "lines-json:"+self(t), service.Options{Env: acting("lines-json"), Dir: dir})
	slow := make(chan string, 1)
	go func() { slow <- ask(t, s, "begin wait") }()
	until(t, exists(filepath.Join(dir, "begun")))
	many(t, s, 500, strconv.Itoa, strconv.Itoa)
	for _, body := range []string{"", "a\nb", "\xff\x00", "<&>\u2028"} {
		if got := ask(t, s, body); got != body {
			t.Errorf("%q came back as %q", body, got)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := <-slow; got != "begin wait" {
		t.Errorf("the slow one got %q", got)
	}
	if got := ask(t, s, "id"); got != "r1 1" {
		t.Errorf("it is told of %q", got)
	}
	if fails(t, s, "fail", "I fail") {
		t.Error("the failure is final")
	}
	if !fails(t, s, "never", "I never do") {
		t.Error("the failure is not final")
	}
	for _, body := range []string{"garbage", "nothing", "both", "number"} {
		fails(t, s, body, "a line that is no answer")
		ready(t, s)
	}
	fails(t, s, "die 0", "exit code 7")
	closes(t, s)
}

// TestLinesClosed closes a service that does not end by itself.
func TestLinesClosed(t *testing.T) {
	t.Parallel()
	s := opened(t, "lines:sh -c 'trap \"\" TERM; while :; do sleep 1; done'", service.Options{Grace: 50 * time.Millisecond})
	ended := make(chan error, 1)
	go func() {
		_, err := s.Invoke(t.Context(), &service.Request{})
		ended <- err
	}()
	closes(t, s)
	select {
	case err := <-ended:
		if !errors.Is(err, navvy.ErrClosed) {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(drivertest.Patience):
		t.Error("an invocation outlives its service")
	}
}

// BenchmarkLines is how many lines a service can answer.
func BenchmarkLines(b *testing.B) {
	for _, form := range []string{"lines:cat", "lines:" + self(b), "lines-json:" + self(b)} {
		name, _, _ := strings.Cut(form, ":")
		if strings.HasSuffix(form, ":cat") {
			name += "-cat"
		}
		for _, at := range []int{1, 10, 100, 1000} {
			b.Run(fmt.Sprintf("%s/at-once=%d", name, at), func(b *testing.B) {
				act, _, _ := strings.Cut(form, ":")
				s := opened(b, form, service.Options{Env: acting(act)})
				invokeMany(b, s, at)
			})
		}
	}
}

// invokeMany invokes a service b.N times, so many at once.
func invokeMany(b *testing.B, s service.Service, at int) {
	b.Helper()
	body := []byte("a request of about forty bytes, no more.")
	var all sync.WaitGroup
	b.ResetTimer()
	share := (b.N + at - 1) / at
	for range at {
		all.Go(func() {
			for range share {
				if _, err := s.Invoke(b.Context(), &service.Request{Body: body}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64(share*at)/b.Elapsed().Seconds(), "invocations/s")
}

// FuzzAnswer reads lines that anybody may have written.
func FuzzAnswer(f *testing.F) {
	for _, line := range []string{`{"id":"1","body":"a"}`, `{"id":"2","base64":"/w=="}`, `{"id":"3","error":"no","final":true}`, `{}`, `[]`, ``} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		id, body, failure, err := service.ReadAnswer(line)
		switch {
		case err != nil && (id != 0 || body != nil || failure != nil):
			t.Errorf("%q: half an answer", line)
		case err == nil && failure != nil && body != nil:
			t.Errorf("%q: both an answer and a failure", line)
		}
	})
}
