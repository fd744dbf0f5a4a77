package drivertest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/driver"
)

// eventually waits until something holds, and says what there was.
func eventually(t testing.TB, what string, ok func() (bool, string)) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ctx := within(t); ; {
		good, was := ok()
		if good {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %s", what, was)
		case <-tick.C:
		}
	}
}

// testPeek looks at messages: they stay, in their order, and nothing is counted.
func testPeek(t *testing.T, h *Harness) { //nolint:gocyclo // one life, step by step
	url := h.URL(t)
	q := h.open(t, url, nil)
	if h.Want.Peek == 0 {
		_, err := q.Peek(within(t), 1)
		wantError(t, "peek", err, navvy.ErrUnsupported)
		_, err = h.dial(t, url).Peek(within(t), 1)
		wantError(t, "peek at the driver", err, navvy.ErrUnsupported)
		return
	}
	if list, err := q.Peek(within(t), 10); err != nil || len(list) != 0 {
		t.Fatalf("an empty queue shows %d messages, %v", len(list), err)
	}
	const n = 5
	for i := range n {
		m := queue.Message{ID: fmt.Sprint("m", i), Body: fmt.Append(nil, "body ", i)}
		if h.Want.Correlation {
			m.Correlation = fmt.Sprint("c", i)
		}
		send(t, q, m)
	}
	for _, most := range []int{2, 2, 2 * n} {
		list, err := q.Peek(within(t), most)
		if err != nil || len(list) != min(most, n) {
			t.Fatalf("%d messages, %v; want %d", len(list), err, min(most, n))
		}
		for i, s := range list {
			if string(s.Body) != fmt.Sprint("body ", i) || s.Attempts != 0 || s.Leased || h.Want.Correlation && (s.ID != fmt.Sprint("m", i) || s.Correlation != fmt.Sprint("c", i)) {
				t.Errorf("message %d is shown as %+v", i, s)
			}
		}
	}
	l := receive(t, q)
	if h.Want.Attempts && l.Attempt() != 1 {
		t.Errorf("attempt %d after it was shown", l.Attempt())
	}
	ack(t, l)
	eventually(t, "what was acknowledged is shown no more", func() (bool, string) {
		list, err := q.Peek(within(t), 2*n)
		return err == nil && len(list) == n-1, fmt.Sprint(len(list), err)
	})
}

// testCount counts what waits, what is leased and what is dead.
func testCount(t *testing.T, h *Harness) {
	url := h.URL(t)
	q := h.open(t, url, &queue.Options{Lease: 30 * time.Second})
	send(t, q, text("a"), text("b"), text("c"), text("d"))
	leases := []*queue.Lease{receive(t, q), receive(t, q)}
	want := driver.Count{Waiting: 2, Leased: 2}
	if h.Want.Held || !h.Want.Waiting {
		want.Leased = driver.Unknown
	}
	if !h.Want.Waiting {
		want.Waiting = 4
	}
	other := h.open(t, url, nil)
	expect := func(what string, want driver.Count) {
		t.Helper()
		eventually(t, what, func() (bool, string) {
			got, err := other.Count(within(t))
			if h.Want.Held { // what was sent ahead waits for nobody else
				got.Waiting = want.Waiting
			}
			return err == nil && got == want, fmt.Sprintf("%+v, %v; want %+v", got, err, want)
		})
	}
	expect("two of four are leased", want)
	if err := leases[0].DeadLetter(within(t), "no"); err != nil {
		t.Fatal(err)
	}
	ack(t, leases[1])
	ack(t, receive(t, q))
	ack(t, receive(t, q))
	want = driver.Count{Leased: min(want.Leased, 0), Dead: 1}
	expect("one is dead", want)
	if n, err := h.open(t, h.dead(t, url), nil).Count(within(t)); err != nil || n.Waiting != 1 {
		t.Errorf("the queue of the dead letters has %+v, %v", n, err)
	}
}

// testBehind puts messages behind the others: they come last then, as they were.
func testBehind(t *testing.T, h *Harness) {
	url := h.URL(t)
	q := h.open(t, url, &queue.Options{Outstanding: 1, Lease: 30 * time.Second})
	const n = 4
	for i := range n {
		m := queue.Message{ID: fmt.Sprint("m", i), Body: fmt.Append(nil, i)}
		if h.Want.Correlation {
			m.Correlation = fmt.Sprint("c", i)
		}
		send(t, q, m)
	}
	var order []string
	for len(order) < 2*n {
		l := receive(t, q)
		i := string(Body(t, l))
		if h.Want.Correlation && (l.ID() != "m"+i || l.Correlation() != "c"+i) || h.Want.Attempts && l.Attempt() != 1 {
			t.Errorf("message %s: id %s, correlation %s, attempt %d", i, l.ID(), l.Correlation(), l.Attempt())
		}
		if order = append(order, i); len(order) > n {
			ack(t, l)
		} else if err := l.Behind(within(t)); err != nil {
			t.Fatal(err)
		}
	}
	for round := range slices.Chunk(order, n) {
		if !slices.IsSorted(round) && h.Want.Correlation { // Storage queues keep no order
			t.Errorf("they came in the order %s", order)
			break
		}
	}
	nothing(t, q, h.Lease)
}

// testRedrive sends a dead letter home.
func testRedrive(t *testing.T, h *Harness) {
	url := h.URL(t)
	q := h.open(t, url, &queue.Options{Lease: 30 * time.Second})
	m := queue.Message{ID: "poison", Body: []byte("bad")}
	if h.Want.Correlation {
		m.Correlation = "order-9"
	}
	send(t, q, m)
	dead := h.open(t, h.dead(t, url), &queue.Options{Lease: 30 * time.Second})
	for round := range 2 { // one that fails again is a dead letter again
		if err := receive(t, q).DeadLetter(within(t), "it cannot be parsed"); err != nil {
			t.Fatal(err)
		}
		l := receive(t, dead)
		if tried := l.Shown().Tried; h.Want.Reason && h.Want.Attempts && tried != 1 {
			t.Errorf("round %d: it was delivered %d times before", round, tried)
		}
		if err := l.Redrive(within(t)); err != nil {
			t.Fatal(err)
		}
	}
	back := receive(t, q)
	if string(Body(t, back)) != "bad" || back.Reason() != "" || h.Want.Correlation && (back.ID() != m.ID || back.Correlation() != m.Correlation) || h.Want.Attempts && back.Attempt() != 1 {
		t.Errorf("it came back as %+v", back.Shown())
	}
	wantError(t, "redrive what is no dead letter", back.Redrive(within(t)), navvy.ErrInvalid)
	ack(t, receive(t, q)) // it was given back
	nothing(t, dead, h.Lease)
}

// testMoved sees what becomes of a lease that is moved.
func testMoved(t *testing.T, h *Harness) {
	q := h.open(t, h.URL(t), nil)
	send(t, q, text("x"))
	l := receive(t, q)
	if err := l.Behind(within(t)); err != nil {
		t.Fatal(err)
	}
	wantError(t, "ack after a move", l.Ack(within(t)), navvy.ErrConflict)
	wantError(t, "move twice", l.Behind(within(t)), navvy.ErrConflict)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l = receive(t, q)
	if err := l.Behind(ctx); err != nil { // some do not ask
		wantError(t, "move with a context that is over", err, context.Canceled)
	}
	ack(t, receive(t, q)) // it was given back, or moved
}
