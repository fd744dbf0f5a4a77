package broker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/engine/memory"
	"github.com/navvy-run/navvy/gateway/broker"
	"github.com/navvy-run/navvy/internal/holder"
	"github.com/navvy-run/navvy/policy"
	"github.com/navvy-run/navvy/queue"
	queuedriver "github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/memqueue"
	"github.com/navvy-run/navvy/runner"
	runnerdriver "github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/server/auth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a holder whose services are in Go, a broker in memory, and a gateway between.
type world struct {
	t       testing.TB
	h       *holder.Holder
	api     *client.Client // as whoever holds the directory
	service *goService
	broker  *memqueue.Broker
	drivers map[string]queuedriver.Driver
	// requests and responses are the clients' ends.
	requests, responses *queue.Queue
}

// pair are the queues of the tests.
var pair = navvy.Broker{Requests: "mem://requests", Responses: "mem://responses", Lease: 2 * time.Second, Concurrency: 20}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, service: &goService{calls: map[string]int{}, begun: make(chan string, 1000), free: make(chan struct{})}, broker: &memqueue.Broker{}}
	w.h = w.hold()
	w.api = client.New(w.h.Conn())
	w.drivers = map[string]queuedriver.Driver{"mem": w.broker.Driver}
	w.requests, w.responses = w.open(pair.Requests), w.open(pair.Responses)
	return w
}

// hold starts a holder until the test ends.
func (w *world) hold() *holder.Holder {
	w.t.Helper()
	dir, err := holder.OpenDir(w.t.TempDir() + "/data")
	w.must(err)
	lock, _, err := dir.TryLock()
	if err != nil || lock == nil {
		w.t.Fatalf("no lock: %v", err)
	}
	p, err := policy.Parse("policy.yaml", []byte("roles: {user: {isolate: off}}"))
	w.must(err)
	h, err := holder.Start(w.t.Context(), lock, holder.Config{
		Dir: dir, Owner: "root", Policy: p, Logger: slog.New(slog.NewTextHandler(w.t.Output(), nil)), Slots: 20,
		OpenStore: func(context.Context, func(bool), func(error)) (driver.Store, error) { return memory.New(), nil },
		Runners: func(_ context.Context, journal *runner.Journal) ([]*runner.Runner, error) {
			return []*runner.Runner{runner.New(w.service, &runner.Options{Journal: journal})}, nil
		},
	})
	w.must(err)
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if _, err := h.Close(ctx, true); err != nil {
			w.t.Error(err)
		}
	})
	return h
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// open opens a queue of the broker until the test ends.
func (w *world) open(url string) *queue.Queue {
	w.t.Helper()
	q, err := queue.Open(w.t.Context(), url, w.drivers, &queue.Options{Lease: 10 * time.Second})
	w.must(err)
	w.t.Cleanup(func() {
		if err := q.Close(context.Background()); err != nil {
			w.t.Error(err)
		}
	})
	return q
}

// serve gives the queue "work" a service.
func (w *world) serve() {
	w.t.Helper()
	_, err := w.api.SetQueue(w.t.Context(), "work", client.QueueChange{Create: true, Work: &navvy.Spec{Service: &navvy.Service{Form: "echo"}}})
	w.must(err)
}

// gateway runs a gateway that is not attached to anything, until the test or end ends it.
func (w *world) gateway() (g *broker.Gateway, end func()) { return w.gatewayWith(&broker.Options{}) }

func (w *world) gatewayWith(o *broker.Options) (g *broker.Gateway, end func()) {
	o.Logger = slog.New(slog.NewTextHandler(w.t.Output(), nil))
	g = broker.New(w.drivers, o)
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		if err := g.Run(ctx, w.h.Conn()); !errors.Is(err, context.Canceled) {
			w.t.Errorf("the gateway: %v", err)
		}
	}()
	end = sync.OnceFunc(func() {
		cancel()
		<-over
	})
	w.t.Cleanup(end)
	return g, end
}

// send sends requests, whose ids are their bodies.
func (w *world) send(bodies ...string) {
	w.t.Helper()
	for _, b := range bodies {
		w.must(w.requests.Send(w.t.Context(), queue.Message{ID: b, Body: []byte(b)}))
	}
}

// next takes a message from a queue, for good.
func (w *world) next(q *queue.Queue) *queue.Lease {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	leases, err := q.Receive(ctx, 1)
	w.must(err)
	w.must(leases[0].Ack(ctx))
	return leases[0]
}

// as is a client with the name of an owner.
func (w *world) as(name string) context.Context {
	return auth.With(w.t.Context(), auth.Identity{Name: name, Role: auth.RoleUser})
}

// goService answers with what it was asked, in capital letters. A request that begins with
// "fail" fails, one that begins with "wait" waits until free is closed.
type goService struct {
	mu    sync.Mutex
	calls map[string]int
	begun chan string
	free  chan struct{}
}

// times is how often a request was begun.
func (s *goService) times(request string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[request]
}

func (s *goService) Capabilities() runnerdriver.Capabilities {
	return runnerdriver.Capabilities{Kind: navvy.KindService, Output: true}
}

func (s *goService) Start(_ context.Context, t *runnerdriver.Task) (runnerdriver.Execution, error) {
	s.mu.Lock()
	s.calls[string(t.Input)]++
	s.mu.Unlock()
	s.begun <- string(t.Input)
	return &invocation{s, t, make(chan struct{}), sync.Once{}}, nil
}

func (s *goService) Recover(context.Context, []byte, *runnerdriver.Task) (runnerdriver.Execution, error) {
	return nil, navvy.ErrNotFound
}

func (s *goService) Close() error { return nil }

type invocation struct {
	service *goService
	t       *runnerdriver.Task
	stopped chan struct{}
	once    sync.Once
}

func (x *invocation) Handle() []byte { return nil }

func (x *invocation) Stop(context.Context, bool) error {
	x.once.Do(func() { close(x.stopped) })
	return nil
}

func (x *invocation) Wait(ctx context.Context) (end runnerdriver.End, err error) {
	switch text := string(x.t.Input); {
	case strings.HasPrefix(text, "fail"):
		end.Refusal = &runnerdriver.Refusal{Reason: navvy.ReasonExit, Message: fmt.Sprintf("%s is no good", text)}
		return end, nil
	case strings.HasPrefix(text, "wait"):
		select {
		case <-ctx.Done():
			return end, context.Cause(ctx)
		case <-x.stopped:
			end.Refusal = &runnerdriver.Refusal{Reason: navvy.ReasonStopped, Message: "stopped"}
			return end, nil
		case <-x.service.free:
		}
	}
	_, err = io.Copy(x.t.Stdout, bytes.NewReader(bytes.ToUpper(x.t.Input)))
	return end, err
}
