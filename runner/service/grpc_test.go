package service_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/navvy-run/navvy"
	servicev1 "github.com/navvy-run/navvy/api/navvy/service/v1"
	"github.com/navvy-run/navvy/runner/driver/drivertest"
	"github.com/navvy-run/navvy/runner/process"
	"github.com/navvy-run/navvy/runner/service"
)

func TestGRPC(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := opened(t, "grpc-cmd:"+self(t), service.Options{Env: acting("sdk"), Dir: dir, MaxAnswer: 50_000})
	ready(t, s)
	many(t, s, 500, strconv.Itoa, strconv.Itoa)
	for _, body := range []string{"", "\xff\x00\n", strings.Repeat("x", 40_000)} {
		if got := ask(t, s, body); got != body {
			t.Errorf("%.40q came back as %.40q", body, got)
		}
	}
	if got := ask(t, s, "id"); got != "r1 1" {
		t.Errorf("it is told of %q", got)
	}
	if fails(t, s, "fail", "I fail") {
		t.Error("the failure is final")
	}
	if !fails(t, s, "invalid", "no: invalid request") {
		t.Error("the failure is not final")
	}
	fails(t, s, "panic", "panic: I panic")
	fails(t, s, "do long", "larger than max")
	if _, err := s.Invoke(t.Context(), &service.Request{Body: []byte("busy")}); !errors.Is(err, navvy.ErrUnavailable) {
		t.Errorf("busy: %v", err)
	}
	cancels(t, s, "do begin sleep", exists(filepath.Join(dir, "begun")))
	until(t, exists(filepath.Join(dir, "cancelled")))
	closes(t, s)
	if !exists(filepath.Join(dir, "disposed"))() {
		t.Error("it was not disposed of")
	}
}

// TestGRPCDies has a service that dies while it is at work.
func TestGRPCDies(t *testing.T) {
	t.Parallel()
	s := opened(t, "grpc-cmd:"+self(t), service.Options{Env: acting("sdk"), Timeout: drivertest.Patience, Dir: t.TempDir()})
	pid := ask(t, s, "do pid")
	fails(t, s, "do die", "lost during the request")
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			ready(t, s)
			ask(t, s, "x")
		})
	}
	all.Wait()
	if now := ask(t, s, "do pid"); now == pid {
		t.Error("it is the same process as before")
	}
}

func TestGRPCTimeout(t *testing.T) {
	t.Parallel()
	s := opened(t, "grpc-tcp-cmd:"+self(t), service.Options{Env: acting("sdk"), Timeout: time.Second, Dir: t.TempDir()})
	fails(t, s, "do sleep", "longer than 1s")
	ask(t, s, "x")
}

// TestGRPCRefuses has a service that cannot be made ready.
func TestGRPCRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "refuse"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := tryOpen(t, "grpc-cmd:"+self(t), service.Options{Env: acting("sdk"), Dir: dir})
	if !errors.Is(err, navvy.ErrUnavailable) || !strings.Contains(err.Error(), "there is no model") {
		t.Errorf("opened: %v", err)
	}
	_, err = tryOpen(t, "grpc-cmd:"+self(t), service.Options{Env: acting("greeter"), Dir: dir})
	if !errors.Is(err, navvy.ErrUnsupported) || !strings.Contains(err.Error(), "no navvy.service.v1.UserService") {
		t.Errorf("opened another server: %v", err)
	}
}

// TestGRPCAddress uses a server that runs already, and comes and goes.
func TestGRPCAddress(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, address := range []string{"unix:" + filepath.Join(dir, "s"), free(t)} {
		env := append(acting("sdk"), service.EnvAddr+"="+address)
		server, stop := serving(t, env, dir)
		s := opened(t, "grpc:"+address, service.Options{Patience: time.Millisecond})
		if got := ask(t, s, "do pid"); got != strconv.Itoa(server.Pid()) {
			t.Errorf("process %s answered, not %d", got, server.Pid())
		}
		stop()
		until(t, func() bool {
			_, err := s.Invoke(t.Context(), &service.Request{})
			return errors.Is(err, navvy.ErrUnavailable)
		})
		_ = os.Remove(strings.TrimPrefix(address, "unix:")) // which a killed server leaves
		server, stop = serving(t, env, dir)
		ready(t, s)
		if got := ask(t, s, "do pid"); got != strconv.Itoa(server.Pid()) { // and it was initialized
			t.Errorf("process %s answered, not %d", got, server.Pid())
		}
		closes(t, s)
		stop()
	}
}

// serving starts a server that is not the service's own.
func serving(t *testing.T, env []string, dir string) (p *process.Process, stop func()) {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p, err = process.Start(&process.Config{Args: []string{path}, Env: env, Dir: dir, Stderr: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = p.Wait(context.Background())
	}()
	stop = sync.OnceFunc(func() {
		_ = p.Stop(true)
		<-gone
	})
	t.Cleanup(stop)
	return p, stop
}

// free is an address at which nobody listens.
func free(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestHealth has a server that says that it is not well, and is well again.
func TestHealth(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := service.Options{Env: acting("sick"), Dir: dir, Patience: time.Millisecond, StartTimeout: drivertest.Patience}
	s := opened(t, "grpc-any-cmd:- "+self(t), o)
	pid := readPID(t, dir)
	sendSignal(t, pid, syscall.SIGUSR1)
	until(t, func() bool { return strings.Contains(greet(t, s, "x").error(), "NOT_SERVING") })
	sendSignal(t, pid, syscall.SIGUSR2)
	ready(t, s)
	if a := greet(t, s, "x"); a.Error != nil || readPID(t, dir) != pid {
		t.Errorf("after it was well: %+v", a)
	}

	dir = t.TempDir()
	o.Dir, o.StartTimeout, o.Grace = dir, 4*time.Second, 100*time.Millisecond
	s = opened(t, "grpc-any-cmd:- "+self(t), o)
	pid = readPID(t, dir)
	sendSignal(t, pid, syscall.SIGUSR1)
	until(t, func() bool { return readPID(t, dir) != pid }) // it was started again
	ready(t, s)
}

func readPID(t *testing.T, dir string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "begun"))
	if err != nil {
		t.Fatal(err)
	}
	n, _ := strconv.Atoi(string(b)) // it may be just being written
	return n
}

func sendSignal(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
}

// anyAnswer is the contract's, written down once more.
type anyAnswer struct {
	InReplyTo string
	Error     *string
	Payload   *string
}

func (a anyAnswer) error() string {
	if a.Error == nil {
		return ""
	}
	return *a.Error
}

// greet calls the Greeter by the contract's request.
func greet(t *testing.T, s service.Service, name string) anyAnswer {
	t.Helper()
	hello, err := proto.Marshal(wrapperspb.String(name))
	if err != nil {
		t.Fatal(err)
	}
	return anyAsk(t, s, `{"Id":"`+name+`","ServiceName":"helloworld.Greeter","MethodName":"SayHello","Payload":"`+base64.StdEncoding.EncodeToString(hello)+`"}`)
}

func anyAsk(t *testing.T, s service.Service, body string) anyAnswer {
	t.Helper()
	var a anyAnswer
	answer, err := s.Invoke(t.Context(), &service.Request{Body: []byte(body)})
	if err == nil {
		err = json.Unmarshal(answer, &a)
	}
	if err != nil {
		t.Errorf("%s: %v", body, err)
	}
	return a
}

// greetMany greets a hundred at once.
func greetMany(t *testing.T, s service.Service) {
	t.Helper()
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			name := strconv.Itoa(i)
			a := greet(t, s, name)
			var hello wrapperspb.StringValue
			if a.Payload == nil {
				t.Errorf("no payload: %s", a.error())
				return
			}
			b, err := base64.StdEncoding.DecodeString(*a.Payload)
			if err == nil {
				err = proto.Unmarshal(b, &hello)
			}
			if err != nil || a.InReplyTo != name || a.Error != nil || hello.GetValue() != "Hello "+name {
				t.Errorf("%s: %+v, %v", name, a, err)
			}
		})
	}
	all.Wait()
}

// refuses sends what is no request.
func refuses(t *testing.T, s service.Service) {
	t.Helper()
	for body, want := range map[string]struct{ id, words string }{
		"x":          {"", "is no JSON object"},
		`{"Id":"a"}`: {"a", "names no method"},
		`{"Id":"a","ServiceName":"a","MethodName":"b","Payload":"?"}`:                            {"a", "is no JSON object"},
		`{"Id":"a","ServiceName":"a","MethodName":"b","Payload":""}`:                             {"a", "unknown service a"},
		`{"Id":"a","ServiceName":"helloworld.Greeter","MethodName":"SayHello","Payload":"/w=="}`: {"a", "unmarshal"},
	} {
		if a := anyAsk(t, s, body); !strings.Contains(a.error(), want.words) || a.InReplyTo != want.id || a.Payload != nil {
			t.Errorf("%s: %+v: %s", body, a, a.error())
		}
	}
}

// TestAny calls the usual Greeter, which knows nothing of navvy.
func TestAny(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, address := range []string{"-", free(t)} {
		s := opened(t, "grpc-any-cmd:"+address+" "+self(t), service.Options{Env: acting("greeter"), Dir: dir})
		greetMany(t, s)
		if a := greet(t, s, "nobody"); a.InReplyTo != "nobody" || a.Payload != nil || !strings.Contains(a.error(), "nobody is not here") {
			t.Errorf("a failure: %s", a.error())
		}
		refuses(t, s)
		if a := greet(t, s, "die"); a.Error == nil {
			t.Errorf("it died: %+v", a)
		}
		ready(t, s)
		if a := greet(t, s, "again"); a.Error != nil {
			t.Errorf("after it was started again: %s", a.error())
		}
		sleep := base64.StdEncoding.EncodeToString([]byte("\n\x05sleep"))
		_ = os.Remove(filepath.Join(dir, "begun"))
		cancels(t, s, `{"ServiceName":"helloworld.Greeter","MethodName":"SayHello","Payload":"`+sleep+`"}`, exists(filepath.Join(dir, "begun")))
		closes(t, s)
	}
}

// TestAnyDown has nobody at the address any more.
func TestAnyDown(t *testing.T) {
	t.Parallel()
	address := free(t)
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	server.RegisterService(greeter(), nil)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) })
	s := opened(t, "grpc-any:http://"+address, service.Options{Patience: time.Millisecond})
	if a := greet(t, s, "x"); a.Error != nil {
		t.Errorf("greeted: %s", a.error())
	}
	server.Stop()
	serving.Wait()
	if a := greet(t, s, "x"); a.Error == nil || a.InReplyTo != "x" {
		t.Errorf("with nobody there: %+v", a)
	}
}

// BenchmarkGRPC is what an invocation costs.
func BenchmarkGRPC(b *testing.B) {
	s := opened(b, "grpc-cmd:"+self(b), service.Options{Env: acting("sdk"), Dir: b.TempDir()})
	b.Run("one", func(b *testing.B) {
		took := make([]time.Duration, 0, b.N)
		for b.Loop() {
			began := time.Now()
			if _, err := s.Invoke(b.Context(), &service.Request{Body: []byte("a request")}); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-ns")
		b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
	})
	b.Run("at-once=100", func(b *testing.B) { invokeMany(b, s, 100) })
}

// BenchmarkOverhead is what an invocation of a service takes more than a bare call on the
// same unix socket: the two by turns.
func BenchmarkOverhead(b *testing.B) {
	path := filepath.Join(b.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		b.Fatal(err)
	}
	server := grpc.NewServer()
	servicev1.RegisterUserServiceServer(server, echoing{})
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) })
	b.Cleanup(func() { // after the service is disposed of
		server.Stop()
		serving.Wait()
	})
	s := opened(b, "grpc:unix:"+path, service.Options{})
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	bare := servicev1.NewUserServiceClient(conn)
	body := []byte("a request")
	took := [2][]time.Duration{}
	for b.Loop() {
		began := time.Now()
		if _, err := bare.Invoke(b.Context(), &servicev1.InvokeRequest{Input: body}); err != nil {
			b.Fatal(err)
		}
		between := time.Now()
		if _, err := s.Invoke(b.Context(), &service.Request{Body: body}); err != nil {
			b.Fatal(err)
		}
		took[0], took[1] = append(took[0], between.Sub(began)), append(took[1], time.Since(between))
	}
	p50 := func(i int) float64 {
		slices.Sort(took[i])
		return float64(took[i][len(took[i])/2].Nanoseconds())
	}
	b.ReportMetric(p50(0), "bare-p50-ns")
	b.ReportMetric(p50(1), "p50-ns")
	b.ReportMetric(p50(1)-p50(0), "overhead-p50-ns")
}

// echoing is a service that gives back what it is given.
type echoing struct {
	servicev1.UnimplementedUserServiceServer
}

func (echoing) Initialize(context.Context, *servicev1.InitializeRequest) (*servicev1.InitializeResponse, error) {
	return &servicev1.InitializeResponse{}, nil
}

func (echoing) Invoke(_ context.Context, r *servicev1.InvokeRequest) (*servicev1.InvokeResponse, error) {
	return &servicev1.InvokeResponse{Output: r.GetInput()}, nil
}

func (echoing) Dispose(context.Context, *servicev1.DisposeRequest) (*servicev1.DisposeResponse, error) {
	return &servicev1.DisposeResponse{}, nil
}
