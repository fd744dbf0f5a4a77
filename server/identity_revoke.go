package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/server/auth"
)

// Certificates implements the call of that name.
func (s *identity) Certificates(ctx context.Context, req *navvyv1.CertificatesRequest) (*navvyv1.CertificatesResponse, error) {
	resp, err := s.certificates(ctx, req)
	return resp, s.fail(err)
}

// The pages go first through the certificates that were issued here, then through
// the revocations of others. A page begins with the letter of its part.
const (
	pageIssued = "c"
	pageOthers = "r"
)

func (s *identity) certificates(ctx context.Context, req *navvyv1.CertificatesRequest) (*navvyv1.CertificatesResponse, error) {
	limit := pageLimit(req.GetLimit())
	part, after := pageIssued, ""
	if page := req.GetPage(); page != "" {
		if part, after = page[:1], page[1:]; part != pageIssued && part != pageOthers {
			return nil, fmt.Errorf("certificates: page %q is none that was given out: %w", page, navvy.ErrInvalid)
		}
	}
	resp := &navvyv1.CertificatesResponse{}
	add := func(part, serial string, c *navvyv1.Certificate) error {
		if len(resp.Certificates) == limit {
			resp.NextPage = part + after
			return engine.ErrStop
		}
		resp.Certificates = append(resp.Certificates, c)
		after = serial
		return nil
	}
	if part == pageIssued {
		err := each(ctx, s.eng.Registry(), engine.KindCertificate, after, func(serial string, r *issued) error {
			if req.GetName() != "" && r.Name != req.GetName() {
				return nil
			}
			c, err := s.certificate(ctx, serial, r)
			if err != nil {
				return err
			}
			return add(pageIssued, serial, c)
		})
		if err != nil || resp.NextPage != "" || req.GetName() != "" {
			return resp, err
		}
		after = ""
	}
	return resp, each(ctx, s.eng.Registry(), engine.KindRevocation, after, func(serial string, r *revoked) error {
		if _, err := s.eng.Registry().Get(ctx, engine.KindCertificate, serial); !errors.Is(err, navvy.ErrNotFound) {
			return err
		}
		c := &navvyv1.Certificate{Serial: serial}
		withRevocation(c, r)
		return add(pageOthers, serial, c)
	})
}

// certificate shows one that was issued here, with its revocation if it has one.
func (s *identity) certificate(ctx context.Context, serial string, r *issued) (*navvyv1.Certificate, error) {
	c := &navvyv1.Certificate{
		Serial: serial, Name: r.Name, Role: r.Role, By: r.By, Via: r.Via, Renews: r.Renews,
		Issued: timestamppb.New(r.Issued), Expires: timestamppb.New(r.Expires),
	}
	entry, err := s.eng.Registry().Get(ctx, engine.KindRevocation, serial)
	if errors.Is(err, navvy.ErrNotFound) {
		return c, nil
	} else if err != nil {
		return nil, err
	}
	revocation, err := decodeRecord[revoked](&entry)
	if err != nil {
		return nil, err
	}
	withRevocation(c, revocation)
	return c, nil
}

func withRevocation(c *navvyv1.Certificate, r *revoked) {
	c.Revoked, c.RevokedBy, c.Why = timestamppb.New(r.At), r.By, r.Why
}

// Revoke implements the call of that name.
func (s *identity) Revoke(ctx context.Context, req *navvyv1.RevokeRequest) (*navvyv1.RevokeResponse, error) {
	resp, err := s.revoke(ctx, req)
	return resp, s.fail(err)
}

func (s *identity) revoke(ctx context.Context, req *navvyv1.RevokeRequest) (*navvyv1.RevokeResponse, error) {
	if name := req.GetName(); name != "" {
		auth.Note(ctx, slog.String("certificate", name))
	}
	m, err := toMeant(req)
	if err != nil {
		return nil, err
	}
	return s.revokeMeant(ctx, m, api.Text(req.GetWhy()))
}

// revokeWorker revokes the certificates with which a worker of this name could come
// back. Where an outside authority has issued them there are none on record.
func (s *identity) revokeWorker(ctx context.Context, name string) error {
	_, err := s.revokeMeant(ctx, meant{name: name, role: auth.RoleWorker}, "the worker was removed")
	if errors.Is(err, navvy.ErrNotFound) {
		return nil
	}
	return err
}

// revokeMeant revokes all that are meant, in one batch.
func (s *identity) revokeMeant(ctx context.Context, m meant, why string) (*navvyv1.RevokeResponse, error) {
	s.issuing.Lock() // what is issued now is registered when we look
	defer s.issuing.Unlock()
	found, err := s.toRevoke(ctx, m)
	if err != nil {
		return nil, err
	}
	var serials []string
	for _, c := range found {
		serials = append(serials, c.GetSerial())
	}
	auth.Note(ctx, slog.String("certificate_serial", strings.Join(serials, ",")))
	now, resp := s.opts.Clock().UTC(), &navvyv1.RevokeResponse{}
	var changes []engine.Change
	for _, c := range found {
		resp.Certificates = append(resp.Certificates, c)
		if c.GetRevoked() != nil {
			continue
		}
		r := &revoked{Version: recordVersion, At: now, By: auth.From(ctx).Name, Why: why}
		if c.GetExpires() != nil {
			r.Expires = c.GetExpires().AsTime()
		}
		value, err := encodeRecord(r)
		if err != nil {
			return nil, err
		}
		changes = append(changes, engine.Change{Kind: engine.KindRevocation, Name: c.GetSerial(), Value: value})
		withRevocation(c, r)
	}
	if len(changes) > 0 {
		defer s.standing.changed()
		if err := s.eng.Registry().Apply(ctx, changes...); err != nil {
			return nil, err
		}
	}
	for _, c := range found {
		s.opts.Gate.Revoke(c.GetSerial())
	}
	return resp, nil
}

// meant says which certificates are to be revoked: by name, maybe those of one role
// alone, or by serial number, with those that renew it.
type meant struct {
	name, serial string
	role         auth.Role // empty for all
}

func toMeant(req *navvyv1.RevokeRequest) (m meant, err error) {
	if (req.GetName() == "") == (req.GetSerial() == "") {
		return m, fmt.Errorf("revoke: give either a name or a serial number: %w", navvy.ErrInvalid)
	}
	if m.name = req.GetName(); m.name == "" {
		m.serial, err = auth.ParseSerial(req.GetSerial())
	}
	return m, err
}

// fits tells whether a certificate is meant. A server's never is.
func (m meant) fits(all map[string]*issued, serial string) bool {
	switch r := all[serial]; {
	case r.Role == auth.ServerRole:
		return false
	case m.name != "":
		return r.Name == m.name && (m.role == "" || r.Role == string(m.role))
	default:
		return descends(all, serial, m.serial)
	}
}

// toRevoke gives the certificates that are meant.
func (s *identity) toRevoke(ctx context.Context, m meant) ([]*navvyv1.Certificate, error) {
	all := map[string]*issued{}
	err := each(ctx, s.eng.Registry(), engine.KindCertificate, "", func(serial string, r *issued) error {
		all[serial] = r
		return nil
	})
	if err != nil {
		return nil, err
	}
	var found []*navvyv1.Certificate
	for serial, r := range all {
		if !m.fits(all, serial) {
			continue
		}
		c, err := s.certificate(ctx, serial, r)
		if err != nil {
			return nil, err
		}
		found = append(found, c)
	}
	sortCertificates(found)
	switch {
	case len(found) > 0:
		return found, nil // one that was forgotten is still known as what others renew
	case m.serial != "" && all[m.serial] == nil:
		return s.outside(m.serial)
	case m.name != "":
		return nil, fmt.Errorf("revoke: no client's certificate that was issued here names %q: %w", m.name, navvy.ErrNotFound)
	default:
		return nil, fmt.Errorf("revoke: %s is a server's certificate, for which no client asks: replace it instead: %w", m.serial, navvy.ErrInvalid)
	}
}

// outside is a certificate that was not issued here: unknown, unless all are.
func (s *identity) outside(serial string) ([]*navvyv1.Certificate, error) {
	if s.opts.Authority != nil {
		return nil, fmt.Errorf("revoke: no certificate with the serial number %s was issued here: %w", serial, navvy.ErrNotFound)
	}
	return []*navvyv1.Certificate{{Serial: serial}}, nil
}

// descends tells whether a certificate is another one or renews it, maybe over others.
func descends(all map[string]*issued, serial, from string) bool {
	for range len(all) + 1 { // there are no circles; if there were, this ends
		if serial == from {
			return true
		}
		r := all[serial]
		if r == nil || r.Renews == "" {
			return false
		}
		serial = r.Renews
	}
	return false
}

// sortCertificates puts the oldest first.
func sortCertificates(list []*navvyv1.Certificate) {
	slices.SortFunc(list, func(a, b *navvyv1.Certificate) int {
		return cmp.Or(a.GetIssued().AsTime().Compare(b.GetIssued().AsTime()), strings.Compare(a.GetSerial(), b.GetSerial()))
	})
}
