package server

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/server/auth"
)

// What is registered about identities and queues, as JSON. Each value says its version; one
// that this build does not know is refused.

const recordVersion = 1

// issued is a certificate that was issued, registered by its serial number.
type issued struct {
	Version int       `json:"version"`
	Name    string    `json:"name"`
	Role    string    `json:"role"` // the certificate's organizational unit
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"`
	By      string    `json:"by"`
	Via     string    `json:"via"`
	Renews  string    `json:"renews,omitempty"` // a serial number
}

// How a certificate came to be.
const (
	viaIssue  = "issue"
	viaJoin   = "join"
	viaRenew  = "renew"
	viaServer = "server" // made by the server for itself and its first people
)

// revoked is a certificate that is refused, registered by its serial number.
type revoked struct {
	Version int       `json:"version"`
	At      time.Time `json:"at"`
	By      string    `json:"by"`
	Why     string    `json:"why"`
	Expires time.Time `json:"expires,omitzero"` // of the certificate, if that is known
}

// token is a token that can be used, registered by the hash of its secret.
type token struct {
	Version int       `json:"version"`
	By      string    `json:"by"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	Uses    int32     `json:"uses"` // left
}

// apiToken is a token for the API, registered by the hash of its secret.
type apiToken struct {
	Version int       `json:"version"`
	Owner   string    `json:"owner"` // who has made it, and whom it stands for
	Role    string    `json:"role"`
	Serial  string    `json:"serial,omitempty"` // of the certificate with which it was made
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
}

// record is what a value of the registry says.
type record interface {
	issued | revoked | token | apiToken | rostered | queueRecord | functionRecord | knownFile | knownName | engine.Copied
}

// newest is the version in which a record is written; older ones are read.
func newest[R record]() int {
	if _, ok := any((*R)(nil)).(*queueRecord); ok {
		return queueVersion
	}
	return recordVersion
}

func encodeRecord[R record](r *R) ([]byte, error) { return json.Marshal(r) }

// decodeRecord reads a value; its error wraps navvy.ErrCorrupt.
func decodeRecord[R record](e *engine.Entry) (*R, error) {
	corrupt := func(err error) error {
		return fmt.Errorf("registered %s %q: %w: %w", e.Kind, e.Name, err, navvy.ErrCorrupt)
	}
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(e.Value, &head); err != nil {
		return nil, corrupt(err)
	}
	if n := newest[R](); head.Version < 1 || head.Version > n {
		return nil, corrupt(fmt.Errorf("version %d, and this navvy reads up to %d; use the newer navvy that wrote it", head.Version, n))
	}
	r := new(R)
	d := json.NewDecoder(bytes.NewReader(e.Value))
	d.DisallowUnknownFields()
	if err := d.Decode(r); err != nil {
		return nil, corrupt(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, corrupt(errors.New("there is more behind it"))
	}
	return r, nil
}

// registryPage is how many entries are read at once.
const registryPage = 500

// each calls fn for the entries of a kind that come after a name, in order, until
// it returns an error, engine.ErrStop to end it without one.
func each[R record](ctx context.Context, reg engine.Registry, kind engine.Kind, after string, fn func(name string, r *R) error) error {
	for {
		list, next, err := reg.List(ctx, kind, "", after, registryPage)
		if err != nil {
			return err
		}
		for i := range list {
			r, err := decodeRecord[R](&list[i])
			if err == nil {
				err = fn(list[i].Name, r)
			}
			if errors.Is(err, engine.ErrStop) {
				return nil
			} else if err != nil {
				return err
			}
		}
		if next == "" {
			return nil
		}
		after = next
	}
}

// newIssued is the change that registers a certificate.
func newIssued(cert *x509.Certificate, now time.Time, by, via, renews string) (engine.Change, error) {
	role := ""
	if units := cert.Subject.OrganizationalUnit; len(units) == 1 {
		role = units[0]
	}
	value, err := encodeRecord(&issued{
		Version: recordVersion, Name: cert.Subject.CommonName, Role: role,
		Issued: now.UTC(), Expires: cert.NotAfter.UTC(), By: by, Via: via, Renews: renews,
	})
	return engine.Change{Kind: engine.KindCertificate, Name: auth.Serial(cert.SerialNumber), Value: value, IfAbsent: true}, err
}

// RecordCertificate registers a certificate that was made without a call: of the
// server itself, and of its first people. It is durable when it returns. A
// certificate that is registered already stays as it is.
func (s *Server) RecordCertificate(ctx context.Context, cert *x509.Certificate) error {
	defer s.standing.changed()
	change, err := newIssued(cert, s.opts.Clock(), "", viaServer, "")
	if err == nil {
		err = s.eng.Registry().Apply(ctx, change)
	}
	if errors.Is(err, navvy.ErrExists) {
		return nil
	}
	return err
}

// LoadRevocations tells the gate which certificates were revoked. It must be called
// once, before anybody is served on a port.
func (s *Server) LoadRevocations(ctx context.Context) error {
	return each(ctx, s.eng.Registry(), engine.KindRevocation, "", func(serial string, r *revoked) error {
		if r.Expires.IsZero() || s.opts.Clock().Before(r.Expires) {
			s.opts.Gate.Revoke(serial)
		}
		return nil
	})
}
