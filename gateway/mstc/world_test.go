package mstc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/engine/memory"
	"github.com/navvy-run/navvy/gateway/mstc"
	"github.com/navvy-run/navvy/gateway/records"
	"github.com/navvy-run/navvy/internal/holder"
	"github.com/navvy-run/navvy/policy"
	"github.com/navvy-run/navvy/queue/rabbitqueue/rabbittest"
	"github.com/navvy-run/navvy/runner"
	runnerdriver "github.com/navvy-run/navvy/runner/driver"
)

// patience bounds whatever should come about by itself.
const patience = 2 * time.Minute

// shared is the broker of all tests that leave it as it is.
var shared = sync.OnceValues(func() (*rabbittest.Broker, error) { return rabbittest.Start() })

// hosts are virtual hosts of the shared broker, one for each test, since the contract's names
// are the same everywhere.
var hosts struct {
	sync.Mutex
	used, made int
}

// host gives a virtual host that nobody has used. They are made many at a time.
func host(b *rabbittest.Broker) (string, error) {
	hosts.Lock()
	defer hosts.Unlock()
	if hosts.used == hosts.made {
		hosts.made += 30
		if err := b.Control("eval", fmt.Sprintf(`[begin
			V = list_to_binary("v" ++ integer_to_list(I)), A = <<".*">>,
			rabbit_vhost:add(V, <<"test">>),
			rabbit_auth_backend_internal:set_permissions(<<"guest">>, V, A, A, A, <<"test">>)
		end || I <- lists:seq(%d, %d)].`, hosts.used+1, hosts.made)); err != nil {
			return "", err
		}
	}
	hosts.used++
	return fmt.Sprint("v", hosts.used), nil
}

var used atomic.Bool

func TestMain(m *testing.M) {
	code := m.Run()
	if used.Load() {
		if b, err := shared(); err == nil {
			b.Stop()
		}
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// need skips what needs a broker where none is installed, but not in CI.
func need(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, rabbittest.ErrMissing) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// world is a broker, a server in this process, and what runs its containers, which is in Go:
// what they do is told by the names of their images. Real ones are in test/kube/mstc.
type world struct {
	t      *testing.T
	broker *rabbittest.Broker
	line   *line // to the broker
	vhost  string
	h      *holder.Holder
	store  store
	runs   *goContainers
	api    *client.Client
	slots  atomic.Int64
	clock  atomic.Int64 // how far the gateway's clock is ahead
	gone   atomic.Int64 // calls over HTTP whose callers have left, or that are over
}

func newWorld(t *testing.T, b ...*rabbittest.Broker) *world {
	t.Helper()
	w := &world{t: t, vhost: "/", runs: &goContainers{free: make(chan struct{}), counts: map[string]int{}}}
	if len(b) > 0 {
		w.broker = b[0]
	} else {
		used.Store(true)
		var err error
		w.broker, err = shared()
		need(t, err)
		w.vhost, err = host(w.broker)
		w.must(err)
	}
	w.line = newLine(t, w.broker.Addr)
	w.hold()
	w.slots.Store(10)
	return w
}

// hold starts a holder until the test ends.
func (w *world) hold() {
	t := w.t
	dir, err := holder.OpenDir(t.TempDir() + "/data")
	w.must(err)
	lock, _, err := dir.TryLock()
	if err != nil || lock == nil {
		t.Fatalf("no lock: %v", err)
	}
	p, err := policy.Parse("policy.yaml", []byte("roles: {user: {isolate: off, images: [local/*]}}"))
	w.must(err)
	mem := memory.New()
	w.h, err = holder.Start(t.Context(), lock, holder.Config{
		Dir: dir, Owner: "root", Policy: p, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Slots: 20, Parallelism: 20,
		OpenStore: func(context.Context, func(bool), func(error)) (driver.Store, error) { return mem, nil },
		Runners: func(_ context.Context, journal *runner.Journal) ([]*runner.Runner, error) {
			return []*runner.Runner{runner.New(w.runs, &runner.Options{Journal: journal})}, nil
		},
	})
	w.must(err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if _, err := w.h.Close(ctx, true); err != nil {
			t.Error(err)
		}
	})
	w.api = client.New(w.h.Conn())
	kept, err := engine.Open(t.Context(), memory.New(), nil)
	w.must(err)
	w.store = store{kept.Registry()}
}

// store keeps records as a holder does.
type store struct{ engine.Registry }

func (s store) List(ctx context.Context, prefix, after string, limit int) (list []records.Record, next string, err error) {
	entries, next, err := s.Registry.List(ctx, engine.KindMSTC, prefix, after, limit)
	for _, e := range entries {
		list = append(list, records.Record{Name: e.Name, Value: e.Value})
	}
	return list, next, err
}

func (s store) Apply(ctx context.Context, changes ...records.Change) error {
	var list []engine.Change
	for _, c := range changes {
		list = append(list, engine.Change{Kind: engine.KindMSTC, Name: c.Name, Value: c.Value, Delete: c.Delete})
	}
	return s.Registry.Apply(ctx, list...)
}

// left are the names of the records that there are.
func (w *world) left() (names []string) {
	w.must(records.Each(w.t.Context(), w.store, "", func(r *records.Record) error {
		names = append(names, r.Name)
		return nil
	}))
	return names
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// until waits until something is true.
func (w *world) until(what string, is func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	for tick := time.Tick(5 * time.Millisecond); !is(); {
		select {
		case <-ctx.Done():
			w.t.Fatalf("it never came about that %s", what)
		case <-tick:
		}
	}
}

// gateway runs a gateway until the test or end ends it.
func (w *world) gateway(o ...func(*mstc.Options)) (g *mstc.Gateway, end func()) {
	return w.gatewayOn(w.store, o...)
}

func (w *world) gatewayOn(s records.Store, o ...func(*mstc.Options)) (g *mstc.Gateway, end func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	g, over := w.gatewayIn(ctx, s, o...)
	end = sync.OnceFunc(func() {
		cancel()
		<-over
	})
	w.t.Cleanup(end)
	return g, end
}

// gatewayIn runs a gateway until ctx ends; over is closed when it has ended.
func (w *world) gatewayIn(ctx context.Context, s records.Store, o ...func(*mstc.Options)) (g *mstc.Gateway, over chan struct{}) {
	w.t.Helper()
	options := &mstc.Options{
		Slots: func() int { return int(w.slots.Load()) }, Look: 5 * time.Millisecond,
		Clock:  func() time.Time { return time.Now().Add(time.Duration(w.clock.Load())) },
		Logger: slog.New(slog.NewTextHandler(w.t.Output(), nil)),
	}
	for _, set := range o {
		set(options)
	}
	g, err := mstc.New(w.h.Conn(), "amqp://"+w.line.addr()+"?vhost="+w.vhost, s, options)
	w.must(err)
	over = make(chan struct{})
	go func() {
		defer close(over)
		if err := g.Run(ctx); !errors.Is(err, context.Canceled) {
			w.t.Errorf("the gateway: %v", err)
		}
	}()
	return g, over
}

// asker is a client of the contract: it declares what it needs, and sends without content
// type and not persistent.
type asker struct {
	w       *world
	ch      *amqp.Channel
	replyTo string
	replies <-chan amqp.Delivery
}

func (w *world) channel() *amqp.Channel {
	w.t.Helper()
	conn, err := amqp.DialConfig("amqp://guest:guest@"+w.broker.Addr+"/", amqp.Config{Vhost: w.vhost})
	w.must(err)
	w.t.Cleanup(func() { _ = conn.Close() })
	ch, err := conn.Channel()
	w.must(err)
	return ch
}

func (w *world) asker() *asker {
	w.t.Helper()
	a := &asker{w: w, ch: w.channel()}
	w.must(a.ch.ExchangeDeclare("mstc.exchange", "direct", true, false, false, false, nil))
	for _, q := range []string{"mstc.queue.work", "mstc.queue.response"} {
		_, err := a.ch.QueueDeclare(q, true, false, false, false, nil)
		w.must(err)
	}
	w.must(a.ch.QueueBind("mstc.queue.work", "mstc.queue.work", "mstc.exchange", false, nil))
	q, err := a.ch.QueueDeclare("", false, false, true, false, nil)
	w.must(err)
	a.replyTo = q.Name
	a.replies, err = a.ch.Consume(q.Name, "", true, true, false, false, nil)
	w.must(err)
	return a
}

// send sends a request whose answer is to come under an id.
func (a *asker) send(id, body string) { a.sendTo(a.replyTo, id, body) }

func (a *asker) sendTo(replyTo, id, body string) {
	a.w.t.Helper()
	a.w.must(a.ch.PublishWithContext(a.w.t.Context(), "mstc.exchange", "mstc.queue.work", false, false,
		amqp.Publishing{ReplyTo: replyTo, CorrelationId: id, Body: []byte(body)}))
}

// answer is a reply as clients read it.
type answer struct {
	id            string
	Result, State string
	Reason        string
	ExitCode      *int
}

func (a *answer) String() string {
	code := "none"
	if a.ExitCode != nil {
		code = fmt.Sprint(*a.ExitCode)
	}
	return fmt.Sprintf("%s: %.300q, state %s, reason %q, exit code %s", a.id, a.Result, a.State, a.Reason, code)
}

// next is the next answer.
func (a *asker) next() *answer {
	a.w.t.Helper()
	select {
	case <-time.After(patience):
		a.w.t.Fatal("no answer comes")
	case d, open := <-a.replies:
		if !open {
			a.w.t.Fatal("the connection is lost")
		}
		return a.read(d)
	}
	return nil
}

// read reads an answer.
func (a *asker) read(d amqp.Delivery) *answer {
	a.w.t.Helper()
	got := &answer{id: d.CorrelationId}
	if err := json.Unmarshal(d.Body, got); err != nil {
		a.w.t.Fatalf("%v: %.300q", err, d.Body)
	}
	return got
}

// quiet checks that no answer has come.
func (a *asker) quiet() {
	a.w.t.Helper()
	select {
	case d := <-a.replies:
		a.w.t.Errorf("another answer: %s", d.Body)
	default:
	}
}

// waiting is how many requests the broker has left.
func (a *asker) waiting() int {
	q, err := a.ch.QueueDeclarePassive("mstc.queue.work", true, false, false, false, nil)
	a.w.must(err)
	return q.Messages
}

// jobs are those of the gateway.
func (w *world) jobs() (all []client.Job) {
	for job, err := range w.api.Jobs(w.t.Context()) {
		w.must(err)
		all = append(all, job)
	}
	return all
}

// goContainers run images by their names.
type goContainers struct {
	free chan struct{} // lets those go on that wait

	mu     sync.Mutex
	counts map[string]int // by the name of the job
}

// begun is how often a job of this name has begun.
func (r *goContainers) begun(name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts[name]
}

func (r *goContainers) Capabilities() runnerdriver.Capabilities {
	return runnerdriver.Capabilities{Kind: navvy.KindContainer, Output: true}
}

func (r *goContainers) Start(_ context.Context, t *runnerdriver.Task) (runnerdriver.Execution, error) {
	r.mu.Lock()
	r.counts[t.Spec.Container.Name]++
	r.mu.Unlock()
	return &goContainer{r: r, t: t, stop: make(chan struct{}, 1)}, nil
}

func (r *goContainers) Recover(context.Context, []byte, *runnerdriver.Task) (runnerdriver.Execution, error) {
	return nil, navvy.ErrNotFound
}

func (r *goContainers) Close() error { return nil }

type goContainer struct {
	r    *goContainers
	t    *runnerdriver.Task
	stop chan struct{}
}

func (x *goContainer) Handle() []byte { return nil }

func (x *goContainer) Wait(ctx context.Context) (end runnerdriver.End, err error) {
	refuse := func(r navvy.Reason, message string) { end.Refusal = &runnerdriver.Refusal{Reason: r, Message: message} }
	image := strings.TrimPrefix(x.t.Spec.Container.Image, "local/")
	switch image {
	case "late":
		refuse(navvy.ReasonTimeout, "it took longer than "+x.t.Spec.Timeout.String())
	case "image":
		refuse(navvy.ReasonImage, "ErrImagePull: connection refused")
	case "exit3":
		end.Exit.Code = 3
	case "oom":
		end.Exit.Signal, end.Usage.OOMKills = 9, 1
	case "big":
		for i := range 3 << 10 {
			_, err = fmt.Fprintf(x.t.Stdout, "%04d %s\n", i, bytes.Repeat([]byte("x"), 1018))
		}
		return end, err
	case "wait":
		select {
		case <-ctx.Done():
			return end, context.Cause(ctx)
		case <-x.stop:
			refuse(navvy.ReasonStopped, "stopped")
		case <-x.r.free:
		}
	}
	_, err = fmt.Fprintf(x.t.Stdout, "%s: \xff out\n", image)
	return end, err
}

func (x *goContainer) Stop(context.Context, bool) error {
	select {
	case x.stop <- struct{}{}:
	default:
	}
	return nil
}
