package ask_test

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/ask"
	"github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/drivertest"
	"github.com/navvy-run/navvy/queue/memqueue"
)

func openLarge(t *testing.T, b *memqueue.Broker, name string, shelf *drivertest.Shelf) *queue.Queue {
	t.Helper()
	q, err := queue.Open(t.Context(), "mem://"+name+"?envelope=json", map[string]driver.Driver{"mem": b.Driver}, &queue.Options{Outstanding: 5000, Claims: shelf, ClaimOver: 10})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

var largeAnswer = bytes.Repeat([]byte("large "), 100)

// answerLarge answers n requests, the last one first, so that all others wait for it; the
// broker delivers each answer twice, as the same message with one body.
func answerLarge(ctx context.Context, t *testing.T, n int, in, written, copied, out *queue.Queue) {
	var requests []*queue.Lease
	for len(requests) < n {
		leases, err := in.Receive(ctx, n)
		if err != nil {
			t.Error(err)
			return
		}
		requests = append(requests, leases...)
	}
	for i := range requests {
		l := requests[len(requests)-1-i]
		_, number, _ := strings.Cut(l.ID(), ".")
		if err := written.Send(ctx, queue.Message{Correlation: l.ID(), Body: append([]byte(number+" "), largeAnswer...)}); err != nil {
			t.Error(err)
		}
		raw, err := copied.Receive(ctx, 1)
		if err != nil {
			t.Error(err)
			return
		}
		m := queue.Message{Body: drivertest.Body(t, raw[0])}
		if err := out.Send(ctx, m, m); err != nil {
			t.Error(err)
		}
		for _, l := range []*queue.Lease{raw[0], l} {
			if err := l.Ack(ctx); err != nil {
				t.Error(err)
			}
		}
	}
}

// A large answer that comes again while it waits for its turn keeps its body until it was
// given, and both leave their queue then.
func TestLargeAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 10
		var b memqueue.Broker
		shelf := &drivertest.Shelf{}
		in, written, copied, out := open(t, &b, "in"), openLarge(t, &b, "written", shelf), open(t, &b, "written"), open(t, &b, "out")
		done := make(chan bool)
		go func() {
			defer close(done)
			answerLarge(context.Background(), t, n, in, written, copied, out)
		}()
		requests, responses := open(t, &b, "in"), openLarge(t, &b, "out", shelf)
		a, err := ask.New(requests, responses, nil)
		if err != nil {
			t.Fatal(err)
		}
		given := 0
		err = a.Run(t.Context(), numbers(n), func(i int64, body []byte) error {
			if given++; string(body) != strconv.FormatInt(i, 10)+" "+string(largeAnswer) {
				return fmt.Errorf("%d: %.50q", i, body)
			}
			return nil
		})
		<-done
		if err != nil || given != n {
			t.Errorf("%d answers, %v", given, err)
		}
		if names := shelf.Names(); len(names) != 0 {
			t.Errorf("%q are left", names)
		}
		closeAll(t, in, written, copied, out, requests, responses)
	})
}
