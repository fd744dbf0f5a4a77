package ask_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/ask"
	"github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/memqueue"
)

// eager is a broker that cannot wait with a message that is given back.
type eager struct {
	memqueue.Broker
	moves atomic.Int64
	fail  error         // of moves
	slow  time.Duration // each of them
	now   atomic.Int64  // how many are on their way
	most  atomic.Int64  // at once
}

func (e *eager) driver(u *url.URL, o *driver.Options) (driver.Dial, error) {
	dial, err := e.Driver(u, o)
	return func(ctx context.Context) (driver.Queue, error) {
		q, err := dial(ctx)
		return &eagerQueue{q, e}, err
	}, err
}

type eagerQueue struct {
	driver.Queue
	*eager
}

func (q *eagerQueue) Capabilities() driver.Capabilities {
	c := q.Queue.Capabilities()
	c.Delay = false
	return c
}

func (q *eagerQueue) Move(ctx context.Context, d *driver.Delivery, to driver.Place) error {
	q.moves.Add(1)
	defer q.now.Add(-1)
	now := q.now.Add(1)
	for most := q.most.Load(); now > most && !q.most.CompareAndSwap(most, now); most = q.most.Load() {
	}
	time.Sleep(q.slow) //nolint:forbidigo // in a synctest bubble
	if q.fail != nil {
		return q.fail
	}
	return q.Queue.Move(ctx, d, to)
}

func (e *eager) open(t *testing.T, name string) *queue.Queue {
	t.Helper()
	q, err := queue.Open(t.Context(), "mem://"+name, map[string]driver.Driver{"mem": e.driver}, &queue.Options{Outstanding: 100})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// crowd sends answers to somebody else.
func crowd(t *testing.T, q *queue.Queue, n int) {
	t.Helper()
	for i := range n {
		if err := q.Send(t.Context(), queue.Message{ID: fmt.Sprint("old-", i), Correlation: fmt.Sprintf("OTHER.%d", i), Body: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
	}
}

// Answers behind those of others are found, and the others stay.
func TestBehindStrangers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b eager
		in, out := b.open(t, "in"), b.open(t, "out")
		const n = 1000
		crowd(t, out, n)
		stop := serve(t, &b.Broker)
		a, err := ask.New(in, out, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Run(t.Context(), numbers(50), func(int64, []byte) error { return nil }); err != nil {
			t.Fatal(err)
		}
		stop()
		count, err := out.Count(t.Context())
		if err != nil || count.Waiting < n {
			t.Errorf("%+v, %v", count, err)
		}
		left := map[string]bool{}
		for range count.Waiting {
			leases, err := out.Receive(t.Context(), 1)
			if err != nil {
				t.Fatal(err)
			}
			l := leases[0]
			body, err := l.Body(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if l.Correlation() == fmt.Sprintf("OTHER.%s", body) && l.ID() == "old-"+string(body) {
				left[l.ID()] = true
			}
			if err := leases[0].Ack(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if len(left) != n {
			t.Errorf("%d of %d are left", len(left), n)
		}
		closeAll(t, in, out)
	})
}

// Two runs to which no answer comes do not move each other's answers without a pause.
func TestTwoAmongStrangers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b eager
		const n, patience = 300, 2 * time.Minute
		first := b.open(t, "out")
		crowd(t, first, n)
		done := make(chan error, 2)
		var ends []*queue.Queue
		for range 2 {
			in, out := b.open(t, "in"), b.open(t, "out")
			ends = append(ends, in, out)
			a, err := ask.New(in, out, &ask.Options{Patience: patience})
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				done <- a.Run(t.Context(), numbers(1), func(int64, []byte) error { return nil })
			}()
		}
		for range 2 {
			if err := <-done; !errors.Is(err, navvy.ErrUnavailable) {
				t.Errorf("the run ended with %v", err)
			}
		}
		// Rests are of a second at least once they are long.
		if most := 2 * n * (int64(patience/time.Second) + 20); b.moves.Load() > most || b.moves.Load() < n {
			t.Errorf("%d moves, want at most %d", b.moves.Load(), most)
		}
		closeAll(t, append(ends, first)...)
	})
}

// Where nothing can be put behind the others it stays where it is.
func TestStrangersStay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := eager{fail: fmt.Errorf("you may not send: %w", navvy.ErrDenied)}
		in, out := b.open(t, "in"), b.open(t, "out")
		crowd(t, out, 10)
		stop := serve(t, &b.Broker)
		a, err := ask.New(in, out, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Run(t.Context(), numbers(50), func(int64, []byte) error { return nil }); err != nil {
			t.Fatal(err)
		}
		stop()
		if b.moves.Load() > 20 {
			t.Errorf("%d moves were tried", b.moves.Load())
		}
		closeAll(t, in, out)
	})
}

// A crash leaves twice what is on its way: of many that is never much, also at the end of
// the patience, and the end waits for no more than that.
func TestFewMovesAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n, patience = 1000, 10 * time.Second
		b := eager{slow: time.Second}
		in, out := b.open(t, "in"), b.open(t, "out")
		crowd(t, out, n)
		a, err := ask.New(in, out, &ask.Options{Patience: patience})
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if err := a.Run(t.Context(), numbers(1), func(int64, []byte) error { return nil }); !errors.Is(err, navvy.ErrUnavailable) {
			t.Errorf("the run ended with %v", err)
		}
		if took := time.Since(begun); took > patience+2*b.slow {
			t.Errorf("it ended after %s", took)
		}
		if most := b.most.Load(); most != 32 {
			t.Errorf("%d moves at once", most)
		}
		if count, err := out.Count(t.Context()); err != nil || count.Waiting+count.Leased != n {
			t.Errorf("%+v, %v", count, err)
		}
		closeAll(t, in, out)
	})
}

// Where the broker can wait, thousands of answers that nobody has seen yet are passed
// without a rest, and stay as they were.
func TestBehindFreshStrangers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b memqueue.Broker
		in, out := open(t, &b, "in"), open(t, &b, "out")
		const n = 6000
		crowd(t, out, n)
		stop := serve(t, &b)
		a, err := ask.New(in, out, nil)
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if err := a.Run(t.Context(), numbers(500), func(int64, []byte) error { return nil }); err != nil {
			t.Fatal(err)
		}
		// No time passes but that of rests, and of answers that are to come later.
		if took := time.Since(begun); took > time.Second {
			t.Errorf("it rested for %s", took)
		}
		stop()
		left := map[string]bool{}
		for len(left) < n {
			leases, err := out.Receive(t.Context(), 100)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range leases {
				body, err := l.Body(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if l.Correlation() == fmt.Sprintf("OTHER.%s", body) && l.ID() == "old-"+string(body) {
					left[l.ID()] = true
				}
				if err := l.Ack(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		closeAll(t, in, out)
	})
}
