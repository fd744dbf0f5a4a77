// Package queue is a queue on any broker: messages are sent, received under a lease,
// renewed while they are worked on, and acknowledged, given back or moved to the dead
// letters. What brokers have in common lives here, once: batching, renewal, back-off,
// reconnection, the envelope. What they differ in is in Capabilities.
//
//	q, err := queue.Open(ctx, "amqp://localhost:5672/requests", drivers, nil)
//	leases, err := q.Receive(ctx, 10)
//	for _, l := range leases {
//		work, end := l.Context(ctx) // ends when the lease is lost
//		…
//		err = l.Ack(ctx)
//	}
package queue

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
)

// Options are the settings of a Queue.
type Options struct {
	// Lease is how long a message stays with whoever received it; it is renewed by itself
	// until it is settled. At least a second. Defaults to 60 s.
	Lease time.Duration
	// Outstanding is how many leases are held at once, at most, so that a broker that sends
	// by itself sends no more ahead. Defaults to 100.
	Outstanding int
	// MustExist keeps a missing queue from being made.
	MustExist bool
	// Claims takes bodies that do not fit into the broker's messages. It is for queues with
	// the envelope, stays the caller's, and is closed after the queue. Defaults to none:
	// such bodies are refused.
	Claims Claims
	// ClaimOver is from how many bytes on a body goes to Claims though it would fit: those
	// of more. Defaults to as many as fit.
	ClaimOver int
	// Logger hears of lost connections. Defaults to one that discards.
	Logger *slog.Logger
}

// Message is what is sent.
type Message struct {
	// ID names the message. One that is sent again under its ID is forgotten where the
	// broker can do that. Defaults to a new random one.
	ID string
	// Correlation is the ID of the request that this one answers. Needs a broker whose
	// messages have properties, or the envelope.
	Correlation string
	// Body is what the receiver gets, byte for byte. It must not change before Send returns.
	Body []byte
}

// Capabilities are what brokers differ in.
type Capabilities = driver.Capabilities

// Queue is one queue of a broker. Its methods may be called at once.
type Queue struct {
	name string
	opts Options
	link *link
	caps Capabilities

	envelope bool
	limit    int // how long the body of a broker's message may be
	sends    batcher[*parcel]
	acks     batcher[*Lease]
	renewals *renewals

	ctx    context.Context //nolint:containedctx // of the queue: ends with Close
	cancel context.CancelCauseFunc
	taking context.Context //nolint:containedctx // of those who receive: ends when Close begins
	refuse context.CancelCauseFunc
	work   sync.WaitGroup
	held   heldBack

	claiming  chan struct{}  // who uses Claims
	departing sync.WaitGroup // removals of bodies
}

// Open opens the queue of a URL with the driver of its scheme. Besides the driver's own
// options a URL may have envelope=json (see docs/brokers.md). It connects once: who cannot
// be reached now is navvy.ErrUnavailable; from then on connections are made again for
// ever. Errors wrap navvy.ErrInvalid for the URL, ErrNotFound for a queue that is missing
// and not to be made, ErrDenied for credentials.
func Open(ctx context.Context, rawURL string, drivers map[string]driver.Driver, o *Options) (*Queue, error) {
	p, err := read(rawURL, drivers, o)
	if err != nil {
		return nil, err
	}
	return start(ctx, p)
}

// Check tells what is wrong with the URL of a queue, as Open does, without a connection.
func Check(rawURL string, drivers map[string]driver.Driver) error {
	_, err := read(rawURL, drivers, nil)
	return err
}

// secretOption is an option of a URL that looks as if its value was a secret: no driver has
// one, and no error may repeat it.
func secretOption(u *url.URL) string {
	for name := range u.Query() {
		low := strings.ToLower(name)
		for _, word := range []string{"pass", "secret", "token", "key", "pwd"} {
			if strings.Contains(low, word) && low != "key" { // which names a file
				return name
			}
		}
	}
	return ""
}

// place is what a URL says.
type place struct {
	name     string // without its password
	dial     driver.Dial
	opts     Options
	envelope bool
}

// read reads the URL of a queue.
func read(rawURL string, drivers map[string]driver.Driver, o *Options) (p place, err error) {
	u, err := parse(rawURL)
	if err != nil {
		return p, err
	}
	open, ok := drivers[u.Scheme]
	if !ok {
		known := slices.Sorted(maps.Keys(drivers))
		return p, fmt.Errorf("queue %s: there is no such kind of queue, only %s://: %w", navvy.ShownURL(u), strings.Join(known, "://, "), navvy.ErrInvalid)
	}
	p.name = navvy.ShownURL(u)
	if p.opts, err = o.filled(); err != nil {
		return p, fmt.Errorf("queue %s: %w", p.name, err)
	}
	if p.envelope, err = takeEnvelope(u); err != nil {
		return p, err
	}
	if (p.opts.Claims != nil || p.opts.ClaimOver != 0) && !p.envelope {
		return p, fmt.Errorf("queue %s: large bodies are claimed in an envelope: put ?envelope=json to the URL: %w", p.name, navvy.ErrInvalid)
	}
	p.dial, err = open(u, &driver.Options{Lease: p.opts.Lease, Outstanding: p.opts.Outstanding, Create: !p.opts.MustExist})
	return p, err
}

// parse reads a URL; the error does not repeat it, since a password may be in it.
func parse(rawURL string) (*url.URL, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme == "" || u.Opaque != "" || u.Fragment != "" {
		return nil, fmt.Errorf("the URL of a queue cannot be read: the form is SCHEME://HOST/QUEUE, and in a user's password # is written %%23, / %%2F, @ %%40 and %% %%25: %w", navvy.ErrInvalid)
	}
	if why := secretOption(u); why != "" {
		return nil, fmt.Errorf("queue %s://%s%s: option %q: a password stands before the host, as in %s://USER:PASSWORD@HOST: %w", u.Scheme, u.Host, u.Path, why, u.Scheme, navvy.ErrInvalid)
	}
	return u, nil
}

func (o *Options) filled() (Options, error) {
	var opts Options
	if o != nil {
		opts = *o
	}
	if opts.Lease == 0 {
		opts.Lease = time.Minute
	}
	if opts.Outstanding == 0 {
		opts.Outstanding = 100
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case opts.Lease < time.Second:
		return opts, fmt.Errorf("a lease of %s: it takes a second at least: %w", opts.Lease, navvy.ErrInvalid)
	case opts.Outstanding < 0:
		return opts, fmt.Errorf("%d leases at once: one at least: %w", opts.Outstanding, navvy.ErrInvalid)
	case opts.ClaimOver < 0 || opts.ClaimOver > 0 && opts.Claims == nil:
		return opts, fmt.Errorf("bodies of more than %d bytes are to go to a place for large ones, which is missing: %w", opts.ClaimOver, navvy.ErrInvalid)
	}
	return opts, nil
}

func start(ctx context.Context, p place) (*Queue, error) {
	first, err := p.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("queue %s: %w", p.name, mistaken(ctx, p.name, untrusted(err)))
	}
	q := &Queue{name: p.name, opts: p.opts, caps: first.Capabilities(), envelope: p.envelope}
	q.ctx, q.cancel = context.WithCancelCause(context.Background())
	q.taking, q.refuse = context.WithCancelCause(q.ctx)
	q.link = newLink(q.ctx, p.name, p.dial, first, p.opts.Logger)
	q.limit, q.claiming = q.caps.MaxBody, make(chan struct{}, claimsAtOnce)
	if q.envelope {
		q.caps.Correlation, q.caps.Binary = true, true
	}
	if q.opts.Claims != nil {
		q.caps.MaxBody = max(q.caps.MaxBody, MaxClaim)
	}
	q.sends = batcher[*parcel]{most: q.caps.MaxBatch, flights: sendFlights, do: q.sendBatch, work: &q.work}
	q.acks = batcher[*Lease]{most: q.caps.MaxBatch, do: q.ackBatch, work: &q.work}
	if !q.caps.Held {
		q.renewals = newRenewals(q)
		q.work.Go(q.renewals.run)
	}
	return q, nil
}

// Name is the URL, without its password.
func (q *Queue) Name() string { return q.name }

// Down is why there is no connection to the broker now; nil while there is one.
func (q *Queue) Down() error { return q.link.down() }

// Capabilities say what can be done with this queue, with its envelope if it has one.
func (q *Queue) Capabilities() Capabilities { return q.caps }

// Send sends messages and returns when the broker has confirmed them; messages of calls at
// once go together. A lost connection is made again, and what was not confirmed is sent
// again, so that a message may come twice, under the same ID, and never gets lost without
// an error. If ctx ends before, the error is its cause, and what was sent is open.
// A body that goes to Options.Claims is there before its message is sent; while that place is
// away or full, Send waits for it.
// Errors wrap navvy.ErrInvalid for a body that is too long, ErrUnsupported for what this
// broker's messages cannot carry, and ErrClosed. With several messages the error joins
// those of each that was not sent.
func (q *Queue) Send(ctx context.Context, ms ...Message) error {
	if err := context.Cause(q.ctx); err != nil {
		return err
	}
	out := make([]*parcel, 0, len(ms))
	for i := range ms {
		m, err := q.outgoing(&ms[i])
		if err != nil {
			return fmt.Errorf("queue %s: %w", q.name, err)
		}
		out = append(out, m)
	}
	if err := q.putAll(ctx, out); err != nil {
		return fmt.Errorf("queue %s: send: %w", q.name, err)
	}
	if err := q.sends.add(ctx, out); err != nil {
		return fmt.Errorf("queue %s: send: %w", q.name, err)
	}
	return nil
}

// outgoing checks a message, and puts it into its envelope.
func (q *Queue) outgoing(m *Message) (*parcel, error) {
	p := &parcel{Message: driver.Message{ID: m.ID, Correlation: m.Correlation, Body: m.Body}}
	if p.ID == "" {
		p.ID = rand.Text()
	}
	over := len(m.Body) > q.limit || q.opts.ClaimOver > 0 && len(m.Body) > q.opts.ClaimOver
	switch {
	case q.envelope && !over:
		p.Body = wrap(&p.Message, nil)
		over = len(p.Body) > q.limit
	case q.envelope:
	case p.Correlation != "" && !q.caps.Correlation:
		return nil, fmt.Errorf("send: messages of this broker carry nothing beside their body: put ?envelope=json to the URL for a correlation id: %w", navvy.ErrUnsupported)
	case !q.caps.Binary && !isText(p.Body):
		return nil, fmt.Errorf("send: messages of this broker are text, and this body is not: put ?envelope=json to the URL: %w", navvy.ErrUnsupported)
	}
	if !over {
		return p, nil
	}
	if q.opts.Claims != nil && len(m.Body) <= MaxClaim {
		return p, q.newClaim(p, m.Body)
	}
	return nil, q.tooLong(len(m.Body))
}

// tooLong says what to do about a body that does not fit.
func (q *Queue) tooLong(size int) error {
	switch {
	case size > MaxClaim:
		return fmt.Errorf("send: a body of %d bytes, and this queue takes %d: %w", size, q.caps.MaxBody, navvy.ErrInvalid)
	case q.envelope:
		return fmt.Errorf("send: a body of %d bytes, and this broker takes %d with the envelope: give a place for large bodies (--claims PLACE): %w", size, q.limit, navvy.ErrInvalid)
	}
	return fmt.Errorf("send: a body of %d bytes, and this broker takes %d: put ?envelope=json to the URL, and give a place for large bodies (--claims PLACE): %w", size, q.limit, navvy.ErrInvalid)
}

// sendBatch sends messages until each is confirmed or refused.
func (q *Queue) sendBatch(ps []*parcel) []error {
	return insist(q.ctx, q.link, ps, q.sendOver)
}

// sendOver sends messages over a connection.
func (q *Queue) sendOver(c *conn, ps []*parcel) (errs []error) {
	ms, at := make([]*driver.Message, 0, len(ps)), make([]int, 0, len(ps))
	for i, p := range ps {
		if err := q.claimAgain(p); err != nil {
			errs = spread(errs, len(ps), []int{i}, err)
			continue
		}
		ms, at = append(ms, &p.Message), append(at, i)
	}
	if len(ms) == 0 {
		return errs
	}
	for i, err := range c.Send(q.ctx, ms) {
		if err != nil {
			errs = spread(errs, len(ps), []int{at[i]}, err)
			ps[at[i]].doubt = errors.Is(err, navvy.ErrUnavailable)
		}
	}
	return errs
}

// Receive gives at least one lease and at most max, as soon as there is one. It waits, over
// lost connections too, until ctx ends, and then gives its cause. Errors that waiting does
// not mend are given at once.
func (q *Queue) Receive(ctx context.Context, most int) ([]*Lease, error) {
	if most < 1 {
		return nil, fmt.Errorf("queue %s: receive at most %d: %w", q.name, most, navvy.ErrInvalid)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(q.taking, func() { cancel(context.Cause(q.taking)) })()
	tries := newTries()
	for {
		c, err := q.link.get(ctx)
		if err != nil {
			return nil, q.receiveError(ctx, err)
		}
		ds, err := c.Receive(ctx, most)
		if len(ds) > 0 {
			return q.lease(c, ds), nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err = q.link.after(ctx, c, &tries, err); err != nil {
			return nil, q.receiveError(ctx, err)
		}
	}
}

func (q *Queue) receiveError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("queue %s: receive: %w", q.name, err)
}

// sendFlights is how many batches are sent at once: a broker that is far away, or writes to
// a disk before it confirms, need not be waited for to send the next.
const sendFlights = 4

// errClosed is the cause of whatever ends with Close.
var errClosed = fmt.Errorf("the queue is closed: %w", navvy.ErrClosed)

// Close gives back what is held for a later delivery, waits until what is being sent or
// settled is, for as long as ctx lasts, and ends the connection, and the bodies at Claims
// that are to be removed. Leases that are not settled
// are lost: their messages come again, when their lease is over.
func (q *Queue) Close(ctx context.Context) error {
	q.refuse(errClosed) // what is given back must not come in again
	q.held.release()
	err := errors.Join(q.held.wait(ctx), q.sends.idle(ctx), q.acks.idle(ctx))
	q.cancel(errClosed)
	q.sends.close(errClosed)
	q.acks.close(errClosed)
	q.work.Wait()
	err = errors.Join(err, q.link.close())
	return errors.Join(err, waitFor(ctx, &q.departing))
}
