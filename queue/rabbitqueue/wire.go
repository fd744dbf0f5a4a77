package rabbitqueue

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/navvy-run/navvy"
)

const (
	heartbeat  = 10 * time.Second // a connection is lost after less than two
	handshake  = 30 * time.Second // at most, for a broker that takes connections and says nothing
	closingFor = 3 * time.Second  // a broker is asked to end a connection
)

// wire is one connection to the broker.
type wire struct {
	*amqp.Connection
	stream *stream
	gone   context.Context //nolint:containedctx // ends with the connection; its cause says why
	end    context.CancelCauseFunc
	over   chan struct{} // closed when who watches is gone
}

// dial connects and logs in.
func dial(ctx context.Context, a *address) (*wire, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, handshake, fmt.Errorf("it does not answer: %w", navvy.ErrUnavailable))
	defer cancel()
	plain, err := new(net.Dialer).DialContext(ctx, "tcp", a.addr)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, navvy.ErrUnavailable)
	}
	s := newStream(plain)
	stop := context.AfterFunc(ctx, func() { _ = plain.Close() }) // which ends what reads
	c, err := shake(ctx, s, a)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = s.Close()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, notLetIn(a, refused(err))
	}
	w := &wire{Connection: c, stream: s, over: make(chan struct{})}
	w.gone, w.end = context.WithCancelCause(context.Background())
	closed := c.NotifyClose(make(chan *amqp.Error, 1))
	go w.watch(closed)
	return w, nil
}

// shake makes an AMQP connection of a plain one.
func shake(ctx context.Context, s *stream, a *address) (*amqp.Connection, error) {
	var c net.Conn = s
	if a.tls != nil {
		secure := tls.Client(s, a.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("TLS: %w", err)
		}
		c = secure
	}
	properties := amqp.Table{"product": "navvy", "platform": "Go"}
	return amqp.Open(c, amqp.Config{
		SASL:       []amqp.Authentication{&login{user: a.user, password: a.password, properties: properties}},
		Properties: properties, Vhost: a.vhost, Heartbeat: heartbeat, FrameSize: 128 << 10, Locale: "en_US",
	})
}

// refused is why a broker took no connection. A certificate that is not trusted is nothing
// that time mends.
func refused(err error) error {
	if untrusted, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Errorf("%w: %w", untrusted, navvy.ErrDenied)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return fmt.Errorf("nobody speaks TLS there: if that is to be so, write amqp:// in place of amqps://: %w", navvy.ErrInvalid)
	}
	return classify(err)
}

// notLetIn says who is not let in, and where, without the password.
func notLetIn(a *address, err error) error {
	said, ok := errors.AsType[*amqp.Error](err)
	switch {
	case !ok && !errors.Is(err, navvy.ErrDenied) && !errors.Is(err, navvy.ErrNotFound):
		return err
	case errors.Is(err, navvy.ErrNotFound):
		return fmt.Errorf("there is no virtual host %q: the option vhost names it, and rabbitmqctl add_vhost makes one: %w", a.vhost, err)
	case ok && said.Code == amqp.NotAllowed, strings.Contains(err.Error(), "access to vhost"):
		return fmt.Errorf("the user %q may not use the virtual host %q: rabbitmqctl set_permissions lets him: %w", a.user, a.vhost, err)
	case a.user == "guest":
		return fmt.Errorf("the user \"guest\" is refused: his password is wrong, or this is not RabbitMQ's own machine: put a user and a password before the host: %w", err)
	case errors.Is(err, navvy.ErrDenied):
		return fmt.Errorf("the user %q is refused: there is none, or the password is wrong: %w", a.user, err)
	}
	return err
}

// login is SASL's PLAIN. It also has the broker say when it refuses a password: unless the
// client announces that it understands, RabbitMQ falls silent for some seconds and hangs
// up, which is what a broker that dies does, too. The library has no other place for it.
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

// watch notes why the connection ended.
func (w *wire) watch(closed <-chan *amqp.Error) {
	defer close(w.over)
	err := fmt.Errorf("rabbitqueue: the connection is closed: %w", navvy.ErrUnavailable)
	if why := <-closed; why != nil {
		err = fmt.Errorf("rabbitqueue: the connection is lost: %s: %w", why.Reason, navvy.ErrUnavailable)
	}
	w.end(err)
}

// lost is why the connection ended; nil while it has not.
func (w *wire) lost() error { return context.Cause(w.gone) }

// close ends the connection, which is closed whatever goes wrong. A broker that does not
// answer is not waited for long; without an error it has read all that was written.
func (w *wire) close() error {
	err := w.CloseDeadline(time.Now().Add(closingFor))
	_ = w.stream.Close()
	<-w.over
	if err != nil {
		return fmt.Errorf("rabbitqueue: the broker has not confirmed the end of the connection: %w: %w", err, navvy.ErrUnavailable)
	}
	return nil
}

// within calls the broker, which answers sooner or later, or ends with the connection; who
// waits no longer than ctx lasts leaves it to itself.
func within[T any](ctx context.Context, w *wire, call func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	answered := make(chan answer, 1)
	go func() {
		value, err := call()
		answered <- answer{value, err}
	}()
	select {
	case a := <-answered:
		if a.err != nil && w.lost() != nil {
			return a.value, w.lost()
		}
		return a.value, classify(a.err)
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}
