package drivertest

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue"
)

func testCapabilities(t *testing.T, h *Harness) {
	q := h.open(t, h.URL(t), nil)
	if got := q.Capabilities(); got != h.Want {
		t.Errorf("%+v, want %+v", got, h.Want)
	}
}

// testDelivery sends one message, which comes as it was sent.
func testDelivery(t *testing.T, h *Harness) {
	url := h.URL(t)
	q := h.open(t, url, nil)
	begun := time.Now()
	send(t, q, queue.Message{ID: "first", Body: []byte("hello")})
	l := receive(t, h.open(t, url, nil))
	if string(Body(t, l)) != "hello" || l.Correlation() != "" || l.Reason() != "" {
		t.Errorf("body %q, correlation %q, reason %q", Body(t, l), l.Correlation(), l.Reason())
	}
	if l.ID() == "" || h.Want.Correlation && l.ID() != "first" {
		t.Errorf("its id is %q", l.ID())
	}
	if h.Want.Attempts != (l.Attempt() == 1) || !h.Want.Attempts && l.Attempt() != 0 {
		t.Errorf("attempt %d", l.Attempt())
	}
	// Brokers count in seconds, and have clocks of their own.
	if at := l.Enqueued(); !at.IsZero() && (at.Before(begun.Add(-2*time.Second)) || at.After(time.Now().Add(2*time.Second))) {
		t.Errorf("sent at %s, and it is %s", at, time.Now())
	}
	ack(t, l)
}

// testBodies sends what is hard to carry.
func testBodies(t *testing.T, h *Harness) {
	q := h.open(t, h.URL(t), nil)
	for name, body := range map[string]string{
		"empty": "", "space": "  \t ", "lines": "a\nb\n", "markup": `<a href="x">&amp;]]></a>`, "unicode": "навви 掘 \U0001F6A7",
		"JSON": `{"navvy":1,"id":"x","body":"y"}`, "base 64": "aGVsbG8=",
	} {
		send(t, q, text(body))
		l := receive(t, q)
		if string(Body(t, l)) != body {
			t.Errorf("%s: %q became %q", name, body, Body(t, l))
		}
		ack(t, l)
	}
	for name, body := range map[string]string{"not UTF-8": "\xff\xfe\x00a", "control": "a\x00b\x01", "carriage return": "a\r\nb", "no character": "a\uFFFEb"} {
		if !h.Want.Binary {
			wantError(t, name, q.Send(within(t), text(body)), navvy.ErrUnsupported)
			continue
		}
		send(t, q, text(body))
		l := receive(t, q)
		if string(Body(t, l)) != body {
			t.Errorf("%s: %q became %q", name, body, Body(t, l))
		}
		ack(t, l)
	}
}

// testLimits sends the longest body, and one more byte.
func testLimits(t *testing.T, h *Harness) {
	q := h.open(t, h.URL(t), nil)
	body := bytes.Repeat([]byte("x"), h.Want.MaxBody+1)
	wantError(t, "one byte too many", q.Send(within(t), queue.Message{Body: body}), navvy.ErrInvalid)
	if h.Want.MaxBody > 16<<20 {
		body = body[:16<<20+1] // the machine has a limit, too
	}
	send(t, q, queue.Message{Body: body[1:]})
	l := receive(t, q)
	if !bytes.Equal(Body(t, l), body[1:]) {
		t.Errorf("a body of %d bytes came as one of %d", len(body)-1, len(Body(t, l)))
	}
	ack(t, l)
}

// testBatches sends and receives many at once.
func testBatches(t *testing.T, h *Harness) {
	q := h.open(t, h.URL(t), &queue.Options{Lease: 30 * time.Second, Outstanding: 1000})
	n := min(2*h.Want.MaxBatch+3, 500)
	ms := make([]queue.Message, n)
	for i := range ms {
		ms[i] = text(fmt.Sprint(i))
	}
	send(t, q, ms...)
	seen := map[string]bool{}
	for len(seen) < n {
		leases, err := q.Receive(within(t), 7)
		if err != nil {
			t.Fatal(err)
		}
		if len(leases) > 7 {
			t.Fatalf("%d messages, and at most 7 were wanted", len(leases))
		}
		for _, l := range leases {
			if seen[string(Body(t, l))] {
				t.Errorf("%s came twice", Body(t, l))
			}
			seen[string(Body(t, l))] = true
			ack(t, l)
		}
	}
	err := q.Send(within(t), text("good"), queue.Message{Body: bytes.Repeat([]byte("x"), h.Want.MaxBody+1)})
	wantError(t, "one of two is too long", err, navvy.ErrInvalid)
}

func testCorrelation(t *testing.T, h *Harness) {
	q := h.open(t, h.URL(t), nil)
	m := queue.Message{ID: "answer", Correlation: "request-7", Body: []byte("x")}
	if !h.Want.Correlation {
		err := q.Send(within(t), m)
		wantError(t, "a correlation id", err, navvy.ErrUnsupported)
		if err == nil || !strings.Contains(err.Error(), "envelope=json") {
			t.Errorf("nothing says what helps: %v", err)
		}
		return
	}
	send(t, q, m)
	l := receive(t, q)
	if l.ID() != m.ID || l.Correlation() != m.Correlation {
		t.Errorf("id %q, correlation %q", l.ID(), l.Correlation())
	}
	ack(t, l)
}

// testEnvelope carries with the envelope what the broker may not be able to.
func testEnvelope(t *testing.T, h *Harness) {
	url := h.URL(t)
	q := h.open(t, option(t, url, "envelope", "json"), nil)
	if c := q.Capabilities(); !c.Correlation || !c.Binary {
		t.Errorf("an envelope carries anything: %+v", c)
	}
	for _, body := range []string{"", "text", "\xff\x00", "a\r\n\uFFFE\x01"} {
		send(t, q, queue.Message{ID: "id-" + body[:min(len(body), 1)], Correlation: "request", Body: []byte(body)})
		l := receive(t, q)
		if string(Body(t, l)) != body || l.Correlation() != "request" || !strings.HasPrefix(l.ID(), "id-") || l.Enqueued().IsZero() {
			t.Errorf("%q: body %q, id %q, correlation %q, sent %s", body, Body(t, l), l.ID(), l.Correlation(), l.Enqueued())
		}
		ack(t, l)
	}
	plain := h.open(t, url, nil)
	send(t, plain, text("as it is"))
	l := receive(t, q)
	if string(Body(t, l)) != "as it is" {
		t.Errorf("a message without an envelope came as %q", Body(t, l))
	}
	ack(t, l)
}
