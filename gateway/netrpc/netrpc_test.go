package netrpc_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/rpc"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/engine/memory"
	"github.com/navvy-run/navvy/gateway/netrpc"
	"github.com/navvy-run/navvy/gateway/records"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// registry keeps records as a holder does.
type registry struct{ engine.Registry }

func (r registry) List(ctx context.Context, prefix, after string, limit int) (list []records.Record, next string, err error) {
	entries, next, err := r.Registry.List(ctx, engine.KindNetRPC, prefix, after, limit)
	for _, e := range entries {
		list = append(list, records.Record{Name: e.Name, Value: e.Value})
	}
	return list, next, err
}

func (r registry) Apply(ctx context.Context, changes ...records.Change) error {
	var list []engine.Change
	for _, c := range changes {
		list = append(list, engine.Change{Kind: engine.KindNetRPC, Name: c.Name, Value: c.Value, Delete: c.Delete})
	}
	return r.Registry.Apply(ctx, list...)
}

func newRegistry(t *testing.T) registry {
	t.Helper()
	eng, err := engine.Open(t.Context(), memory.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return registry{eng.Registry()}
}

// serve runs a gateway until stop is called, or the test ends.
func serve(t *testing.T, r registry) (addr string, stop func()) {
	t.Helper()
	l, err := netrpc.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := netrpc.New(l, r, &netrpc.Options{
		Timeout: 2 * time.Second, Probe: 20 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the gateway ends with %v", err)
		}
	})
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

// The types of a program of that system.
type (
	registerArgs struct{ WorkerAddress string }
	success      struct{ Success bool }
	jobArgs      struct{ JobName string }
	jobReply     struct {
		Reply      string
		StatusCode int
	}
	AssignArgs    struct{ ImageName string }
	AssignReply   struct{ WorkIsGiven bool }
	ShutdownReply struct{ Shutdown bool }
	workersIP     struct{ WorkersIP []string }
	other         struct{ Whatever int }
)

// call makes one call over a connection of its own.
func call(t *testing.T, addr, method string, args, reply any) error {
	t.Helper()
	c, err := rpc.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Call(method, args, reply)
}

// worker is one of that system.
type worker struct {
	addr     string
	got      chan string
	shutdown chan struct{}
	kill     func()

	mu     sync.Mutex
	busy   bool
	broken bool
}

// service are the calls that a worker answers.
type service struct{ w *worker }

func (s service) AssignWork(args *AssignArgs, reply *AssignReply) error { return s.w.take(args, reply) }
func (s service) Shutdown(_ *struct{}, reply *ShutdownReply) error {
	reply.Shutdown = true
	close(s.w.shutdown)
	return nil
}

func (w *worker) take(args *AssignArgs, reply *AssignReply) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken {
		return errors.New("broken")
	}
	if reply.WorkIsGiven = !w.busy; reply.WorkIsGiven {
		w.got <- args.ImageName
	}
	return nil
}

func (w *worker) set(busy, broken bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy, w.broken = busy, broken
}

func startWorker(t *testing.T) *worker {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &worker{addr: l.Addr().String(), got: make(chan string, 100), shutdown: make(chan struct{})}
	server := rpc.NewServer()
	if err := server.RegisterName("Worker", service{w}); err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { server.ServeConn(conn) })
		}
	})
	w.kill = func() { _ = l.Close() }
	t.Cleanup(func() {
		w.kill()
		serving.Wait()
	})
	return w
}

func register(t *testing.T, addr string, w *worker) {
	t.Helper()
	var reply success
	if err := call(t, addr, "Manager.Register", registerArgs{w.addr}, &reply); err != nil || !reply.Success {
		t.Fatalf("register: %+v, %v", reply, err)
	}
}

func give(t *testing.T, addr, name string) {
	t.Helper()
	var reply jobReply
	if err := call(t, addr, "Manager.GiveManagerWork", jobArgs{name}, &reply); err != nil || reply != (jobReply{name, 200}) {
		t.Fatalf("give %s: %+v, %v", name, reply, err)
	}
}

func workers(t *testing.T, addr string) []string {
	t.Helper()
	var reply workersIP
	if err := call(t, addr, "Manager.GetListOfWorkersIP", struct{}{}, &reply); err != nil {
		t.Fatal(err)
	}
	return reply.WorkersIP
}

// awaitWorkers waits until there are so many.
func awaitWorkers(t *testing.T, addr string, n int) {
	t.Helper()
	for len(workers(t, addr)) != n {
		if t.Context().Err() != nil {
			t.Fatal("that does not come")
		}
	}
}

// Work is given in the order in which it came, to workers in turn, and recorded.
func TestInOrderInTurn(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	addr, _ := serve(t, r)
	a, b := startWorker(t), startWorker(t)
	for range 2 { // twice is once
		register(t, addr, a)
		register(t, addr, b)
	}
	want := []string{a.addr, b.addr}
	slices.Sort(want)
	if got := workers(t, addr); !slices.Equal(got, want) {
		t.Errorf("there are %v, want %v", got, want)
	}
	for i := range 10 {
		give(t, addr, fmt.Sprint(i))
	}
	for i := range 10 {
		from := a
		if i%2 == 1 {
			from = b
		}
		if got := <-from.got; got != fmt.Sprint(i) {
			t.Errorf("assignment %d is %s", i, got)
		}
	}
	r.awaitDone(t, 10)
}

// awaitDone waits for so many records of assigned work, and looks at them.
func (r registry) awaitDone(t *testing.T, n int) (jobs []string) {
	t.Helper()
	for {
		list, _, err := r.List(t.Context(), "done/", "", 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) < n {
			continue
		}
		for _, rec := range list {
			var w netrpc.Work
			if err := json.Unmarshal(rec.Value, &w); err != nil || w.Worker == "" || w.Given.IsZero() || w.Assigned.Before(w.Given) {
				t.Errorf("%s is %s, %v", rec.Name, rec.Value, err)
			}
			jobs = append(jobs, w.JobName)
		}
		if todo, _, err := r.List(t.Context(), "todo/", "", 100); len(todo) > 0 || err != nil {
			t.Errorf("%d wait, %v", len(todo), err)
		}
		return jobs
	}
}

// What was given and who registered is known after a restart.
func TestRestart(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	addr, stop := serve(t, r)
	give(t, addr, "one")
	give(t, addr, "two")
	stop()
	addr, stop = serve(t, r)
	give(t, addr, "three")
	w := startWorker(t)
	w.set(true, false)
	register(t, addr, w)
	stop()
	w.set(false, false)
	serve(t, r)
	for _, want := range []string{"one", "two", "three"} {
		if got := <-w.got; got != want {
			t.Errorf("given %s, want %s", got, want)
		}
	}
	if got := r.awaitDone(t, 3); !slices.Equal(got, []string{"one", "two", "three"}) {
		t.Errorf("recorded: %v", got)
	}
}

// A dead worker is dropped, with work and without; what it would have had another gets.
func TestDeadWorker(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	addr, _ := serve(t, r)
	a, b := startWorker(t), startWorker(t)
	register(t, addr, a)
	a.kill()
	awaitWorkers(t, addr, 0)
	give(t, addr, "one")
	register(t, addr, b)
	if got := <-b.got; got != "one" {
		t.Errorf("given %s", got)
	}
	b.kill()
	give(t, addr, "two")
	awaitWorkers(t, addr, 0)
	c := startWorker(t)
	register(t, addr, c)
	if got := <-c.got; got != "two" {
		t.Errorf("given %s", got)
	}
}

// A worker that refuses, or answers with an error, stays; another one is asked.
func TestRefusal(t *testing.T) {
	t.Parallel()
	addr, _ := serve(t, newRegistry(t))
	a, b := startWorker(t), startWorker(t)
	a.set(true, false)
	b.set(false, true)
	register(t, addr, a)
	register(t, addr, b)
	give(t, addr, "one")
	b.set(false, false)
	if got := <-b.got; got != "one" || len(workers(t, addr)) != 2 {
		t.Errorf("given %s, workers %v", got, workers(t, addr))
	}
}

// A worker that never answers holds nothing up for longer than a call may take.
func TestSilentWorker(t *testing.T) {
	t.Parallel()
	addr, _ := serve(t, newRegistry(t))
	l, err := net.Listen("tcp", "127.0.0.1:0") // connects, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	register(t, addr, &worker{addr: l.Addr().String()})
	give(t, addr, "one")
	w := startWorker(t)
	register(t, addr, w)
	if got := <-w.got; got != "one" {
		t.Errorf("given %s", got)
	}
	awaitWorkers(t, addr, 1)
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	addr, _ := serve(t, newRegistry(t))
	w := startWorker(t)
	register(t, addr, w)
	var reply ShutdownReply
	if err := call(t, addr, "Manager.Shutdown", other{1}, &reply); err != nil || !reply.Shutdown {
		t.Errorf("%+v, %v", reply, err)
	}
	<-w.shutdown
	if got := workers(t, addr); len(got) != 0 {
		t.Errorf("there are still %v", got)
	}
	give(t, addr, "it goes on")
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	addr, _ := serve(t, newRegistry(t))
	for _, address := range []string{"", "nowhere", "127.0.0.1:http:80", "127.0.0.1:99999", "10.0.0.1:80", "example.com:80", strings.Repeat("1", 300) + ":80"} {
		if err := call(t, addr, "Manager.Register", registerArgs{address}, &success{}); err == nil {
			t.Errorf("a worker at %q", address)
		}
	}
	for _, name := range []string{"", strings.Repeat("x", 5000), strings.Repeat("x", 1<<20), "\xff"} {
		if err := call(t, addr, "Manager.GiveManagerWork", jobArgs{name}, &jobReply{}); err == nil {
			t.Errorf("work with a name of %d bytes", len(name))
		}
	}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	give(t, addr, "still there")
	if _, err := netrpc.Listen(t.Context(), "0.0.0.0:0"); !errors.Is(err, navvy.ErrDenied) {
		t.Errorf("listen for everybody: %v", err)
	}
}
