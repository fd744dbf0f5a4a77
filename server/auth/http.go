package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/navvy-run/navvy"
)

// Certified tells who makes a call over HTTP with TLS, by the certificate that the
// handshake has verified. The error wraps navvy.ErrDenied, and is in the audit log.
func (g *Gate) Certified(r *http.Request) (Identity, error) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return g.stranger(r, fmt.Errorf("show a client's certificate: %w", navvy.ErrDenied))
	}
	cert := r.TLS.PeerCertificates[0]
	id, err := Of(cert)
	id, err = g.certified(r.TLS.PeerCertificates, id, err)
	if err == nil && g.Revoked(id.Serial) {
		err = errRevoked(id.Serial)
	}
	if err != nil {
		return g.stranger(r, err)
	}
	id.Expires, id.From = cert.NotAfter, r.RemoteAddr
	return id, nil
}

// bearer is the scheme of RFC 6750, section 2.1.
const bearer = "bearer"

// Bearer tells who makes a call over HTTP with an API token in its Authorization
// header. find gives the identity of a token: with its Token and Expires, and the
// Serial of the certificate that it was made with. The error wraps navvy.ErrDenied if
// the token is missing or no good, and then is in the audit log, without the token.
func (g *Gate) Bearer(r *http.Request, find func(context.Context, APIToken) (Identity, error)) (Identity, error) {
	scheme, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, bearer) {
		return g.stranger(r, fmt.Errorf("show an API token, as in Authorization: Bearer TOKEN; navvy token create --api makes one: %w", navvy.ErrDenied))
	}
	t, err := ParseAPIToken(text)
	if err != nil {
		return g.stranger(r, fmt.Errorf("%w: %w", err, navvy.ErrDenied))
	}
	id, err := find(r.Context(), t)
	if err == nil {
		err = g.stays(id)
	}
	if errors.Is(err, navvy.ErrDenied) {
		return g.stranger(r, err)
	}
	id.From = r.RemoteAddr
	return id, err
}

// stranger writes down that nobody knows who makes a call.
func (g *Gate) stranger(r *http.Request, why error) (Identity, error) {
	_ = g.refuse(r.Context(), Identity{From: r.RemoteAddr}, r.Method+" "+r.URL.Path, why)
	return Identity{}, why
}

// stays tells whether what somebody calls with was revoked: an error that says so.
func (g *Gate) stays(id Identity) error {
	for _, key := range id.keys() {
		if g.Revoked(key) {
			return errRevoked(key)
		}
	}
	return nil
}

// keys are under what a gate remembers what somebody calls with, once it was revoked.
func (id Identity) keys() []string {
	var keys []string
	if id.Serial != "" {
		keys = append(keys, id.Serial)
	}
	if id.Token != "" {
		keys = append(keys, tokenKey(id.Token))
	}
	return keys
}

// tokenKey is under what a gate remembers the API token with an id: no serial number
// looks like it.
func tokenKey(id string) string { return "token " + id }
