package auth

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/navvy-run/navvy"
)

// JoinProtocol is what a client names in its list of protocols (ALPN) that has no
// certificate and is about to ask for one.
const JoinProtocol = "navvy-join"

const http2 = "h2"

// errRevoked is told in the handshake, and by each call.
func errRevoked(serial string) error {
	if id, ok := strings.CutPrefix(serial, tokenKey("")); ok {
		return fmt.Errorf("the API token %s was revoked; make another one (navvy token create --api): %w", id, navvy.ErrDenied)
	}
	return fmt.Errorf("the certificate %s was revoked; ask an administrator for another one (navvy cert issue): %w", serial, navvy.ErrDenied)
}

// ServerTLS is how a server meets its clients: TLS 1.3 only, a client's
// certificate is required, verified against pool and asked for by revoked. The one
// exception is a client that names JoinProtocol, which is asked for none: its
// identity is nobody, and the table of calls lets it do nothing but join.
// cert is asked for each connection, so that a renewed certificate is used at once;
// it must come with its authority's behind it, see EnsurePair.
func ServerTLS(cert func() (*tls.Certificate, error), pool *x509.CertPool, revoked func(serial string) bool) *tls.Config {
	c := &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{http2},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert() },
		// Each connection shows its certificate: what was revoked is not resumed.
		SessionTicketsDisabled: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if serial := Serial(s.PeerCertificates[0].SerialNumber); revoked != nil && revoked(serial) {
				return errRevoked(serial)
			}
			return nil
		},
	}
	join := c.Clone()
	join.ClientAuth, join.ClientCAs, join.VerifyConnection = tls.NoClientCert, nil, nil
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.Contains(hello.SupportedProtos, JoinProtocol) {
			return join, nil
		}
		return nil, nil
	}
	return c
}

// ClientTLS is how a client meets a server of the authorities in pool: with its
// certificate, TLS 1.3 only. cert is asked for each connection, so that a renewed
// certificate is used at once.
func ClientTLS(cert func() (*tls.Certificate, error), pool *x509.CertPool) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{http2}, RootCAs: pool,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert() },
	}
}

// JoinTLS is how a client without a certificate meets a server whose authority has
// the fingerprint: it reads the authority's certificate from the handshake and
// accepts nobody whom that one does not vouch for.
func JoinTLS(fingerprint string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{http2, JoinProtocol},
		// The authority is not known before the handshake: VerifyConnection checks all that is skipped here.
		InsecureSkipVerify: true, //nolint:gosec // see above
		VerifyConnection:   func(s tls.ConnectionState) error { return pinned(s, fingerprint) },
	}
}

// pinned verifies a server's chain against the authority with the fingerprint alone.
func pinned(s tls.ConnectionState, fingerprint string) error {
	i := slices.IndexFunc(s.PeerCertificates, func(c *x509.Certificate) bool { return Fingerprint(c) == fingerprint })
	if i < 0 {
		return fmt.Errorf("the server does not belong to the authority that the token names: is this the right address, and the right token? %w", navvy.ErrDenied)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(s.PeerCertificates[i])
	for _, c := range s.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{
		DNSName: s.ServerName, Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return fmt.Errorf("the server's certificate: %w: %w", err, navvy.ErrDenied)
	}
	return nil
}

// Fixed always gives the same certificate, for ServerTLS and ClientTLS.
func Fixed(cert *tls.Certificate) func() (*tls.Certificate, error) {
	return func() (*tls.Certificate, error) {
		if cert == nil {
			return nil, errors.New("there is no certificate")
		}
		return cert, nil
	}
}
