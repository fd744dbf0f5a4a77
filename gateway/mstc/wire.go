package mstc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/navvy-run/navvy"
)

const (
	heartbeat  = 10 * time.Second
	handshake  = 30 * time.Second // at most, for a broker that takes connections and says nothing
	closingFor = 3 * time.Second  // a broker is asked to end a connection
)

// wire is one connection to the broker, with one channel.
type wire struct {
	conn  *amqp.Connection
	plain net.Conn
	ch    *amqp.Channel
	gone  context.Context //nolint:containedctx // ends with the channel; its cause says why
	over  chan struct{}   // closed when who watches is gone
}

// dial connects, logs in, and opens a channel.
func dial(ctx context.Context, a *address) (*wire, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, handshake, fmt.Errorf("it does not answer: %w", navvy.ErrUnavailable))
	defer cancel()
	plain, err := new(net.Dialer).DialContext(ctx, "tcp", a.at)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, navvy.ErrUnavailable)
	}
	stop := context.AfterFunc(ctx, func() { _ = plain.Close() }) // which ends what reads
	w, err := shake(ctx, plain, a)
	if !stop() && err == nil {
		_ = w.conn.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = plain.Close()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("%s, as user %q: %w", a.at, a.user, err)
	}
	gone, end := context.WithCancelCause(context.Background())
	w.gone, w.over = gone, make(chan struct{})
	closed := w.ch.NotifyClose(make(chan *amqp.Error, 1))
	go func() {
		defer close(w.over)
		why := <-closed
		if why == nil {
			why = amqp.ErrClosed
		}
		end(classify(why))
	}()
	return w, nil
}

// shake makes an AMQP connection of a plain one, and its channel.
func shake(ctx context.Context, plain net.Conn, a *address) (*wire, error) {
	c := plain
	if a.tls != nil {
		secure := tls.Client(plain, a.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("TLS: %w", err)
		}
		c = secure
	}
	properties := amqp.Table{"product": "navvy mstc", "platform": "Go"}
	conn, err := amqp.Open(c, amqp.Config{
		SASL:       []amqp.Authentication{&login{user: a.user, password: a.password, properties: properties}},
		Properties: properties, Vhost: a.vhost, Heartbeat: heartbeat, Locale: "en_US",
	})
	if err != nil {
		return nil, classify(err)
	}
	ch, err := conn.Channel()
	if err != nil {
		_ = conn.Close()
		return nil, classify(err)
	}
	return &wire{conn: conn, plain: plain, ch: ch}, nil
}

// close ends the connection, whatever goes wrong.
func (w *wire) close() {
	_ = w.conn.CloseDeadline(time.Now().Add(closingFor)) // a broker that does not answer is not waited for
	_ = w.plain.Close()
	<-w.over
}

// login is SASL's PLAIN. It also has the broker say when it refuses a password: unless the
// client announces that it understands, RabbitMQ hangs up as one that dies does. The library
// has no other place for it.
type login struct {
	user, password string
	properties     amqp.Table
}

func (l *login) Mechanism() string { return "PLAIN" }

func (l *login) Response() string {
	if abilities, ok := l.properties["capabilities"].(amqp.Table); ok {
		abilities["authentication_failure_close"] = true
	}
	return "\x00" + l.user + "\x00" + l.password
}

// classify wraps what the broker or the connection said with the sentinel that tells what it
// means. Whatever the broker did not say is the connection's.
func classify(err error) error {
	said, ok := errors.AsType[*amqp.Error](err)
	if !ok || !said.Server {
		return fmt.Errorf("%w: %w", err, navvy.ErrUnavailable)
	}
	meaning := navvy.ErrUnavailable
	switch said.Code {
	case amqp.AccessRefused, amqp.NotAllowed:
		meaning = navvy.ErrDenied
	case amqp.NotFound:
		meaning = navvy.ErrNotFound
	case amqp.PreconditionFailed, amqp.ResourceLocked:
		meaning = navvy.ErrConflict
	}
	return fmt.Errorf("%s: %w", said.Reason, meaning)
}
