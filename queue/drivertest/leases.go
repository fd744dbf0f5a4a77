package drivertest

import (
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/driver"
)

// testAck sees that what was acknowledged never comes again.
func testAck(t *testing.T, h *Harness) {
	url := h.URL(t)
	q := h.open(t, url, nil)
	send(t, q, text("once"))
	ack(t, receive(t, q))
	nothing(t, h.open(t, url, nil), 2*h.Lease)
}

// testExpiry leaves a message alone until its lease is over, without package queue, which
// would renew it: it goes to somebody else.
func testExpiry(t *testing.T, h *Harness) {
	if h.Want.Held {
		t.Skip("leases of this broker last as long as the connection: see Connection")
	}
	raw := h.URL(t)
	q := h.open(t, raw, nil)
	send(t, q, text("twice"))
	c := h.dial(t, raw)
	ds, err := c.Receive(within(t), 1)
	if err != nil || len(ds) != 1 {
		t.Fatalf("%d deliveries, %v", len(ds), err)
	}
	if left := time.Until(ds[0].Until); left <= 0 || left > h.Lease+100*time.Millisecond {
		t.Errorf("a lease of %s ends in %s", h.Lease, left)
	}
	second := receive(t, q)
	if time.Now().Before(ds[0].Until) {
		t.Error("it came again before the lease was over")
	}
	if string(Body(t, second)) != "twice" || second.ID() != ds[0].ID || h.Want.Attempts && second.Attempt() != 2 {
		t.Errorf("message %s came again as %s, attempt %d: %q", ds[0].ID, second.ID(), second.Attempt(), Body(t, second))
	}
	if h.Want.Detects {
		for what, errs := range map[string][]error{"renew": c.Renew(within(t), ds), "ack": c.Ack(within(t), ds)} {
			if len(errs) != 1 {
				t.Errorf("%s a lease that is lost: %v", what, errs)
				continue
			}
			wantError(t, what+" a lease that is lost", errs[0], leaseLost)
		}
	}
	ack(t, second)
	nothing(t, q, 2*h.Lease)
}

// dial connects as package queue does.
func (h *Harness) dial(t testing.TB, raw string) driver.Queue {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	dial, err := h.Driver(u, &driver.Options{Lease: h.Lease, Outstanding: 10, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	c, err := dial(within(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

// testRenewal works on a message for longer than its lease: nobody else gets it.
func testRenewal(t *testing.T, h *Harness) {
	url := h.URL(t)
	q := h.open(t, url, nil)
	send(t, q, text("long work"), text("other work"))
	l := receive(t, q)
	other := receive(t, q)
	work, end := l.Context(t.Context())
	defer end()
	nothing(t, h.open(t, url, nil), 4*h.Lease)
	if work.Err() != nil || l.Lost() != nil {
		t.Errorf("the work was ended: %v, %v", context.Cause(work), l.Lost())
	}
	ack(t, l)
	ack(t, other)
	nothing(t, q, 2*h.Lease)
}

// testConnection ends the connection that a message was received over.
func testConnection(t *testing.T, h *Harness) {
	url := h.URL(t)
	first, err := h.tryOpen(t, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	send(t, first, text("left"))
	l := receive(t, first)
	work, end := l.Context(t.Context())
	defer end()
	closeQueue(t, first)
	again := receive(t, h.open(t, url, nil))
	if string(Body(t, again)) != "left" || h.Want.Attempts && again.Attempt() != 2 {
		t.Errorf("attempt %d: %q", again.Attempt(), Body(t, again))
	}
	if h.Want.Held {
		<-work.Done()
		wantError(t, "work whose connection is gone", context.Cause(work), leaseLost)
	}
	ack(t, again)
}

// testNack gives a message back: it comes at once.
func testNack(t *testing.T, h *Harness) {
	url := h.URL(t)
	q, other := h.open(t, url, &queue.Options{Lease: 30 * time.Second}), h.open(t, url, &queue.Options{Lease: 30 * time.Second})
	send(t, q, text("back"))
	id := ""
	for i := range 3 {
		l := receive(t, []*queue.Queue{q, other}[i%2])
		if id == "" {
			id = l.ID()
		}
		if l.ID() != id || string(Body(t, l)) != "back" || h.Want.Attempts && l.Attempt() != i+1 {
			t.Errorf("delivery %d: message %s, not %s, attempt %d: %q", i+1, l.ID(), id, l.Attempt(), Body(t, l))
		}
		if i == 2 {
			ack(t, l)
		} else if err := l.Nack(within(t), 0); err != nil {
			t.Fatal(err)
		}
	}
}

// testDelay gives a message back for later; it comes then, with the broker's help or without.
func testDelay(t *testing.T, h *Harness) {
	url := h.URL(t)
	q := h.open(t, url, nil)
	send(t, q, text("later"))
	l := receive(t, q)
	delay := 2 * h.Lease
	begun := time.Now()
	if err := l.Nack(within(t), delay); err != nil {
		t.Fatal(err)
	}
	again := receive(t, h.open(t, url, nil))
	if took := time.Since(begun); took < delay-delay/10 {
		t.Errorf("it came after %s, want %s", took, delay)
	}
	if string(Body(t, again)) != "later" || h.Want.Attempts && again.Attempt() < 2 {
		t.Errorf("attempt %d: %q", again.Attempt(), Body(t, again))
	}
	ack(t, again)
}

// testDeadLetter moves a message to the dead letters.
func testDeadLetter(t *testing.T, h *Harness) {
	url := h.URL(t)
	q := h.open(t, url, nil)
	send(t, q, queue.Message{ID: "poison", Body: []byte("bad")})
	l := receive(t, q)
	if err := l.DeadLetter(within(t), "it cannot be parsed"); err != nil {
		t.Fatal(err)
	}
	dead := receive(t, h.open(t, h.dead(t, url), nil))
	if string(Body(t, dead)) != "bad" || h.Want.Correlation && dead.ID() != "poison" {
		t.Errorf("message %s: %q", dead.ID(), Body(t, dead))
	}
	want := ""
	if h.Want.Reason {
		want = "it cannot be parsed"
	}
	if dead.Reason() != want {
		t.Errorf("its reason is %q, want %q", dead.Reason(), want)
	}
	ack(t, dead)
	nothing(t, q, 2*h.Lease)
}

// testSettled settles a lease twice.
func testSettled(t *testing.T, h *Harness) {
	q := h.open(t, h.URL(t), nil)
	send(t, q, text("x"))
	l := receive(t, q)
	ack(t, l)
	wantError(t, "ack twice", l.Ack(within(t)), navvy.ErrConflict)
	wantError(t, "nack after ack", l.Nack(within(t), 0), navvy.ErrConflict)
	wantError(t, "later after ack", l.Nack(within(t), time.Hour), navvy.ErrConflict)
	wantError(t, "dead after ack", l.DeadLetter(within(t), "no"), navvy.ErrConflict)
	if l.Lost() != nil {
		t.Errorf("a settled lease is not lost: %v", l.Lost())
	}
}
