package natsqueue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
)

// Headers of a message.
const (
	headerID          = nats.MsgIdHdr
	headerCorrelation = "Correlation-Id"
	headerReason      = "Navvy-Reason"
	headerOriginal    = "Navvy-Id"    // of a dead letter: the message's
	headerSent        = "Navvy-Sent"  // and when it was sent
	headerTried       = "Navvy-Tried" // and how often it had been delivered
)

const (
	// replyTimeout is how long the server may take to confirm.
	replyTimeout = 10 * time.Second
	// It does not confirm at all what it has forgotten that it delivered, since it crashed:
	// that it delivers again. Messages of a former connection are waited for no longer than this.
	formerTimeout = time.Second
)

// token is a lease: where the server takes what becomes of the message.
type token struct {
	subject string
	place   string // in its stream: no other message ever has it
	header  nats.Header
	conn    *conn // that it came over
}

var (
	errGone   = fmt.Errorf("the connection is closed: %w", navvy.ErrUnavailable)
	errSilent = errors.New("the server does not answer")
)

// conn is a connection to one queue.
type conn struct {
	name, stream, consumer string
	wanted                 time.Duration // the lease that was asked for

	nc    *nats.Conn
	js    jetstream.JetStream
	calls calls

	ctx    context.Context //nolint:containedctx // of the connection
	cancel context.CancelCauseFunc
	closed chan struct{} // when the client has ended it

	making sync.Mutex    // the consumer
	lease  time.Duration // that of the consumer; 0 while nobody has received; making guards it

	mu    sync.Mutex
	pulls []*pull // those that nobody uses now
	busy  sync.WaitGroup
}

func newConn(name string) *conn {
	c := &conn{name: name, consumer: "navvy_" + streamName(name), closed: make(chan struct{})}
	c.calls.waits = map[uint64]*call{}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	return c
}

// lost is called by the client when it has closed the connection.
func (c *conn) lost(nc *nats.Conn) {
	err := errGone
	if last := nc.LastError(); last != nil {
		err = fmt.Errorf("%w: %w", last, navvy.ErrUnavailable)
	}
	c.cancel(err)
	c.calls.fail(err, true)
	close(c.closed)
}

// trouble is called by the client with what the server sends unasked. Who may not publish
// is told so, but not of which message.
func (c *conn) trouble(_ *nats.Conn, _ *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrPermissionViolation) {
		c.calls.fail(err, false)
	}
}

// Capabilities implements driver.Queue. The server does not look at who acknowledges: one
// who has lost his lease is not told (see TestLateAck).
func (c *conn) Capabilities() driver.Capabilities {
	return driver.Capabilities{
		Correlation: true, Reason: true, Attempts: true, Delay: true, Binary: true,
		Peek: maxPeek, Waiting: true, MaxBody: c.maxBody(), MaxBatch: maxBatch,
	}
}

func (c *conn) maxBody() int { return int(c.nc.MaxPayload()) - reserved }

// message makes one of the client's.
func (c *conn) message(m *driver.Message) (*nats.Msg, error) {
	switch {
	case len(m.Body) > c.maxBody():
		return nil, fmt.Errorf("natsqueue: %s: a body of %d bytes, and the most is %d: %w", c.name, len(m.Body), c.maxBody(), navvy.ErrInvalid)
	case len(m.ID)+len(m.Correlation) > reserved/2:
		return nil, fmt.Errorf("natsqueue: %s: ids of %d bytes, and the most is %d: %w", c.name, len(m.ID)+len(m.Correlation), reserved/2, navvy.ErrInvalid)
	case !header(m.ID) || !header(m.Correlation):
		return nil, fmt.Errorf("natsqueue: %s: the ids %q and %q cannot be headers, which are one line without blanks at its ends: %w", c.name, m.ID, m.Correlation, navvy.ErrInvalid)
	}
	out := &nats.Msg{Subject: c.name, Data: m.Body, Header: nats.Header{headerID: {m.ID}}}
	if m.Correlation != "" {
		out.Header[headerCorrelation] = []string{m.Correlation}
	}
	return out, nil
}

func header(s string) bool { return strings.TrimSpace(s) == s && !strings.ContainsAny(s, "\r\n") }

// Send implements driver.Queue.
func (c *conn) Send(ctx context.Context, ms []*driver.Message) []error {
	errs, failed := make([]error, len(ms)), false
	out, at := make([]*nats.Msg, 0, len(ms)), make([]int, 0, len(ms))
	for i, m := range ms {
		msg, err := c.message(m)
		if err != nil {
			errs[i], failed = err, true
			continue
		}
		out, at = append(out, msg), append(at, i)
	}
	for i, err := range c.publish(ctx, out) {
		if err != nil {
			errs[at[i]], failed = c.wrap("send", err), true
		}
	}
	if !failed {
		return nil
	}
	return errs
}

// publish sends messages and has them confirmed by their stream.
func (c *conn) publish(ctx context.Context, ms []*nats.Msg) []error {
	ctx, cancel := context.WithTimeout(ctx, replyTimeout)
	defer cancel()
	replies, err := c.calls.do(ctx, c.nc, ms)
	errs := make([]error, len(ms))
	for i, r := range replies {
		if r == nil {
			errs[i] = err
			continue
		}
		errs[i] = confirmed(r)
	}
	return errs
}

// confirmed reads a stream's answer.
func confirmed(m *nats.Msg) error {
	if m.Header.Get("Status") == "503" {
		return fmt.Errorf("no stream takes it: %w", nats.ErrNoResponders)
	}
	var answer struct {
		Error  *jetstream.APIError `json:"error"`
		Stream string              `json:"stream"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return fmt.Errorf("the stream's answer: %w", err)
	}
	if answer.Error != nil {
		return answer.Error
	}
	if answer.Stream == "" {
		return fmt.Errorf("somebody answers who is no stream: %w", navvy.ErrConflict)
	}
	return nil
}

// settle tells the server what becomes of deliveries, and waits until it has heard. Errors
// are not wrapped yet.
func (c *conn) settle(ctx context.Context, word []byte, ds []*driver.Delivery) []error {
	ms, wait := make([]*nats.Msg, len(ds)), replyTimeout
	for i, d := range ds {
		t, _ := d.Token.(token)
		ms[i] = &nats.Msg{Subject: t.subject, Data: word}
		if t.conn != c {
			wait = formerTimeout
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, wait, errSilent)
	defer cancel()
	replies, err := c.calls.do(ctx, c.nc, ms)
	var errs []error
	for i, r := range replies {
		failed := err
		switch {
		case r != nil && r.Header.Get("Status") == "503":
			failed = fmt.Errorf("its consumer is not there: %w", nats.ErrNoResponders)
		case r != nil:
			continue
		}
		if errs == nil {
			errs = make([]error, len(ds))
		}
		errs[i] = failed
	}
	return errs
}

// all wraps errors.
func (c *conn) all(what string, errs []error) []error {
	for i, err := range errs {
		errs[i] = c.wrap(what, err)
	}
	return errs
}

// Ack implements driver.Queue.
func (c *conn) Ack(ctx context.Context, ds []*driver.Delivery) []error {
	errs := c.settle(ctx, []byte("+ACK"), ds)
	for i, err := range errs {
		if errors.Is(err, errSilent) && c.ctx.Err() == nil {
			errs[i] = fmt.Errorf("natsqueue: %s: the server does not confirm an acknowledgement, as if it had forgotten that it delivered the message: %w", c.name, navvy.ErrLeaseLost)
			continue
		}
		errs[i] = c.wrap("acknowledge", err)
	}
	return errs
}

// Renew implements driver.Queue.
func (c *conn) Renew(ctx context.Context, ds []*driver.Delivery) []error {
	lease, err := c.consume(ctx)
	if err != nil {
		return driver.Each(len(ds), err)
	}
	until := time.Now().Add(lease)
	errs := c.all("renew", c.settle(ctx, []byte("+WPI"), ds))
	for i, d := range ds {
		if errs == nil || errs[i] == nil {
			d.Until = until
		}
	}
	return errs
}

// Nack implements driver.Queue.
func (c *conn) Nack(ctx context.Context, d *driver.Delivery, delay time.Duration) error {
	word := "-NAK"
	if delay > 0 {
		word += ` {"delay": ` + strconv.FormatInt(delay.Nanoseconds(), 10) + "}"
	}
	return one(c.all("give back", c.settle(ctx, []byte(word), []*driver.Delivery{d})))
}

func one(errs []error) error {
	if errs == nil {
		return nil
	}
	return errs[0]
}

// DeadLetter implements driver.Queue. The id by which the server forgets a second one is
// not the message's: that may be known to the stream from before, and a dead letter that is
// forgotten would be lost.
func (c *conn) DeadLetter(ctx context.Context, d *driver.Delivery, reason string) error {
	t, _ := d.Token.(token)
	m := &nats.Msg{Subject: c.name + DeadSuffix, Data: d.Body, Header: nats.Header{
		headerID: {"dead-" + t.place}, headerOriginal: {d.ID}, headerReason: {line(reason)}, headerSent: {d.Enqueued.UTC().Format(time.RFC3339Nano)},
		headerTried: {strconv.Itoa(d.Attempt)},
	}}
	if d.Correlation != "" {
		m.Header[headerCorrelation] = []string{d.Correlation}
	}
	if err := one(c.publish(ctx, []*nats.Msg{m})); err != nil {
		if _, found := c.js.StreamNameBySubject(ctx, m.Subject); errors.Is(found, jetstream.ErrStreamNotFound) {
			return fmt.Errorf("natsqueue: %s: no stream has the subject %s of its dead letters: make one: %w", c.name, m.Subject, navvy.ErrNotFound)
		}
		return c.wrap("move to the dead letters", err)
	}
	return one(c.Ack(ctx, []*driver.Delivery{d}))
}

// line makes one line of a reason, of a length that a header may have.
func line(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\r' || r == '\n' }), " ")
	return strings.TrimSpace(strings.ToValidUTF8(s[:min(len(s), reserved/4)], ""))
}

// Close implements driver.Queue. Leases last until their time is over.
func (c *conn) Close() error {
	c.mu.Lock()
	c.cancel(errGone)
	c.mu.Unlock()
	c.busy.Wait()
	c.nc.Close()
	<-c.closed
	return nil
}
