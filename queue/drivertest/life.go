package drivertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue"
)

// testCancel ends a wait: what is sent afterwards is for who waits then.
func testCancel(t *testing.T, h *Harness) {
	q := h.open(t, h.URL(t), nil)
	cause := errors.New("enough")
	for i := range 3 {
		ctx, cancel := context.WithCancelCause(within(t))
		stop := time.AfterFunc(time.Duration(i)*h.Lease/4, func() { cancel(cause) })
		if leases, err := q.Receive(ctx, 5); !errors.Is(err, cause) {
			t.Errorf("received %d and %v", len(leases), err)
		}
		stop.Stop()
		cancel(nil)
	}
	send(t, q, text("for the living"))
	l := receive(t, q)
	if h.Want.Attempts && l.Attempt() != 1 {
		t.Errorf("somebody else had it before: attempt %d", l.Attempt())
	}
	ack(t, l)
}

// testClose closes a queue with a lease, and with somebody who waits.
func testClose(t *testing.T, h *Harness) {
	url := h.URL(t)
	q, err := h.tryOpen(t, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	send(t, q, text("open"), text("held back"))
	l := receive(t, q)
	back := receive(t, q)
	if err := back.Nack(within(t), time.Hour); err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() {
		_, err := q.Receive(within(t), 1)
		waited <- err
	}()
	closeQueue(t, q)
	wantError(t, "who waits", <-waited, navvy.ErrClosed)
	wantError(t, "send", q.Send(within(t), text("x")), navvy.ErrClosed)
	_, err = q.Receive(within(t), 1)
	wantError(t, "receive", err, navvy.ErrClosed)
	if err := l.Ack(within(t)); !errors.Is(err, navvy.ErrClosed) && !errors.Is(err, navvy.ErrLeaseLost) {
		t.Errorf("ack: %v", err)
	}
	again := h.open(t, url, nil)
	want := 2
	if h.Want.Delay {
		want = 1 // the other one is held back by the broker
	}
	for range want {
		ack(t, receive(t, again))
	}
}

// testMissing opens a queue that is not there.
func testMissing(t *testing.T, h *Harness) {
	url := h.URL(t)
	_, err := h.tryOpen(t, url, &queue.Options{MustExist: true})
	wantError(t, "a queue that must exist", err, navvy.ErrNotFound)
	h.open(t, url, nil)
	h.open(t, url, &queue.Options{MustExist: true})
}

// testOptions has mistakes in URLs.
func testOptions(t *testing.T, h *Harness) {
	url := h.URL(t)
	_, err := h.tryOpen(t, option(t, url, "colour", "red"), nil)
	wantError(t, "an unknown option", err, navvy.ErrInvalid)
	if err == nil || !strings.Contains(err.Error(), `"colour"`) {
		t.Errorf("the option is not named: %v", err)
	}
	_, err = h.tryOpen(t, option(t, url, "envelope", "xml"), nil)
	wantError(t, "an unknown envelope", err, navvy.ErrInvalid)
	scheme, _, _ := strings.Cut(url, "://")
	_, err = h.tryOpen(t, scheme+"://", nil)
	wantError(t, "nothing but the scheme", err, navvy.ErrInvalid)
}

// testMany has several receivers share what several senders send.
func testMany(t *testing.T, h *Harness) {
	const senders, each, receivers = 4, 250, 3
	url := h.URL(t)
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	var seen sync.Map
	var all sync.WaitGroup
	left := make(chan bool, senders*each)
	for range receivers {
		q := h.open(t, url, &queue.Options{Lease: 30 * time.Second, Outstanding: 20})
		all.Go(func() {
			for {
				leases, err := q.Receive(ctx, 20)
				if err != nil {
					if ctx.Err() == nil {
						t.Error(err)
					}
					return
				}
				for _, l := range leases {
					if _, twice := seen.LoadOrStore(string(Body(t, l)), true); twice {
						t.Errorf("%s came twice", Body(t, l))
					}
					ack(t, l)
					left <- true
				}
			}
		})
	}
	sending := within(t) // which confirms may still be under way when the last one has come
	for s := range senders {
		q := h.open(t, url, nil)
		all.Go(func() {
			for i := range each {
				if err := q.Send(sending, text(fmt.Sprint(s, ".", i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range senders * each {
		select {
		case <-left:
		case <-ctx.Done():
			t.Fatal("messages are missing")
		}
	}
	cancel()
	all.Wait()
}

// testRestart kills the broker under load and starts it again: who sends and receives goes
// on, and nothing that was sent is lost.
func testRestart(t *testing.T, h *Harness) {
	if h.Own == nil {
		t.Fatal("this harness has no broker that can be killed")
	}
	own := h.Own(t)
	if own.Lease == 0 {
		own.Lease = h.Lease
	}
	url := own.URL(t)
	sender, receiver := own.open(t, url, nil), own.open(t, url, &queue.Options{Lease: 2 * own.Lease})
	const n = 300
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	var all sync.WaitGroup
	sent, seen := make(chan int, n), make(chan string, 100*n)
	all.Go(func() { sendNumbers(within(t), t, sender, n, sent) })
	all.Go(func() { receiveAll(ctx, t, receiver, seen) })
	for _, at := range []int{n / 5, n / 2} {
		for i := range sent {
			if i >= at {
				break
			}
		}
		own.Kill(t)
		own.Restart(t)
	}
	awaitNumbers(ctx, t, n, seen)
	cancel()
	all.Wait()
}

// sendNumbers sends the numbers below n.
func sendNumbers(ctx context.Context, t *testing.T, q *queue.Queue, n int, sent chan<- int) {
	for i := range n {
		if err := q.Send(ctx, text(fmt.Sprint(i))); err != nil {
			t.Errorf("message %d: %v", i, err)
		}
		sent <- i
	}
}

// receiveAll acknowledges whatever comes.
func receiveAll(ctx context.Context, t *testing.T, q *queue.Queue, seen chan<- string) {
	for {
		leases, err := q.Receive(ctx, 5)
		if err != nil {
			if ctx.Err() == nil {
				t.Errorf("receive: %v", err)
			}
			return
		}
		for _, l := range leases {
			seen <- string(Body(t, l))
			if err := l.Ack(ctx); err != nil && !errors.Is(err, leaseLost) && ctx.Err() == nil {
				t.Errorf("ack: %v", err)
			}
		}
	}
}

// awaitNumbers waits until each number below n was seen.
func awaitNumbers(ctx context.Context, t *testing.T, n int, seen <-chan string) {
	missing := map[string]bool{}
	for i := range n {
		missing[fmt.Sprint(i)] = true
	}
	for len(missing) > 0 {
		select {
		case body := <-seen:
			delete(missing, body)
		case <-ctx.Done():
			t.Fatalf("%d messages are lost: %v", len(missing), context.Cause(ctx))
		}
	}
}
