// Package drivertest is the conformance suite of queue drivers. It goes through package
// queue, as everybody does, and asserts what a broker lacks as well as what it can do.
package drivertest

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/driver"
)

// Patience is how long a test waits for what must come: a broker may take a minute to start again.
const Patience = 3 * time.Minute

// Harness is a broker under test.
type Harness struct {
	// Driver is what is tested.
	Driver driver.Driver
	// URL names a queue that nobody has used.
	URL func(t testing.TB) string
	// Dead is the URL of the dead letters of a queue's. Defaults to a name with .dead behind it.
	Dead func(url string) string
	// Want is what the driver must say of itself.
	Want driver.Capabilities
	// Lease is a short one that the broker keeps. Defaults to two seconds: with less, a
	// machine that stands still for a moment loses it.
	Lease time.Duration
	// Own starts a broker that can be killed and started again; the tests of a harness
	// without it fail where they need it. It is called by one test at a time.
	Own func(t testing.TB) *Restartable
	// Bare sends, receives and acknowledges n messages of a benchmark with the broker's
	// client library alone, with the same durability, batches and confirmations.
	Bare func(b *testing.B, bodies [][]byte)
}

// Restartable is a broker of a test's own.
type Restartable struct {
	*Harness
	// Kill ends it without warning; Restart starts it again with what it had on disk.
	Kill, Restart func(t testing.TB)
}

// Run runs the suite.
func Run(t *testing.T, h *Harness) {
	t.Helper()
	if h.Lease == 0 {
		h.Lease = 2 * time.Second
	}
	for name, test := range map[string]func(*testing.T, *Harness){
		"Capabilities": testCapabilities, "Delivery": testDelivery, "Bodies": testBodies,
		"Limits": testLimits, "Batches": testBatches, "Correlation": testCorrelation,
		"Ack": testAck, "Expiry": testExpiry, "Renewal": testRenewal, "Connection": testConnection,
		"Nack": testNack, "Delay": testDelay, "DeadLetter": testDeadLetter, "Settled": testSettled,
		"Cancel": testCancel, "Close": testClose, "Missing": testMissing, "Options": testOptions,
		"Envelope": testEnvelope, "Claims": testClaims, "Many": testMany, "Restart": testRestart,
		"Peek": testPeek, "Count": testCount, "Behind": testBehind, "Redrive": testRedrive, "Moved": testMoved,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, h)
		})
	}
}

// within ends with the test's patience.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	t.Cleanup(cancel)
	return ctx
}

// open opens a queue, which is closed with the test.
func (h *Harness) open(t testing.TB, url string, o *queue.Options) *queue.Queue {
	t.Helper()
	q, err := h.tryOpen(t, url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeQueue(t, q) })
	return q
}

func (h *Harness) tryOpen(t testing.TB, rawURL string, o *queue.Options) (*queue.Queue, error) {
	t.Helper()
	var opts queue.Options
	if o != nil {
		opts = *o
	}
	if opts.Lease == 0 {
		opts.Lease = h.Lease
	}
	scheme, _, _ := strings.Cut(rawURL, "://")
	return queue.Open(within(t), rawURL, map[string]driver.Driver{scheme: h.Driver}, &opts)
}

func closeQueue(t testing.TB, q *queue.Queue) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if err := q.Close(ctx); err != nil {
		t.Errorf("close %s: %v", q.Name(), err)
	}
}

// dead is the URL of a queue's dead letters.
func (h *Harness) dead(t testing.TB, raw string) string {
	t.Helper()
	if h.Dead != nil {
		return h.Dead(raw)
	}
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	if u.Path == "" {
		u.Host += ".dead"
	} else {
		u.Path += ".dead"
	}
	return u.String()
}

// option adds an option to a URL.
func option(t testing.TB, raw, name, value string) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	values := u.Query()
	values.Set(name, value)
	u.RawQuery = values.Encode()
	return u.String()
}

func send(t testing.TB, q *queue.Queue, ms ...queue.Message) {
	t.Helper()
	if err := q.Send(within(t), ms...); err != nil {
		t.Fatal(err)
	}
}

// receive receives one message.
func receive(t testing.TB, q *queue.Queue) *queue.Lease {
	t.Helper()
	leases, err := q.Receive(within(t), 1)
	if err != nil {
		t.Fatal(err)
	}
	if len(leases) != 1 {
		t.Fatalf("%d messages, want one", len(leases))
	}
	return leases[0]
}

// Body is the body of a message, which must be there.
func Body(t testing.TB, l *queue.Lease) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience) // may be in a bubble
	defer cancel()
	body, err := l.Body(ctx)
	if err != nil {
		t.Error(err)
	}
	return body
}

func ack(t testing.TB, l *queue.Lease) {
	t.Helper()
	if err := l.Ack(within(t)); err != nil {
		t.Fatal(err)
	}
}

// nothing sees that for so long nothing comes.
func nothing(t testing.TB, q *queue.Queue, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(within(t), d)
	defer cancel()
	leases, err := q.Receive(ctx, 1)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("received %d messages and %v, want none within %s", len(leases), err, d)
	}
	for _, l := range leases {
		t.Errorf("message %s, attempt %d: %.100q", l.ID(), l.Attempt(), Body(t, l))
	}
}

func wantError(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func text(s string) queue.Message { return queue.Message{Body: []byte(s)} }

// leaseLost is what must be said of a lease that is lost, where the broker tells.
var leaseLost = navvy.ErrLeaseLost
