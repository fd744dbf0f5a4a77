package client

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/server/auth"
)

// Dial connects to a server, HOST:PORT, with a configuration that auth.ClientTLS
// made, and asks it once who we are: what is wrong with the address, the server's
// certificate or ours is told now. The connection is then kept: it is made again
// when it breaks. The caller closes it. The error wraps navvy.ErrDenied if one side
// refuses the other's certificate, and navvy.ErrUnavailable if nobody answers.
func Dial(ctx context.Context, addr string, config *tls.Config) (*grpc.ClientConn, Me, error) {
	conn, err := newConn(addr, config)
	if err != nil {
		return nil, Me{}, err
	}
	resp, err := navvyv1.NewIdentityClient(conn).Whoami(ctx, &navvyv1.WhoamiRequest{})
	if err != nil {
		return nil, Me{}, errors.Join(fmt.Errorf("server %s: %w", addr, explain(ctx, err, addr, config)), conn.Close())
	}
	return conn, toMe(resp), nil
}

// newConn makes a connection, which begins with the first call.
func newConn(addr string, config *tls.Config) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("dns:///"+addr,
		Reconnect(),
		grpc.WithNoProxy(), // the environment is read by the command line only
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(api.MaxMessage)),
		grpc.WithStaticStreamWindowSize(api.StreamWindow), grpc.WithStaticConnWindowSize(api.ConnWindow),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: api.KeepaliveTime, Timeout: api.KeepaliveTimeout, PermitWithoutStream: true,
		}))
	if err != nil {
		return nil, fmt.Errorf("server %q: %w: %w", addr, err, navvy.ErrInvalid)
	}
	return conn, nil
}

// Reconnect makes a connection that breaks try again soon, and then less and less
// often, down to some times a second: a worker has to be back before its leases end.
func Reconnect() grpc.DialOption {
	return grpc.WithConnectParams(grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 400 * time.Millisecond},
		MinConnectTimeout: 5 * time.Second,
	})
}

// alerts are what package tls says of alerts that mean that the server refuses our
// certificate, RFC 8446, 6.2, and what they mean.
var alerts = []struct{ text, means string }{
	{"tls: certificate required", "it asks for a client's certificate: give one with --cert and --key"},
	{"tls: expired certificate", "our certificate has expired, or is not good yet: ask an administrator for another one (navvy cert issue)"},
	{"tls: unknown certificate authority", "our certificate is of another authority than the server's"},
	{"tls: bad certificate", "our certificate was revoked, or is not one of a client: ask an administrator for another one (navvy cert issue)"},
	{"tls: protocol version not supported", "it speaks no version of TLS that we speak"},
}

// refusal is what a failure says of a server that refuses our certificate; nil if nothing.
func refusal(message string) error {
	for _, a := range alerts {
		if strings.Contains(message, "remote error: "+a.text) {
			return fmt.Errorf("the server refuses us (%s): %s: %w", a.text, a.means, navvy.ErrDenied)
		}
	}
	return nil
}

// stranger tells whether something else than gRPC with TLS answers. A proxy that has
// no server behind it for now (502, 503, 504) is none.
func stranger(s *status.Status) bool {
	m := s.Message()
	return strings.Contains(m, "first record does not look like a TLS handshake") || strings.Contains(m, "tls: no application protocol") ||
		s.Code() != codes.Unavailable && strings.Contains(m, "unexpected HTTP status code received")
}

// explain turns the failure of the first call into an error that says whose fault it is.
func explain(ctx context.Context, err error, addr string, config *tls.Config) error {
	s, ok := status.FromError(err)
	if ok && stranger(s) {
		return fmt.Errorf("who answers there speaks no gRPC with TLS: it is not the port that navvy server --listen opens, perhaps that of --http: %w", navvy.ErrInvalid)
	}
	if !ok || s.Code() != codes.Unavailable {
		return api.FromWire(err)
	}
	if why := refusal(s.Message()); why != nil {
		return why
	}
	if strings.Contains(s.Message(), "no such host") || strings.Contains(s.Message(), "produced zero addresses") {
		return fmt.Errorf("its name is not known here, there is no such host: %w", navvy.ErrUnavailable)
	}
	if _, why, ok := strings.Cut(s.Message(), "authentication handshake failed: "); ok && !strings.Contains(why, "EOF") && !strings.Contains(why, "reset") {
		return fmt.Errorf("we do not trust the server: %s: %w", strings.Trim(why, `"`), navvy.ErrDenied)
	}
	// A server's refusal comes after our half of the handshake, when we may be
	// writing already: that then fails before the refusal is read.
	if why := probe(ctx, addr, config); why != nil {
		return why
	}
	return api.FromWire(err)
}

// probeTime bounds a probe.
const probeTime = 2 * time.Second

// probe connects, says nothing, and gives the refusal that it reads; nil if none.
func probe(ctx context.Context, addr string, config *tls.Config) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", addr)
	if err == nil {
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
		_, err = conn.Read(make([]byte, 1))
	}
	if err == nil {
		return nil
	}
	return refusal(err.Error())
}

// check sees that what the server gave is what was asked for.
func (j *Joined) check(key crypto.Signer, fingerprint string) error {
	ca, err := auth.ParseCertPEM(j.CA)
	if err != nil {
		return fmt.Errorf("join: the authority's certificate: %w", err)
	}
	if auth.Fingerprint(ca[0]) != fingerprint {
		return fmt.Errorf("join: the server gave another authority than the token names: %w", navvy.ErrDenied)
	}
	cert, err := j.Parsed()
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	if pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(cert.PublicKey) {
		return fmt.Errorf("join: the server gave a certificate for another key: %w", navvy.ErrDenied)
	}
	return nil
}

// AwaitReady waits for the first word of the other side: nil when it is there, gone if
// nobody is or they hung up, and the cause of ctx if that ends before.
func AwaitReady(ctx context.Context, conn *grpc.ClientConn, gone error) error {
	conn.Connect()
	for {
		state := conn.GetState()
		switch state {
		case connectivity.Ready:
			return nil
		case connectivity.TransientFailure, connectivity.Shutdown:
			return gone
		case connectivity.Idle, connectivity.Connecting:
		}
		if !conn.WaitForStateChange(ctx, state) {
			return context.Cause(ctx)
		}
	}
}
