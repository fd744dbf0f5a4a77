package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/drivertest"
)

// A renewal comes before half of a lease is over, and one that fails is tried again.
func TestRenewal(t *testing.T) {
	var at []time.Time
	var begun time.Time
	f := &faults{renew: func([]*driver.Delivery) []error {
		at = append(at, time.Now())
		if len(at) < 4 {
			return []error{errThrottled}
		}
		return nil
	}}
	inBubble(t, f, nil, func(t *testing.T, q *queue.Queue) {
		begun = time.Now()
		if err := q.Send(t.Context(), queue.Message{Body: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		l := one(t, q)
		time.Sleep(10 * time.Minute) //nolint:forbidigo // inside a synctest bubble
		if l.Lost() != nil {
			t.Error(l.Lost())
		}
		if err := l.Ack(t.Context()); err != nil { // after which there is none any more
			t.Error(err)
		}
		if first := at[0].Sub(begun); first >= 30*time.Second || first < 10*time.Second {
			t.Errorf("the first renewal came after %s", first)
		}
		if n := f.renewed.Load(); n < 20 || n > 40 {
			t.Errorf("%d renewals in 10 minutes of a lease of one", n)
		}
	})
}

// A lease that cannot be renewed ends its work when it is over, with a cause.
func TestRenewalFails(t *testing.T) {
	f := &faults{renew: func(ds []*driver.Delivery) []error { return driver.Each(len(ds), errThrottled) }}
	inBubble(t, f, nil, func(t *testing.T, q *queue.Queue) {
		if err := q.Send(t.Context(), queue.Message{Body: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		l := one(t, q)
		work, end := l.Context(t.Context())
		defer end()
		<-work.Done()
		if took := time.Since(begun); took < 50*time.Second || took > time.Minute {
			t.Errorf("the work was ended after %s", took)
		}
		for what, err := range map[string]error{"the work": context.Cause(work), "the lease": l.Lost(), "ack": l.Ack(t.Context())} {
			if !errors.Is(err, navvy.ErrLeaseLost) || !strings.Contains(err.Error(), "too fast") {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}

// Who has lost a lease is told at the next renewal.
func TestLeaseTaken(t *testing.T) {
	f := &faults{renew: func(ds []*driver.Delivery) []error {
		return driver.Each(len(ds), fmt.Errorf("somebody has it: %w", navvy.ErrLeaseLost))
	}}
	inBubble(t, f, nil, func(t *testing.T, q *queue.Queue) {
		if err := q.Send(t.Context(), queue.Message{Body: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		work, end := one(t, q).Context(t.Context())
		defer end()
		<-work.Done()
		if took := time.Since(begun); took > 30*time.Second || !errors.Is(context.Cause(work), navvy.ErrLeaseLost) {
			t.Errorf("after %s: %v", took, context.Cause(work))
		}
	})
}

// Leases of a connection are lost with it, at once.
func TestHeld(t *testing.T) {
	f := &faults{held: true}
	inBubble(t, f, nil, func(t *testing.T, q *queue.Queue) {
		if err := q.Send(t.Context(), queue.Message{Body: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		l := one(t, q)
		work, end := l.Context(t.Context())
		defer end()
		f.Kill()
		go f.Restart()
		if err := q.Send(t.Context(), queue.Message{Body: []byte("y")}); err != nil { // which notices
			t.Fatal(err)
		}
		<-work.Done()
		if err := l.Ack(t.Context()); !errors.Is(err, navvy.ErrLeaseLost) || !errors.Is(context.Cause(work), navvy.ErrLeaseLost) {
			t.Errorf("%v; the work: %v", err, context.Cause(work))
		}
		if f.renewed.Load() != 0 {
			t.Error("there is nothing to renew")
		}
	})
}

// What is sent goes through lost connections and throttling; only what failed goes again.
func TestInsist(t *testing.T) {
	sent := map[string]int{}
	tries := 0
	f := &faults{}
	f.send = func(ms []*driver.Message) []error {
		errs := make([]error, len(ms))
		tries++
		for i, m := range ms {
			switch {
			case string(m.Body) == "bad":
				errs[i] = navvy.ErrInvalid
			case tries < 3:
				errs[i] = errThrottled
			case tries < 5:
				errs[i] = errAway
			default:
				sent[string(m.Body)]++
			}
		}
		return errs
	}
	inBubble(t, f, nil, func(t *testing.T, q *queue.Queue) {
		err := q.Send(t.Context(), queue.Message{Body: []byte("a")}, queue.Message{Body: []byte("bad")}, queue.Message{Body: []byte("b")})
		if !errors.Is(err, navvy.ErrInvalid) || sent["a"] != 1 || sent["b"] != 1 {
			t.Errorf("%v, sent %v", err, sent)
		}
		if n := f.dials.Load(); n != 3 {
			t.Errorf("%d connections, want the first and one after each loss", n)
		}
	})
}

// Messages of calls at once go together: those that come while four batches are on their way.
func TestBatches(t *testing.T) {
	var sizes []int
	var mu sync.Mutex
	var gate chan bool
	f := &faults{send: func(ms []*driver.Message) []error {
		mu.Lock()
		sizes = append(sizes, len(ms))
		mu.Unlock()
		<-gate
		return nil
	}}
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gate = make(chan bool)
		q, err := queue.Open(t.Context(), "mem://q", map[string]driver.Driver{"mem": f.driver}, nil)
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if err := q.Send(t.Context(), queue.Message{Body: []byte("x")}); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		close(gate)
		all.Wait()
		if want := []int{1, 1, 1, 1, 96}; !slices.Equal(sizes, want) {
			t.Errorf("batches of %d, want %d", sizes, want)
		}
		if err := q.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// A call that is given up does not keep the others waiting, nor what it sent.
func TestSendCancelled(t *testing.T) {
	f := &faults{send: func(ms []*driver.Message) []error { return driver.Each(len(ms), errThrottled) }}
	inBubble(t, f, nil, func(t *testing.T, q *queue.Queue) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := q.Send(ctx, queue.Message{Body: []byte("x")}); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		ending, end := context.WithTimeout(t.Context(), time.Minute)
		defer end()
		if err := q.Close(ending); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("close while something cannot be sent: %v", err)
		}
	})
}

// A message that waits for its next delivery in this process goes back when that ends.
func TestHeldBack(t *testing.T) {
	f := &faults{noDelay: true}
	inBubble(t, f, nil, func(t *testing.T, q *queue.Queue) {
		if err := q.Send(t.Context(), queue.Message{Body: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if err := one(t, q).Nack(t.Context(), time.Hour); err != nil {
			t.Fatal(err)
		}
		l := one(t, q)
		if took := time.Since(begun); took != time.Hour || l.Attempt() != 2 {
			t.Errorf("attempt %d after %s", l.Attempt(), took)
		}
		if err := l.Nack(t.Context(), time.Hour); err != nil {
			t.Fatal(err)
		}
		if err := q.Close(t.Context()); err != nil {
			t.Error(err)
		}
		again, err := queue.Open(t.Context(), "mem://q", map[string]driver.Driver{"mem": f.driver}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if l := one(t, again); time.Since(begun) != time.Hour || l.Attempt() != 3 {
			t.Errorf("attempt %d after %s", l.Attempt(), time.Since(begun))
		}
		if err := again.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Mistakes are told without the secret that may stand beside them.
func TestBadURLs(t *testing.T) {
	t.Parallel()
	f := &faults{}
	for _, raw := range []string{
		"", "q", "://", "mem:", "mem://", "mem://u:secret@q", "mem://q/r", "mem://q?x=1", "mem://q#f", "mem://q?envelope=json&envelope=json",
		"mem://q?envelope=", "mem://:secret#x@q", "mem://:secret/x@q", "mem://q?password=secret", "mem//:secret@q", "mem:secret", "rabbit://u:secret@h/q", "mem://u:secret@%zz/q", "mem://q?%zz", "\x00://u:secret@q",
	} {
		_, err := queue.Open(t.Context(), raw, map[string]driver.Driver{"mem": f.driver}, nil)
		if !errors.Is(err, navvy.ErrInvalid) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", raw, err)
		}
	}
	for _, o := range []*queue.Options{{Lease: time.Millisecond}, {Outstanding: -1}} {
		if _, err := queue.Open(t.Context(), "mem://q", map[string]driver.Driver{"mem": f.driver}, o); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// FuzzEnvelope sends bodies that look like envelopes through one.
func FuzzEnvelope(f *testing.F) {
	for _, body := range []string{"", "x", "\xff", `{"navvy":1,"id":"a","body":"b"}`, `{"navvy":1}`, `{"navvy":2,"body":"x"}`, "null"} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		broker := &faults{}
		drivers := map[string]driver.Driver{"mem": broker.driver}
		wrapped, err := queue.Open(t.Context(), "mem://q?envelope=json", drivers, nil)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := queue.Open(t.Context(), "mem://q", drivers, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := wrapped.Send(t.Context(), queue.Message{ID: "i", Correlation: "c", Body: body}); err != nil {
			t.Fatal(err)
		}
		if l := one(t, wrapped); !bytes.Equal(drivertest.Body(t, l), body) || l.ID() != "i" || l.Correlation() != "c" {
			t.Errorf("%q became %q, id %q, correlation %q", body, drivertest.Body(t, l), l.ID(), l.Correlation())
		}
		if err := plain.Send(t.Context(), queue.Message{Body: body}); err != nil {
			t.Fatal(err)
		}
		one(t, wrapped) // whatever it is, it does not panic
		for _, q := range []*queue.Queue{wrapped, plain} {
			if err := q.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
}
