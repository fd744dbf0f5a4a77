// Package natsqueue keeps queues in JetStream, which a NATS server of version 2.11 or later
// offers if it is told to.
//
//	nats://USER:PASSWORD@HOST:PORT/QUEUE     a user alone is a token
//	tls://…                                  over TLS
//
// The queue is a subject: whoever publishes to it sends. A stream of work-queue retention
// keeps what was published, in files, and a durable consumer, navvy_QUEUE, hands it out with
// leases (its AckWait). Dead letters of QUEUE are in the queue QUEUE.dead.
//
// The id of a message is in the header Nats-Msg-Id: the server forgets a second one of an
// id for two minutes. The correlation id is in the header Correlation-Id.
package natsqueue

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
)

const (
	// DeadSuffix is what the name of a queue's dead letters has behind the queue's own.
	DeadSuffix = ".dead"

	maxBatch = 1000
	// reserved is what a message has beside its body, at most: the server's bound is for both.
	reserved = 8 << 10

	dialTimeout = 5 * time.Second
)

// Driver reads URLs of the forms nats://HOST:PORT/QUEUE and tls://HOST:PORT/QUEUE, with the
// options of driver.TLS.
func Driver(u *url.URL, o *driver.Options) (driver.Dial, error) {
	values, err := driver.Query(u, driver.TLSOptions...)
	if err != nil {
		return nil, err
	}
	secure, err := driver.TLS(u, values, u.Scheme != "tls")
	if err != nil {
		return nil, err
	}
	if u.Hostname() == "" {
		return nil, fmt.Errorf("queue %s: the form is %s://HOST:PORT/QUEUE: %w", u.Redacted(), u.Scheme, navvy.ErrInvalid)
	}
	name, err := driver.Name(u)
	if err != nil {
		return nil, err
	}
	if err := check(name); err != nil {
		return nil, fmt.Errorf("queue %s: %w", u.Redacted(), err)
	}
	d := &dialer{name: name, server: "nats://" + u.Host, user: u.User, lease: o.Lease, create: o.Create, tls: secure}
	if u.Port() == "" {
		d.server += ":4222"
	}
	return d.dial, nil
}

// check refuses names that are no subject that one can publish to.
func check(name string) error {
	for token := range strings.SplitSeq(name, ".") {
		if token == "" || strings.HasPrefix(name, "$") || strings.ContainsFunc(token, func(r rune) bool {
			return r <= ' ' || r == '*' || r == '>' || r == '/' || r == '\\' || r == 0x7f
		}) {
			return fmt.Errorf("the name of a queue is %q: it is a subject of NATS, words without blanks, *, >, / and \\ between dots, and does not begin with $: %w", name, navvy.ErrInvalid)
		}
	}
	return nil
}

// streamName is that of a stream that we make: names of streams have no dots.
func streamName(queue string) string { return strings.ReplaceAll(queue, ".", "_") }

// dialer knows how to connect to a queue.
type dialer struct {
	name, server string
	user         *url.Userinfo
	tls          *tls.Config
	lease        time.Duration
	create       bool
}

// bound has the client connect within a context.
type bound struct{ ctx context.Context } //nolint:containedctx // the client's interface has none

// Dial implements the client's dialer.
func (b bound) Dial(network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	return d.DialContext(b.ctx, network, address)
}

func (d *dialer) dial(ctx context.Context) (driver.Queue, error) {
	c := newConn(d.name)
	opts := []nats.Option{
		nats.NoReconnect(), nats.Timeout(dialTimeout), nats.SetCustomDialer(bound{ctx}),
		nats.PingInterval(10 * time.Second), nats.MaxPingsOutstanding(2),
		nats.ClosedHandler(c.lost), nats.ErrorHandler(c.trouble),
	}
	if d.tls != nil {
		opts = append(opts, nats.Secure(d.tls))
	}
	if d.user != nil {
		if password, ok := d.user.Password(); ok {
			opts = append(opts, nats.UserInfo(d.user.Username(), password))
		} else {
			opts = append(opts, nats.Token(d.user.Username()))
		}
	}
	var err error
	if c.nc, err = nats.Connect(d.server, opts...); err != nil {
		return nil, d.notLetIn(c.wrap("connect", err))
	}
	if err := d.setUp(ctx, c); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// notLetIn says who is not let in, without a password or token.
func (d *dialer) notLetIn(err error) error {
	if !errors.Is(err, navvy.ErrDenied) {
		return err
	}
	who := "without a user: put one before the host, or a token"
	if d.user != nil {
		who = "with this token"
		if _, ok := d.user.Password(); ok {
			who = fmt.Sprintf("as user %q: there is none, or the password is wrong", d.user.Username())
		}
	}
	return fmt.Errorf("%s is not let in, %s: %w", d.name, who, err)
}

// setUp finds or makes the streams, and listens for replies.
func (d *dialer) setUp(ctx context.Context, c *conn) error {
	js, err := jetstream.New(c.nc, jetstream.WithDefaultTimeout(dialTimeout))
	if err != nil {
		return c.wrap("speak to JetStream", err)
	}
	c.js = js
	if c.stream, err = d.find(ctx, c, d.name, d.create); err != nil {
		return err
	}
	if d.create {
		if _, err := d.find(ctx, c, d.name+DeadSuffix, true); err != nil {
			return err
		}
	}
	c.wanted = d.lease
	return c.calls.listen(c.nc)
}

// find gives the name of the stream that has the subject, and makes one if there is none.
func (d *dialer) find(ctx context.Context, c *conn, subject string, create bool) (string, error) {
	stream, err := c.js.StreamNameBySubject(ctx, subject)
	switch {
	case err == nil:
		return stream, nil
	case errors.Is(err, nats.ErrNoResponders):
		return "", c.wrap("JetStream does not answer: is the server told to have it (-js)?", err)
	case !errors.Is(err, jetstream.ErrStreamNotFound):
		return "", c.wrap("find the stream of "+subject, err)
	case !create:
		return "", fmt.Errorf("natsqueue: there is no queue %s: no stream has this subject: %w", subject, navvy.ErrNotFound)
	}
	stream = streamName(subject)
	_, err = c.js.CreateStream(ctx, jetstream.StreamConfig{
		Name: stream, Subjects: []string{subject}, Retention: jetstream.WorkQueuePolicy,
		Storage: jetstream.FileStorage, Duplicates: 2 * time.Minute, Discard: jetstream.DiscardNew,
	})
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		// Either somebody made it just now, or it is another one.
		if found, err := c.js.StreamNameBySubject(ctx, subject); err == nil {
			return found, nil
		}
		return "", fmt.Errorf("natsqueue: stream %s is there, and does not have the subject %s: add it, or take another name for the queue: %w", stream, subject, navvy.ErrConflict)
	}
	if err != nil {
		return "", c.wrap("make stream "+stream, err)
	}
	return stream, nil
}
