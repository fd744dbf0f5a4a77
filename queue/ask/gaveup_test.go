package ask_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/ask"
	"github.com/navvy-run/navvy/queue/drivertest"
	"github.com/navvy-run/navvy/queue/memqueue"
)

// orphans puts answers to nobody into a queue.
func orphans(t *testing.T, q *queue.Queue, n int) {
	t.Helper()
	for i := range n {
		if err := q.Send(t.Context(), queue.Message{Correlation: fmt.Sprint("other.", i), Body: []byte("old")}); err != nil {
			t.Fatal(err)
		}
	}
}

// An answer to somebody else keeps nobody waiting, is not received over and over, and stays.
func TestPatienceWithOrphans(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b memqueue.Broker
		requests, responses := open(t, &b, "in"), open(t, &b, "out")
		orphans(t, responses, 1)
		a, err := ask.New(requests, responses, &ask.Options{Patience: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		err = a.Run(t.Context(), numbers(1), func(int64, []byte) error { return errors.New("there is no answer") })
		if took := time.Since(began); !errors.Is(err, navvy.ErrUnavailable) || took != time.Minute {
			t.Errorf("gave up after %s: %v", took, err)
		}
		leases, err := responses.Receive(t.Context(), 10)
		if err != nil || len(leases) != 1 || string(drivertest.Body(t, leases[0])) != "old" {
			t.Fatalf("%v, %v", leases, err)
		}
		if n := leases[0].Attempt(); n > 60 {
			t.Errorf("it was received %d times in a minute", n)
		}
		if err := leases[0].Ack(t.Context()); err != nil {
			t.Error(err)
		}
		closeAll(t, requests, responses)
	})
}

// More answers to others than are received at once hide no answer behind them.
func TestBehindOrphans(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b memqueue.Broker
		requests, responses := open(t, &b, "in"), open(t, &b, "out")
		orphans(t, responses, 1000)
		stop := serve(t, &b)
		a, err := ask.New(requests, responses, &ask.Options{Patience: 10 * time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		if err := a.Run(t.Context(), numbers(300), func(int64, []byte) error { n++; return nil }); err != nil || n != 300 {
			t.Errorf("%d answers: %v", n, err)
		}
		stop()
		closeAll(t, requests, responses)
	})
}

// Giving up gives what has come, once, and names what has not.
func TestGiveUpGives(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b memqueue.Broker
		requests, responses := open(t, &b, "in"), open(t, &b, "out")
		const n, window = 40, 30
		served := make(chan error, 1)
		go func() { served <- answerSome(t, &b, window, func(i int) bool { return i == 0 || i%10 == 5 }) }()
		a, err := ask.New(requests, responses, &ask.Options{Patience: time.Minute, Window: window})
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		err = a.Run(t.Context(), numbers(n), func(i int64, body []byte) error {
			got = append(got, i)
			if want := fmt.Sprint("re ", i); string(body) != want {
				return fmt.Errorf("%q, want %q", body, want)
			}
			return nil
		})
		if err := <-served; err != nil {
			t.Fatal(err)
		}
		if want := []int64{0, 5, 15, 25}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		// The answer that was given in its turn made room for one more request.
		up, ok := errors.AsType[*ask.GaveUpError](err)
		if !ok || up.Answered != 4 || len(up.Missing) != window+1-4 || up.Missing[0] != 1 || !up.More {
			t.Fatalf("%+v: %v", up, err)
		}
		if text := err.Error(); !strings.Contains(text, "4 of 31 requests are answered, not inputs 2, 3, 4, 5, 7, 8, 9, 10, 11, 12 … and 17 more") ||
			!strings.Contains(text, "what comes behind input 31 was not sent") {
			t.Error(text)
		}
		closeAll(t, requests, responses)
		if left := memLeft(t, &b, "out"); left != 0 {
			t.Errorf("%d answers that were given are still in their queue", left)
		}
	})
}

// answerSome takes requests and answers those of some inputs, the last one first.
func answerSome(t *testing.T, b *memqueue.Broker, n int, some func(int) bool) error {
	in, out := open(t, b, "in"), open(t, b, "out")
	defer closeAll(t, in, out)
	var all []*queue.Lease
	for len(all) < n {
		leases, err := in.Receive(t.Context(), n)
		if err != nil {
			return err
		}
		all = append(all, leases...)
	}
	slices.Reverse(all)
	for _, l := range all {
		var i int
		if _, err := fmt.Sscan(string(drivertest.Body(t, l)), &i); err != nil {
			return err
		}
		if some(i) {
			if err := out.Send(t.Context(), queue.Message{Correlation: l.ID(), Body: fmt.Append(nil, "re ", i)}); err != nil {
				return err
			}
		}
		if err := l.Ack(t.Context()); err != nil {
			return err
		}
	}
	return nil
}

// memLeft counts what is left in a queue, also what comes again in a while.
func memLeft(t *testing.T, b *memqueue.Broker, name string) (n int) {
	t.Helper()
	q := open(t, b, name)
	defer closeAll(t, q)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		leases, err := q.Receive(ctx, 100)
		cancel()
		if err != nil {
			return n
		}
		for _, l := range leases {
			n++
			if err := l.Ack(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
}
