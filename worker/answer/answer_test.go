package answer_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/drivertest"
	"github.com/navvy-run/navvy/queue/memqueue"
	"github.com/navvy-run/navvy/worker/answer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a pair of queues on a broker, and a client of it.
type world struct {
	*testing.T
	broker    memqueue.Broker
	requests  *queue.Queue // the client's
	responses *queue.Queue
}

// inWorld runs a test on a broker in memory, with a clock that jumps.
func inWorld(t *testing.T, test func(*world)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t}
		w.requests, w.responses = w.open("requests", nil), w.open("responses", nil)
		test(w)
		for _, q := range []*queue.Queue{w.requests, w.responses} {
			if err := q.Close(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
}

func (w *world) open(name string, o *queue.Options) *queue.Queue {
	w.Helper()
	q, err := queue.Open(w.Context(), "mem://"+name, map[string]driver.Driver{"mem": w.broker.Driver}, o)
	if err != nil {
		w.Fatal(err)
	}
	return q
}

// running is a worker that runs.
type running struct {
	*answer.Worker
	w          *world
	soft, hard func()
	queues     []*queue.Queue
	ended      chan error
}

func (w *world) start(s answer.Service, o *answer.Options, lease time.Duration) *running {
	w.Helper()
	requests, responses := w.open("requests", &queue.Options{Lease: lease}), w.open("responses", nil)
	if o == nil {
		o = &answer.Options{}
	}
	o.Logger = slog.New(slog.NewTextHandler(w.Output(), nil))
	r := &running{Worker: answer.New(requests, responses, s, o), w: w, queues: []*queue.Queue{requests, responses}, ended: make(chan error, 1)}
	soft, endSoft := context.WithCancel(context.Background())
	hard, endHard := context.WithCancel(context.Background())
	r.soft, r.hard = endSoft, endHard
	go func() { r.ended <- r.Run(soft, hard) }()
	return r
}

// stop ends the worker, which must leave nothing behind.
func (r *running) stop() {
	r.w.Helper()
	r.soft()
	if err := <-r.ended; err != nil {
		r.w.Error(err)
	}
	r.hard()
	r.leave()
}

func (r *running) leave() {
	r.w.Helper()
	for _, q := range r.queues {
		if err := q.Close(context.Background()); err != nil {
			r.w.Error(err)
		}
	}
}

func (w *world) ask(bodies ...string) {
	w.Helper()
	for _, body := range bodies {
		if err := w.requests.Send(w.Context(), queue.Message{ID: "id-" + body, Body: []byte(body)}); err != nil {
			w.Fatal(err)
		}
	}
}

// hear receives one message of a queue, and acknowledges it.
func (w *world) hear(q *queue.Queue) *queue.Lease {
	w.Helper()
	leases, err := q.Receive(w.Context(), 1)
	if err != nil {
		w.Fatal(err)
	}
	if err := leases[0].Ack(w.Context()); err != nil {
		w.Fatal(err)
	}
	return leases[0]
}

// silent sees that nothing comes within an hour.
func (w *world) silent(q *queue.Queue) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), time.Hour)
	defer cancel()
	if leases, err := q.Receive(ctx, 1); err == nil {
		w.Errorf("%s: %q", q.Name(), drivertest.Body(w, leases[0]))
	}
}

func upper(_ context.Context, r *answer.Request) ([]byte, error) {
	return []byte(strings.ToUpper(string(r.Body))), nil
}

func TestAnswers(t *testing.T) {
	inWorld(t, func(w *world) {
		r := w.start(upper, nil, 0)
		const n = 200
		for i := range n {
			w.ask(fmt.Sprint("a", i))
		}
		seen := map[string]bool{}
		for range n {
			l := w.hear(w.responses)
			if want := "id-" + strings.ToLower(string(drivertest.Body(w, l))); l.Correlation() != want {
				w.Errorf("the answer %q is to %q", drivertest.Body(w, l), l.Correlation())
			}
			seen[string(drivertest.Body(w, l))] = true
		}
		if len(seen) != n {
			w.Errorf("%d answers", len(seen))
		}
		r.stop()
		if s := r.Stats(); s != (answer.Stats{Answered: n}) {
			w.Errorf("%+v", s)
		}
		w.silent(w.requests)
		w.silent(w.responses)
	})
}

// A request that has a correlation id of its own is answered with that.
func TestCorrelation(t *testing.T) {
	inWorld(t, func(w *world) {
		r := w.start(upper, nil, 0)
		if err := w.requests.Send(w.Context(), queue.Message{ID: "x", Correlation: "mine", Body: []byte("a")}); err != nil {
			w.Fatal(err)
		}
		if l := w.hear(w.responses); l.Correlation() != "mine" {
			w.Errorf("correlation %q", l.Correlation())
		}
		r.stop()
	})
}

// Three minutes of work on a lease of ten seconds are done once.
func TestLongWork(t *testing.T) {
	inWorld(t, func(w *world) {
		var runs atomic.Int32
		slow := func(context.Context, *answer.Request) ([]byte, error) {
			runs.Add(1)
			time.Sleep(3 * time.Minute) //nolint:forbidigo // inside a synctest bubble
			return []byte("done"), nil
		}
		first, second := w.start(slow, nil, 10*time.Second), w.start(slow, nil, 10*time.Second)
		w.ask("long")
		w.hear(w.responses)
		w.silent(w.responses)
		if runs.Load() != 1 {
			w.Errorf("it was done %d times", runs.Load())
		}
		first.stop()
		second.stop()
	})
}

// What fails comes back, later each time, and goes to the dead letters with its reason.
func TestPoison(t *testing.T) {
	inWorld(t, func(w *world) {
		var at []time.Time
		r := w.start(func(_ context.Context, r *answer.Request) ([]byte, error) {
			at = append(at, time.Now())
			return nil, fmt.Errorf("no good, %d", r.Attempt)
		}, &answer.Options{Attempts: 4}, 0)
		w.ask("bad")
		dead := w.open("requests.dead", nil)
		l := w.hear(dead)
		if string(drivertest.Body(w, l)) != "bad" || l.Reason() != "no good, 4" || l.ID() != "id-bad" {
			w.Errorf("%s: %q, since %s", l.ID(), drivertest.Body(w, l), l.Reason())
		}
		for i := 1; i < len(at); i++ {
			if want := time.Second << (i - 1); at[i].Sub(at[i-1]) < want {
				w.Errorf("try %d came after %s, want %s", i+1, at[i].Sub(at[i-1]), want)
			}
		}
		r.stop()
		if s := r.Stats(); s != (answer.Stats{Failed: 3, Dead: 1}) {
			w.Errorf("%+v", s)
		}
		w.silent(w.responses)
		if err := dead.Close(context.Background()); err != nil {
			w.Error(err)
		}
	})
}

// A request that was delivered too often without any end, since it kills workers, is not
// worked on again; what can never be answered is dead at once.
func TestDeadAtOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ask("killer", "nonsense")
		for range 2 {
			leases, err := w.requests.Receive(w.Context(), 1)
			if err != nil {
				w.Fatal(err)
			}
			if err := leases[0].Nack(w.Context(), 0); err != nil { // the oldest comes again
				w.Fatal(err)
			}
		}
		r := w.start(func(_ context.Context, r *answer.Request) ([]byte, error) {
			if string(r.Body) == "killer" {
				w.Error("it was worked on")
			}
			return nil, fmt.Errorf("what is that: %w", navvy.ErrInvalid)
		}, &answer.Options{Attempts: 2}, 0)
		dead := w.open("requests.dead", nil)
		reasons := map[string]string{}
		for range 2 {
			l := w.hear(dead)
			reasons[string(drivertest.Body(w, l))] = l.Reason()
		}
		if !strings.Contains(reasons["killer"], "delivered 2 times") || !strings.Contains(reasons["nonsense"], "what is that") {
			w.Errorf("%q", reasons)
		}
		r.stop()
		if err := dead.Close(context.Background()); err != nil {
			w.Error(err)
		}
	})
}

// A service that is away is waited for: no attempt is used up.
func TestAway(t *testing.T) {
	inWorld(t, func(w *world) {
		var calls atomic.Int32
		r := w.start(func(_ context.Context, r *answer.Request) ([]byte, error) {
			if calls.Add(1) < 20 {
				return nil, fmt.Errorf("it starts again: %w", navvy.ErrUnavailable)
			}
			return fmt.Append(nil, r.Attempt), nil
		}, nil, 10*time.Second)
		w.ask("x")
		if l := w.hear(w.responses); string(drivertest.Body(w, l)) != "1" {
			w.Errorf("it was answered at attempt %s", drivertest.Body(w, l))
		}
		r.stop()
	})
}

// A service that takes too long is told to stop, and its answer does not count.
func TestTimeout(t *testing.T) {
	inWorld(t, func(w *world) {
		r := w.start(func(ctx context.Context, _ *answer.Request) ([]byte, error) {
			<-ctx.Done()
			return []byte("too late"), nil
		}, &answer.Options{Timeout: time.Minute, Attempts: 1}, 0)
		w.ask("x")
		dead := w.open("requests.dead", nil)
		if l := w.hear(dead); !strings.Contains(l.Reason(), "within 1m0s") {
			w.Errorf("its reason: %q", l.Reason())
		}
		w.silent(w.responses)
		r.stop()
		if err := dead.Close(context.Background()); err != nil {
			w.Error(err)
		}
	})
}

// A worker that is told to end lets work end; what has not ended is given back at once.
func TestDrain(t *testing.T) {
	inWorld(t, func(w *world) {
		var begun sync.WaitGroup
		begun.Add(2)
		r := w.start(func(ctx context.Context, r *answer.Request) ([]byte, error) {
			begun.Done()
			if string(r.Body) == "quick" {
				time.Sleep(time.Second) //nolint:forbidigo // inside a synctest bubble
				return []byte("done"), nil
			}
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}, nil, time.Hour)
		w.ask("quick", "slow")
		begun.Wait()
		r.soft()
		w.ask("late")
		w.hear(w.responses)
		synctest.Wait()
		told := time.Now()
		r.hard()
		if err := <-r.ended; err != nil {
			w.Error(err)
		}
		r.leave()
		seen := map[string]bool{}
		for range 2 {
			l := w.hear(w.requests)
			seen[string(drivertest.Body(w, l))] = true
		}
		if !seen["slow"] || !seen["late"] || time.Since(told) > time.Second {
			w.Errorf("%v came back after %s", seen, time.Since(told))
		}
		if s := r.Stats(); s != (answer.Stats{Answered: 1, Returned: 1}) {
			w.Errorf("%+v", s)
		}
	})
}

// An answer that no broker takes makes a dead letter, not a loop.
func TestLongAnswer(t *testing.T) {
	inWorld(t, func(w *world) {
		r := w.start(func(context.Context, *answer.Request) ([]byte, error) {
			return make([]byte, 64<<20+1), nil
		}, nil, 0)
		w.ask("x")
		dead := w.open("requests.dead", nil)
		if l := w.hear(dead); !strings.Contains(l.Reason(), "cannot be sent") {
			w.Errorf("its reason: %q", l.Reason())
		}
		r.stop()
		if err := dead.Close(context.Background()); err != nil {
			w.Error(err)
		}
	})
}

// A broker that goes away in the midst loses nothing; what is answered twice has the same
// correlation id.
func TestBrokerAway(t *testing.T) {
	inWorld(t, func(w *world) {
		r := w.start(func(ctx context.Context, r *answer.Request) ([]byte, error) {
			time.Sleep(time.Second) //nolint:forbidigo // inside a synctest bubble
			return r.Body, nil
		}, nil, 10*time.Second)
		const n = 50
		for i := range n {
			w.ask(fmt.Sprint(i))
		}
		for range 3 {
			time.Sleep(1500 * time.Millisecond) //nolint:forbidigo // inside a synctest bubble
			w.broker.Kill()
			time.Sleep(15 * time.Second) //nolint:forbidigo // inside a synctest bubble
			w.broker.Restart()
		}
		missing := map[string]bool{}
		for i := range n {
			missing[fmt.Sprint("id-", i)] = true
		}
		for len(missing) > 0 {
			l := w.hear(w.responses)
			if l.Correlation() != "id-"+string(drivertest.Body(w, l)) {
				w.Errorf("the answer %q is to %q", drivertest.Body(w, l), l.Correlation())
			}
			delete(missing, l.Correlation())
		}
		r.stop()
	})
}

// Errors that do not mend by waiting end the worker.
func TestClosedQueue(t *testing.T) {
	inWorld(t, func(w *world) {
		r := w.start(upper, nil, 0)
		synctest.Wait()
		r.leave()
		if err := <-r.ended; !errors.Is(err, navvy.ErrClosed) {
			w.Error(err)
		}
		r.soft()
		r.hard()
	})
}
