package servicebusqueue

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/navvy-run/navvy"
)

// AMQP's ports, with TLS and without.
const (
	portTLS   = "5671"
	portPlain = "5672"
)

// wire is the one connection to the service that a conn has. The SDK asks for it by the way
// that is meant for web sockets, and gets no second one: it would otherwise mend in silence
// what package queue must hear of, and wait for seconds before it does.
type wire struct {
	net.Conn
	lost func(error)
}

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if err != nil {
		w.lost(err)
	}
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	if err != nil {
		w.lost(err)
	}
	return n, err
}

// connector gives the SDK its connection, once.
func (c *conn) connector() func(context.Context, azservicebus.NewWebSocketConnArgs) (net.Conn, error) {
	var asked atomic.Bool
	return func(ctx context.Context, _ azservicebus.NewWebSocketConnArgs) (net.Conn, error) {
		if asked.Swap(true) {
			return nil, errClosed
		}
		raw, err := c.connectTo(ctx)
		if err != nil {
			return nil, err
		}
		return &wire{raw, func(err error) {
			c.cut(fmt.Errorf("the connection is lost: %w: %w", err, navvy.ErrUnavailable))
		}}, nil
	}
}

func (c *conn) connectTo(ctx context.Context) (net.Conn, error) {
	address, port := c.host, portTLS
	if c.emulator {
		port = portPlain
	}
	name, _, err := net.SplitHostPort(address)
	if err != nil {
		name, address = c.host, net.JoinHostPort(c.host, port)
	}
	if c.emulator {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}
	d := &tls.Dialer{Config: &tls.Config{ServerName: name, MinVersion: tls.VersionTLS12}}
	return d.DialContext(ctx, "tcp", address)
}
