package ask_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/ask"
	"github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/drivertest"
	"github.com/navvy-run/navvy/queue/memqueue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, b *memqueue.Broker, name string) *queue.Queue {
	t.Helper()
	q, err := queue.Open(t.Context(), "mem://"+name, map[string]driver.Driver{"mem": b.Driver}, &queue.Options{Outstanding: 5000})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func closeAll(t *testing.T, queues ...*queue.Queue) {
	t.Helper()
	for _, q := range queues {
		if err := q.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

func numbers(n int) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for i := range n {
			if !yield(fmt.Append(nil, i), nil) {
				return
			}
		}
	}
}

// serve answers what comes in an order of its own, some of it twice, until stopped.
func serve(t *testing.T, b *memqueue.Broker) (stop func()) {
	in, out := open(t, b, "in"), open(t, b, "out")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan bool)
	go func() {
		defer close(done)
		for {
			leases, err := in.Receive(ctx, 50)
			if err != nil {
				return
			}
			rand.Shuffle(len(leases), func(i, j int) { leases[i], leases[j] = leases[j], leases[i] })
			for i, l := range leases {
				m := queue.Message{Correlation: l.ID(), Body: append([]byte("re "), drivertest.Body(t, l)...)}
				twice := []queue.Message{m, m}
				if err := out.Send(ctx, twice[:1+i%2]...); err != nil {
					return
				}
				_ = l.Ack(ctx)
			}
		}
	}()
	return func() {
		cancel()
		<-done
		closeAll(t, in, out)
	}
}

func TestOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b memqueue.Broker
		stop := serve(t, &b)
		requests, responses := open(t, &b, "in"), open(t, &b, "out")
		for _, o := range []*ask.Options{nil, {Window: 3}, {Unordered: true, Window: 50}} {
			a, err := ask.New(requests, responses, o)
			if err != nil {
				t.Fatal(err)
			}
			const n = 2000
			var got []int
			err = a.Run(t.Context(), numbers(n), func(i int64, body []byte) error {
				if want := fmt.Sprint("re ", i); string(body) != want {
					return fmt.Errorf("%q, want %q", body, want)
				}
				got = append(got, int(i))
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if o == nil || !o.Unordered {
				if !slices.IsSorted(got) {
					t.Error("they are out of order")
				}
			}
			slices.Sort(got)
			if len(slices.Compact(got)) != n {
				t.Errorf("%d answers", len(got))
			}
			if sent, answered, total := a.Progress(); sent != n || answered != n || total != n {
				t.Errorf("%d, %d, %d", sent, answered, total)
			}
		}
		stop()
		closeAll(t, requests, responses)
	})
}

// Two runs over one pair of queues each get their own.
func TestTwoRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b memqueue.Broker
		stop := serve(t, &b)
		done := make(chan error)
		for run := range 2 {
			requests, responses := open(t, &b, "in"), open(t, &b, "out")
			a, err := ask.New(requests, responses, nil)
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				n := 0
				inputs := func(yield func([]byte, error) bool) {
					for range 300 {
						if !yield(fmt.Append(nil, run), nil) {
							return
						}
					}
				}
				err := a.Run(t.Context(), inputs, func(_ int64, body []byte) error {
					if n++; string(body) != fmt.Sprint("re ", run) {
						return fmt.Errorf("run %d got %q", run, body)
					}
					return nil
				})
				closeAll(t, requests, responses)
				if err == nil && n != 300 {
					err = fmt.Errorf("run %d got %d", run, n)
				}
				done <- err
			}()
		}
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		stop()
	})
}

// Nothing at all is asked; nobody answers; an input is wrong; the printer fails.
func TestEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b memqueue.Broker
		requests, responses := open(t, &b, "in"), open(t, &b, "out")
		run := func(o *ask.Options, inputs iter.Seq2[[]byte, error], give func(int64, []byte) error) error {
			a, err := ask.New(requests, responses, o)
			if err != nil {
				t.Fatal(err)
			}
			return a.Run(t.Context(), inputs, give)
		}
		never := func(int64, []byte) error { return errors.New("there is no answer") }
		if err := run(nil, numbers(0), never); err != nil {
			t.Error(err)
		}
		err := run(&ask.Options{Patience: time.Minute}, numbers(5), never)
		if !errors.Is(err, navvy.ErrUnavailable) || !strings.Contains(err.Error(), "0 of 5") {
			t.Error(err)
		}
		wrong := errors.New("line 2 is too long")
		err = run(nil, func(yield func([]byte, error) bool) { _ = yield([]byte("x"), nil) && yield(nil, wrong) }, never)
		if !errors.Is(err, wrong) {
			t.Error(err)
		}
		stop := serve(t, &b)
		full := errors.New("the disk is full")
		if err := run(nil, numbers(5), func(int64, []byte) error { return full }); !errors.Is(err, full) {
			t.Error(err)
		}
		stop()
		closeAll(t, requests, responses)
	})
}
