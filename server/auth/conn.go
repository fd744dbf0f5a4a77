package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// cutAfter is how long streams have, once their certificate was revoked, to tell
// their callers why before the connection is cut.
const cutAfter = 200 * time.Millisecond

// Credentials are what a gRPC server on a port uses: config, made by ServerTLS.
// Beside that, the gate ends a connection whose certificate is revoked or
// expires, or that has none and stays too long, which ends all its streams, also those whose handlers wait for the
// client; and it writes refused connections to the audit log.
func (g *Gate) Credentials(config *tls.Config) credentials.TransportCredentials {
	return &gatedCredentials{TransportCredentials: credentials.NewTLS(config), gate: g}
}

type gatedCredentials struct {
	credentials.TransportCredentials
	gate *Gate
}

// Clone gives credentials that are used alike.
func (c *gatedCredentials) Clone() credentials.TransportCredentials {
	return &gatedCredentials{TransportCredentials: c.TransportCredentials.Clone(), gate: c.gate}
}

// connInfo is what is known of a connection: who is at its other end, read once.
type connInfo struct {
	credentials.TLSInfo
	id  Identity
	err error // what is wrong with the certificate
}

// ServerHandshake meets one client.
func (c *gatedCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	polite := &politeConn{Conn: raw}
	conn, auth, err := c.TransportCredentials.ServerHandshake(polite)
	polite.met = err == nil
	if err != nil {
		if !errors.Is(err, io.EOF) { // who only looks whether somebody listens
			c.gate.opts.Audit.LogAttrs(context.Background(), slog.LevelWarn, "connection refused",
				slog.String("from", raw.RemoteAddr().String()), slog.String("why", err.Error()))
		}
		return nil, nil, err
	}
	info := connInfo{TLSInfo: auth.(credentials.TLSInfo)}
	certs := info.State.PeerCertificates
	gated := &gatedConn{Conn: conn, leave: func() {}}
	gated.mu.Lock()
	defer gated.mu.Unlock()
	if len(info.State.VerifiedChains) == 0 { // nobody
		gated.expiry = time.AfterFunc(c.gate.opts.JoinTime, gated.cut)
		return gated, info, nil
	}
	info.id, info.err = Of(certs[0])
	gated.leave = c.gate.enter(Serial(certs[0].SerialNumber), gated.cutSoon)
	gated.expiry = time.AfterFunc(certs[0].NotAfter.Sub(c.gate.opts.Clock()), gated.cut)
	if c.gate.Revoked(Serial(certs[0].SerialNumber)) { // while it entered
		gated.cutSoon(nil)
	}
	return gated, info, nil
}

// politeConn is a connection that is not cut off while its client still speaks, if the
// handshake has failed: a client that has sent more than we have read would be told
// of a reset, and not of why it was refused, which it has not read yet.
type politeConn struct {
	net.Conn
	met bool // the handshake was well; written before anybody but it closes
}

// What a refused client may still say, and for how long.
const (
	lastWords = 64 << 10
	lastTime  = time.Second
)

// Close closes the connection.
func (c *politeConn) Close() error {
	if !c.met && c.SetReadDeadline(time.Now().Add(lastTime)) == nil {
		_, _ = io.CopyN(io.Discard, c.Conn, lastWords) // it ends when the client has read our refusal
	}
	return c.Conn.Close()
}

// gatedConn is a connection that ends with its certificate.
type gatedConn struct {
	net.Conn

	mu     sync.Mutex
	leave  func() // nil once it was called
	expiry *time.Timer
}

func (c *gatedConn) cut()            { _ = c.Close() } // whoever reads or writes is told
func (c *gatedConn) cutSoon(_ error) { time.AfterFunc(cutAfter, c.cut) }

// Close closes the connection.
func (c *gatedConn) Close() error {
	c.mu.Lock()
	if c.leave != nil {
		c.expiry.Stop()
		c.leave()
		c.leave = nil
	}
	c.mu.Unlock()
	return c.Conn.Close()
}

// PeerCertificate is the verified certificate of whoever makes a call; nil if the
// call came without one.
func PeerCertificate(ctx context.Context) *x509.Certificate {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	var state *tls.ConnectionState
	switch info := p.AuthInfo.(type) {
	case connInfo:
		state = &info.State
	case credentials.TLSInfo:
		state = &info.State
	}
	if state == nil || len(state.VerifiedChains) == 0 {
		return nil
	}
	return state.PeerCertificates[0]
}
