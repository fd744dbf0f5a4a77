// Package rabbitqueue keeps queues on RabbitMQ, over AMQP 0-9-1:
//
//	amqp://HOST:PORT/QUEUE?vhost=V&type=quorum|classic
//	amqps://HOST:PORT/QUEUE
//
// Deliveries belong to the connection that they came over, and are lost with it; RabbitMQ
// also takes back what was not settled within its consumer_timeout, of 30 minutes unless
// it is set otherwise. docs/brokers.md says what is made on the broker and what is not
// promised.
package rabbitqueue

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
)

// DeadSuffix is what the name of a queue's dead letters has behind the queue's own.
const DeadSuffix = ".dead"

const (
	maxBody  = 128 << 20 // RabbitMQ's max_message_size, unless it is set otherwise
	maxBatch = 1000
	// longestName bounds what AMQP calls a short string: names, and the ids of messages.
	longestName = 255
)

// The kinds of queues, as the argument x-queue-type has them.
const (
	quorum  = "quorum"
	classic = "classic"
)

// address is what a URL says.
type address struct {
	addr           string // host and port
	tls            *tls.Config
	user, password string
	vhost          string
	queue          string
	kind           string
	asked          bool // whether the URL names the kind
}

// Driver reads URLs of the form amqp://HOST:PORT/QUEUE and amqps://HOST:PORT/QUEUE, with
// the options vhost (defaults to /), type: quorum (the default) or classic, and those of
// driver.TLS. Without a user it is guest.
func Driver(u *url.URL, o *driver.Options) (driver.Dial, error) {
	a, err := read(u)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (driver.Queue, error) { return open(ctx, a, *o) }, nil
}

func read(u *url.URL) (*address, error) {
	values, err := driver.Query(u, append([]string{"type", "vhost"}, driver.TLSOptions...)...)
	if err != nil {
		return nil, err
	}
	a := &address{vhost: "/", kind: quorum, user: "guest", password: "guest"}
	port := "5672"
	switch u.Scheme {
	case "amqp":
	case "amqps":
		port = "5671"
	default:
		return nil, fmt.Errorf("queue %s: the form is amqp://HOST/QUEUE or amqps://HOST/QUEUE: %w", u.Redacted(), navvy.ErrInvalid)
	}
	if u.Hostname() == "" {
		return nil, fmt.Errorf("queue %s: the host is missing: %s://HOST/QUEUE: %w", u.Redacted(), u.Scheme, navvy.ErrInvalid)
	}
	if u.Port() != "" {
		port = u.Port()
	}
	if a.tls, err = driver.TLS(u, values, u.Scheme == "amqp"); err != nil {
		return nil, err
	}
	a.addr = net.JoinHostPort(u.Hostname(), port)
	if u.User != nil {
		a.user = u.User.Username()
		a.password, _ = u.User.Password()
	}
	if a.queue, err = driver.Name(u); err != nil {
		return nil, err
	}
	if len(a.queue)+len(DeadSuffix) > longestName || strings.HasPrefix(a.queue, "amq.") {
		return nil, fmt.Errorf("queue %s: a name has at most %d bytes here, and does not begin with amq.: %w", u.Redacted(), longestName-len(DeadSuffix), navvy.ErrInvalid)
	}
	if values.Has("vhost") {
		a.vhost = values.Get("vhost")
	}
	if a.asked = values.Has("type"); a.asked {
		a.kind = values.Get("type")
	}
	if a.kind != quorum && a.kind != classic {
		return nil, fmt.Errorf("queue %s: option type: %q is neither %s nor %s: %w", u.Redacted(), a.kind, quorum, classic, navvy.ErrInvalid)
	}
	return a, nil
}

// open connects, and finds the queue or makes it.
func open(ctx context.Context, a *address, o driver.Options) (driver.Queue, error) {
	w, err := dial(ctx, a)
	if err != nil {
		return nil, fmt.Errorf("rabbitqueue: %s: %w", a.addr, err)
	}
	kind, err := within(ctx, w, func() (string, error) { return find(w, a, o.Create) })
	if err != nil {
		_ = w.close() // what went wrong before counts
		return nil, fmt.Errorf("rabbitqueue: queue %s: %w", a.queue, err)
	}
	return newConn(a, o, w, kind), nil
}

// Capabilities implements driver.Queue.
func (c *conn) Capabilities() driver.Capabilities {
	return driver.Capabilities{
		Correlation: true, Reason: true, Attempts: c.kind == quorum, Binary: true, Held: true,
		Waiting: true, MaxBody: maxBody, MaxBatch: maxBatch,
	}
}

// Renew implements driver.Queue: a delivery lasts as long as the connection.
func (c *conn) Renew(context.Context, []*driver.Delivery) []error { return nil }
