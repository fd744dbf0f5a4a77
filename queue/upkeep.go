package queue

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
)

// Count is how many messages a queue has; a number that the broker does not tell is negative.
type Count = driver.Count

// Seen is a message that was shown, and not delivered.
type Seen struct {
	ID, Correlation string
	// Body is what was sent, byte for byte.
	Body []byte
	// Missing says where the body is instead, or why there is none; empty if it is in Body.
	Missing string
	// Reason is why it is a dead letter, and Tried how often it had been delivered before it
	// was one; empty and 0 where the broker does not tell.
	Reason string
	Tried  int
	// Attempts is how often it was delivered; 0 also where the broker does not count.
	Attempts int
	// Leased says that somebody has it now, or gave it back for later.
	Leased bool
	// Enqueued is when it was sent; zero if nobody knows.
	Enqueued time.Time
}

// Peek shows messages that wait, the oldest first, without a delivery: at most so many, and
// at most Capabilities.Peek. Some brokers show those that somebody works on, too. The error
// wraps navvy.ErrUnsupported where the broker shows nothing that it does not deliver.
func (q *Queue) Peek(ctx context.Context, most int) ([]Seen, error) {
	if q.caps.Peek == 0 {
		return nil, fmt.Errorf("queue %s: peek: this broker shows messages only by delivering them, which counts as an attempt: %w", q.name, navvy.ErrUnsupported)
	}
	var found []*driver.Seen
	err := q.call(ctx, func(c *conn) (err error) {
		found, err = c.Peek(ctx, min(most, q.caps.Peek))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("queue %s: peek: %w", q.name, err)
	}
	list := make([]Seen, len(found))
	for i, s := range found {
		l := &Lease{q: q, d: &s.Delivery, body: s.Body, id: s.ID, correlation: s.Correlation, enqueued: s.Enqueued}
		if q.envelope {
			l.unwrap()
		}
		list[i] = l.shown()
		list[i].Leased = s.Leased
	}
	return list, nil
}

// Shown is the message of a lease as Peek would have shown it.
func (l *Lease) Shown() Seen { return l.shown() }

func (l *Lease) shown() Seen {
	s := Seen{
		ID: l.id, Correlation: l.correlation, Body: l.body, Reason: l.d.Reason, Tried: l.d.Tried, Attempts: l.d.Attempt, Enqueued: l.enqueued,
	}
	switch {
	case l.broken != nil:
		s.Missing = l.broken.Error()
	case l.claim != nil:
		s.Missing = fmt.Sprintf("its %d bytes are %s in %s", l.claim.Size, l.claim.Name, l.claim.Place)
	}
	return s
}

// Count tells how many messages the queue has.
func (q *Queue) Count(ctx context.Context) (n Count, err error) {
	err = q.call(ctx, func(c *conn) (err error) {
		n, err = c.Count(ctx)
		return err
	})
	if err != nil {
		return n, fmt.Errorf("queue %s: count: %w", q.name, err)
	}
	return n, nil
}

// call does something over a connection until it goes well or never will.
func (q *Queue) call(ctx context.Context, do func(*conn) error) error {
	errs := insist(ctx, q.link, []struct{}{{}}, func(c *conn, _ []struct{}) []error { return []error{do(c)} })
	if errs == nil {
		return nil
	}
	return errs[0]
}

// Behind puts the message behind all others of its queue, as it was sent, and returns when
// the broker has confirmed it there: what lies behind it comes first then. Its deliveries
// are counted anew. A crash between leaves it twice, never not at all. After an error it is
// given back; one that wraps navvy.ErrUnsupported or ErrDenied says that this queue cannot
// be sent to.
func (l *Lease) Behind(ctx context.Context) error {
	return l.move(ctx, "put behind the others", driver.Behind)
}

// Redrive puts a dead letter back into the queue that it came from, as it was sent, and
// returns when the broker has confirmed it there. A crash between leaves it in both, never
// in none. After an error it is given back to the dead letters.
func (l *Lease) Redrive(ctx context.Context) error { return l.move(ctx, "redrive", driver.Home) }

// givingBack is how long it may take to give back what could not be moved.
const givingBack = 10 * time.Second

// move settles the lease by a move; what cannot be moved is given back.
func (l *Lease) move(ctx context.Context, what string, to driver.Place) error {
	if err := l.settle(what); err != nil {
		return err
	}
	defer l.end(errSettled)
	do := func(ctx context.Context, settle func(*conn) error) error {
		errs := insist(ctx, l.q.link, []*Lease{l}, func(c *conn, _ []*Lease) []error {
			if err := l.settledOver(c); err != nil {
				return []error{err}
			}
			return []error{settle(c)}
		})
		if errs == nil {
			return nil
		}
		return errs[0]
	}
	err := do(ctx, func(c *conn) error { return c.Move(ctx, l.d, to) })
	if err == nil {
		return nil
	}
	if !errors.Is(err, navvy.ErrLeaseLost) {
		back, cancel := context.WithTimeout(context.WithoutCancel(ctx), givingBack)
		defer cancel()
		_ = do(back, func(c *conn) error { return c.Nack(back, l.d, 0) }) // else it comes again by itself
	}
	return fmt.Errorf("queue %s: %s message %s: %w", l.q.name, what, l.id, err)
}

// deadSuffixes are what the names of dead letters have behind those of their queues.
var deadSuffixes = map[string]string{
	"amqp": ".dead", "amqps": ".dead", "redis": ".dead", "rediss": ".dead", "nats": ".dead", "tls": ".dead", "mem": ".dead",
	"azqueue": "-dead", "azservicebus": "/$DeadLetterQueue",
}

// DeadLetters is the URL of the dead letters of a queue, with its options and its password;
// that of dead letters is their own. The error wraps navvy.ErrInvalid, and ErrUnsupported
// for a broker whose names for them are not known here.
func DeadLetters(rawURL string) (string, error) {
	u, err := parse(rawURL)
	if err != nil {
		return "", err
	}
	suffix := deadSuffixes[u.Scheme]
	if suffix == "" {
		return "", fmt.Errorf("queue %s: where are its dead letters?: %w", navvy.ShownURL(u), navvy.ErrUnsupported)
	}
	if u.Path == "" {
		if !strings.HasSuffix(u.Host, suffix) {
			u.Host += suffix
		}
	} else if !strings.HasSuffix(strings.ToLower(u.Path), strings.ToLower(suffix)) {
		u.Path, u.RawPath = u.Path+suffix, ""
	}
	return u.String(), nil
}

// WithoutUser is a URL without its user and password, which may be secrets; it tells
// whether there were any.
func WithoutUser(rawURL string) (_ string, had bool) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return "", true
	}
	had, u.User = u.User != nil, nil
	return u.String(), had
}
