package queue

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
)

// plainOf are the schemes without TLS of those with it.
var plainOf = map[string]string{"rediss": "redis", "amqps": "amqp", "tls": "nats"}

// defaultPorts are those of URLs without one.
var defaultPorts = map[string]string{"redis": "6379", "rediss": "6379", "amqp": "5672", "amqps": "5671", "nats": "4222", "tls": "4222"}

// mistaken turns the error of a first connection into navvy.ErrInvalid if the broker is
// there and speaks TLS where the URL does not, or the other way round: libraries tell that
// as a connection that was lost, and time does not mend it. It asks the broker.
func mistaken(ctx context.Context, name string, err error) error {
	u, bad := url.Parse(name)
	if bad != nil || !errors.Is(err, navvy.ErrUnavailable) || ctx.Err() != nil {
		return err
	}
	plain, secure := plainOf[u.Scheme], u.Scheme
	overTLS := plain != ""
	if !overTLS {
		plain = u.Scheme
		for s, p := range plainOf {
			if p == plain {
				secure = s
			}
		}
	}
	port := u.Port()
	if port == "" {
		port = defaultPorts[u.Scheme]
	}
	if port == "" {
		return err // a broker that is reached otherwise
	}
	at := net.JoinHostPort(u.Hostname(), port)
	ctx, cancel := context.WithTimeout(ctx, greeting)
	defer cancel()
	switch {
	case !overTLS && speaksTLS(ctx, u.Hostname(), at):
		return fmt.Errorf("what listens at %s speaks TLS: write %s:// in place of %s://: %w", at, secure, plain, navvy.ErrInvalid)
	case overTLS && speaksPlain(ctx, plain, at):
		return fmt.Errorf("what listens at %s speaks without TLS: if that is to be so, write %s:// in place of %s://: %w", at, plain, secure, navvy.ErrInvalid)
	}
	return err
}

// greeting is how long a broker may take to answer a greeting. One that is not meant waits
// for more, or hangs up.
const greeting = 3 * time.Second

// speaksTLS tells whether what listens there answers in TLS.
func speaksTLS(ctx context.Context, host, at string) bool {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", at)
	if err != nil {
		return false
	}
	defer c.Close()
	err = tls.Client(c, &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}).HandshakeContext(ctx)
	if err == nil {
		return true
	}
	_, ours := errors.AsType[*tls.CertificateVerificationError](err)
	op, ok := errors.AsType[*net.OpError](err)
	return ours || ok && op.Op == "remote error" // an alert
}

// greetings are what brokers are greeted with without TLS, and how their answers begin.
var greetings = map[string]struct {
	say     string
	answers []string
}{
	"redis": {"PING\r\n", []string{"+", "-"}},
	"amqp":  {"AMQP\x00\x00\x09\x01", []string{"\x01", "AMQP"}},
	"nats":  {"", []string{"INFO "}},
}

// speaksPlain tells whether what listens there answers as that broker does without TLS.
func speaksPlain(ctx context.Context, scheme, at string) bool {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", at)
	if err != nil {
		return false
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })() // which ends the reading
	if _, err := io.WriteString(c, greetings[scheme].say); err != nil {
		return false
	}
	said := make([]byte, 4<<10) // NATS says what it wants before TLS begins
	n, _ := c.Read(said)
	if strings.Contains(string(said[:n]), `"tls_required":true`) {
		return false
	}
	return slices.ContainsFunc(greetings[scheme].answers, func(begin string) bool { return strings.HasPrefix(string(said[:n]), begin) })
}
