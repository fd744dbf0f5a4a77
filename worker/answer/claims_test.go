package answer_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/drivertest"
	"github.com/navvy-run/navvy/worker/answer"
)

// openLarge opens a queue with the envelope, whose bodies of more than 100 bytes go to a shelf.
func (w *world) openLarge(name string, shelf *drivertest.Shelf) *queue.Queue {
	w.Helper()
	o := &queue.Options{Lease: 10 * time.Second}
	if shelf != nil {
		o.Claims, o.ClaimOver = shelf, 100
	}
	q, err := queue.Open(w.Context(), "mem://"+name+"?envelope=json", map[string]driver.Driver{"mem": w.broker.Driver}, o)
	if err != nil {
		w.Fatal(err)
	}
	return q
}

// startLarge starts a worker that has that shelf; nil for none.
func (w *world) startLarge(s answer.Service, shelf *drivertest.Shelf) *running {
	w.Helper()
	return w.startLargeWith(s, shelf, &answer.Options{})
}

func (w *world) startLargeWith(s answer.Service, shelf *drivertest.Shelf, o *answer.Options) *running {
	w.Helper()
	requests, responses := w.openLarge("requests", shelf), w.openLarge("responses", shelf)
	o.Logger = slog.New(slog.NewTextHandler(w.Output(), nil))
	r := &running{Worker: answer.New(requests, responses, s, o), w: w, queues: []*queue.Queue{requests, responses}, ended: make(chan error, 1)}
	soft, endSoft := context.WithCancel(context.Background())
	hard, endHard := context.WithCancel(context.Background())
	r.soft, r.hard = endSoft, endHard
	go func() { r.ended <- r.Run(soft, hard) }()
	return r
}

// inLargeWorld is inWorld with a client that has the shelf.
func inLargeWorld(t *testing.T, shelf *drivertest.Shelf, test func(w *world, requests, responses *queue.Queue)) {
	t.Helper()
	inWorld(t, func(w *world) {
		requests, responses := w.openLarge("requests", shelf), w.openLarge("responses", shelf)
		test(w, requests, responses)
		for _, q := range []*queue.Queue{requests, responses} {
			if err := q.Close(context.Background()); err != nil {
				w.Error(err)
			}
		}
	})
}

var largeBody = bytes.Repeat([]byte("large "), 100)

func (w *world) askLarge(q *queue.Queue) {
	w.Helper()
	if err := q.Send(w.Context(), queue.Message{ID: "large", Body: largeBody}); err != nil {
		w.Fatal(err)
	}
}

// hearLarge receives the answer to the large request, and acknowledges it.
func (w *world) hearLarge(q *queue.Queue) {
	w.Helper()
	leases, err := q.Receive(w.Context(), 1)
	if err != nil {
		w.Fatal(err)
	}
	l := leases[0]
	if got := drivertest.Body(w, l); !bytes.Equal(got, bytes.ToUpper(largeBody)) || l.Correlation() != "large" {
		w.Errorf("%.50q answers %s", got, l.Correlation())
	}
	if err := l.Ack(w.Context()); err != nil {
		w.Error(err)
	}
}

// Large requests are answered by large answers, and nothing is left of either.
func TestLargeBodies(t *testing.T) {
	shelf := &drivertest.Shelf{}
	inLargeWorld(t, shelf, func(w *world, requests, responses *queue.Queue) {
		w.askLarge(requests)
		r := w.startLarge(upper, shelf)
		w.hearLarge(responses)
		r.stop()
		if names := shelf.Names(); len(names) != 0 || r.Stats().Answered != 1 {
			w.Errorf("left %q; %+v", names, r.Stats())
		}
	})
}

// A worker without the place of large bodies leaves their requests to others, also when they
// have come often: they are no dead letters.
func TestNoPlace(t *testing.T) {
	shelf := &drivertest.Shelf{}
	inLargeWorld(t, shelf, func(w *world, requests, responses *queue.Queue) {
		for _, strange := range []*drivertest.Shelf{nil, {Name: "a wall"}, {Fail: func(string, string) error { return navvy.ErrDenied }}} {
			w.askLarge(requests)
			r := w.startLarge(func(context.Context, *answer.Request) ([]byte, error) {
				return nil, errors.New("the service is called without the body")
			}, strange)
			time.Sleep(11 * time.Minute) //nolint:forbidigo // inside a synctest bubble
			r.stop()
			if n := r.Stats(); n.Dead != 0 || n.Failed != 3 {
				w.Errorf("%+v", n)
			}
			r = w.startLarge(upper, shelf)
			w.hearLarge(responses)
			r.stop()
		}
		w.askLarge(requests)
		r := w.startLarge(upper, nil)
		time.Sleep(3 * time.Hour) //nolint:forbidigo // inside a synctest bubble
		r.stop()
		if n := r.Stats(); n.Dead != 0 || n.Failed < 30 || len(shelf.Names()) != 1 {
			w.Errorf("%+v, %q", n, shelf.Names())
		}
	})
}

// A request whose body is gone, or damaged, is a dead letter that says so, in the end; one
// with a claim that makes no sense is at once.
func TestBodyGone(t *testing.T) {
	shelf := &drivertest.Shelf{}
	inLargeWorld(t, shelf, func(w *world, requests, _ *queue.Queue) {
		w.askLarge(requests)
		if err := shelf.Remove(w.Context(), shelf.Names()[0]); err != nil {
			w.Fatal(err)
		}
		r := w.startLarge(upper, shelf)
		dead := w.open("requests.dead", nil)
		if l := w.hear(dead); !strings.Contains(l.Reason(), "is not in a shelf any more") {
			w.Error(l.Reason())
		}
		if err := w.requests.Send(w.Context(), queue.Message{Body: []byte(`{"navvy":1,"id":"x","claim":{"name":"../../etc/passwd"}}`)}); err != nil {
			w.Fatal(err)
		}
		if l := w.hear(dead); !strings.Contains(l.Reason(), "is no name of a body") {
			w.Error(l.Reason())
		}
		r.stop()
		if n := r.Stats(); n.Dead != 2 || n.Failed != 4 {
			w.Errorf("%+v", n)
		}
		if err := dead.Close(context.Background()); err != nil {
			w.Error(err)
		}
	})
}

// However often a request may fail, a body that is gone is tried a few times only.
func TestBodyGoneForEver(t *testing.T) {
	shelf := &drivertest.Shelf{}
	inLargeWorld(t, shelf, func(w *world, requests, _ *queue.Queue) {
		w.askLarge(requests)
		if err := shelf.Remove(w.Context(), shelf.Names()[0]); err != nil {
			w.Fatal(err)
		}
		r := w.startLargeWith(upper, shelf, &answer.Options{Attempts: math.MaxInt32})
		time.Sleep(time.Hour) //nolint:forbidigo // inside a synctest bubble
		r.stop()
		if n := r.Stats(); n.Dead != 1 || n.Failed != 4 {
			w.Errorf("%+v", n)
		}
	})
}

// While the place is away requests wait for it, and answers do, under their leases: nobody
// else gets them, and they are not blamed. A worker that ends gives them back.
func TestPlaceAway(t *testing.T) {
	var away atomic.Bool
	shelf := &drivertest.Shelf{Fail: func(string, string) error {
		if away.Load() {
			return navvy.ErrUnavailable
		}
		return nil
	}}
	inLargeWorld(t, shelf, func(w *world, requests, responses *queue.Queue) {
		w.askLarge(requests)
		away.Store(true)
		r := w.startLarge(upper, shelf)
		time.Sleep(time.Hour) //nolint:forbidigo // inside a synctest bubble
		r.soft()
		r.hard()
		synctest.Wait()
		r.stop()
		if n := r.Stats(); n.Returned != 1 || n.Failed+n.Dead+n.Lost != 0 {
			w.Errorf("%+v", n)
		}
		attempts := 0
		r = w.startLarge(func(ctx context.Context, r *answer.Request) ([]byte, error) {
			away.Store(true)
			attempts = r.Attempt
			return upper(ctx, r)
		}, shelf)
		time.Sleep(time.Hour) //nolint:forbidigo // inside a synctest bubble
		away.Store(false)
		synctest.Wait()
		time.Sleep(time.Hour) //nolint:forbidigo // inside a synctest bubble
		away.Store(false)
		w.hearLarge(responses)
		r.stop()
		if n := r.Stats(); n.Answered != 1 || n.Failed+n.Dead+n.Lost != 0 || attempts != 2 {
			w.Errorf("%+v, attempt %d", n, attempts)
		}
	})
}
