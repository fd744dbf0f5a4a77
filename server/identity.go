package server

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/server/auth"
)

// identity implements the Identity service.
type identity struct {
	navvyv1.UnimplementedIdentityServer
	*Server
}

// Whoami implements the call of that name.
func (s *identity) Whoami(ctx context.Context, _ *navvyv1.WhoamiRequest) (*navvyv1.WhoamiResponse, error) {
	me := auth.From(ctx)
	resp := &navvyv1.WhoamiResponse{Name: me.Name, Role: string(me.Role), Serial: me.Serial, Local: me.Local, Token: me.Token}
	if cert := auth.PeerCertificate(ctx); cert != nil {
		resp.Expires = timestamppb.New(cert.NotAfter)
	} else if !me.Expires.IsZero() {
		resp.Expires = timestamppb.New(me.Expires)
	}
	return resp, nil
}

// authority is the one that issues here.
func (s *identity) authority() (*auth.Authority, error) {
	if s.opts.Authority == nil {
		return nil, fmt.Errorf("the certificates of this server are issued by an outside authority: ask whoever runs that one for a certificate (docs/security.md says what must be in it), and give it with --cert, --key and --ca: %w", navvy.ErrUnsupported)
	}
	return s.opts.Authority, nil
}

// Issue implements the call of that name.
func (s *identity) Issue(ctx context.Context, req *navvyv1.IssueRequest) (*navvyv1.IssueResponse, error) {
	ca, cert, err := s.issue(ctx, req)
	if err != nil {
		return nil, s.fail(err)
	}
	return &navvyv1.IssueResponse{Certificate: auth.CertPEM(cert), Ca: ca.CertPEM()}, nil
}

func (s *identity) issue(ctx context.Context, req *navvyv1.IssueRequest) (*auth.Authority, *x509.Certificate, error) {
	auth.Note(ctx, slog.String("certificate", req.GetName()), slog.String("certificate_role", req.GetRole()))
	ca, err := s.authority()
	if err != nil {
		return nil, nil, err
	}
	role, err := auth.ParseRole(req.GetRole())
	if err != nil {
		return nil, nil, err
	}
	pub, err := auth.ParseRequest(req.GetRequest())
	if err != nil {
		return nil, nil, err
	}
	if l := req.GetLifetime(); l != nil && (l.CheckValid() != nil || l.AsDuration() <= 0) {
		return nil, nil, fmt.Errorf("issue: a lifetime of %v: %w", l.AsDuration(), navvy.ErrInvalid)
	} else if left := ca.Ends().Sub(s.opts.Clock()); l != nil && l.AsDuration() > left {
		return nil, nil, fmt.Errorf("issue: a lifetime of %v; want more than nothing and at most %v, when the authority's own certificate ends: %w",
			l.AsDuration(), left.Truncate(time.Hour), navvy.ErrInvalid)
	}
	s.issuing.Lock()
	defer s.issuing.Unlock()
	cert, err := ca.Issue(pub, auth.Subject{Name: req.GetName(), Role: role}, req.GetLifetime().AsDuration())
	if err != nil {
		return nil, nil, err
	}
	auth.Note(ctx, slog.String("certificate_serial", auth.Serial(cert.SerialNumber)))
	return ca, cert, s.register(ctx, cert, viaIssue, "")
}

// register makes a certificate durable before it is handed out.
func (s *Server) register(ctx context.Context, cert *x509.Certificate, via, renews string) error {
	change, err := newIssued(cert, s.opts.Clock(), auth.From(ctx).Name, via, renews)
	if err != nil {
		return err
	}
	defer s.standing.changed()
	return s.eng.Registry().Apply(ctx, change)
}

// Renew implements the call of that name.
func (s *identity) Renew(ctx context.Context, req *navvyv1.RenewRequest) (*navvyv1.RenewResponse, error) {
	ca, cert, err := s.renew(ctx, req)
	if err != nil {
		return nil, s.fail(err)
	}
	return &navvyv1.RenewResponse{Certificate: auth.CertPEM(cert), Ca: ca.CertPEM()}, nil
}

func (s *identity) renew(ctx context.Context, req *navvyv1.RenewRequest) (*auth.Authority, *x509.Certificate, error) {
	ca, err := s.authority()
	if err != nil {
		return nil, nil, err
	}
	old, me := auth.PeerCertificate(ctx), auth.From(ctx)
	if old == nil {
		return nil, nil, fmt.Errorf("renew: this connection has no certificate that could be renewed; use navvy cert issue: %w", navvy.ErrInvalid)
	}
	pub, err := auth.ParseRequest(req.GetRequest())
	if err != nil {
		return nil, nil, err
	}
	s.issuing.Lock()
	defer s.issuing.Unlock()
	if s.opts.Gate.Revoked(me.Serial) { // between the gate and here; from here on a revocation finds what is registered
		return nil, nil, fmt.Errorf("renew: the certificate %s was revoked: %w", me.Serial, navvy.ErrDenied)
	}
	cert, err := ca.Renew(pub, old)
	if err != nil {
		return nil, nil, err
	}
	if err := s.register(ctx, cert, viaRenew, me.Serial); err != nil {
		return nil, nil, err
	}
	s.opts.Logger.Info("certificate renewed", "certificate", me.Name, "certificate_role", me.Role,
		"certificate_serial", auth.Serial(cert.SerialNumber), "renews", me.Serial)
	return ca, cert, nil
}

// Join implements the call of that name.
func (s *identity) Join(ctx context.Context, req *navvyv1.JoinRequest) (*navvyv1.JoinResponse, error) {
	resp, err := s.join(ctx, req)
	return resp, s.fail(err)
}

func (s *identity) join(ctx context.Context, req *navvyv1.JoinRequest) (*navvyv1.JoinResponse, error) {
	ca, err := s.authority()
	if err != nil {
		return nil, err
	}
	t, err := auth.ParseToken(req.GetToken())
	if err != nil {
		return nil, err
	}
	if t.Fingerprint != ca.Fingerprint() {
		return nil, fmt.Errorf("join: the token belongs to another authority than this server's: %w", navvy.ErrDenied)
	}
	pub, err := auth.ParseRequest(req.GetRequest())
	if err != nil {
		return nil, err
	}
	s.issuing.Lock()
	defer s.issuing.Unlock()
	use, by, err := s.useToken(ctx, t)
	if err != nil {
		return nil, err
	}
	name, err := s.workerName(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	return s.admitWorker(ctx, pub, name, by, use)
}

// admitWorker issues a worker's certificate and uses the token up, in one batch.
func (s *identity) admitWorker(ctx context.Context, pub crypto.PublicKey, name, by string, use engine.Change) (*navvyv1.JoinResponse, error) {
	ca := s.opts.Authority
	cert, err := ca.Issue(pub, auth.Subject{Name: name, Role: auth.RoleWorker}, 0)
	if err != nil {
		return nil, err
	}
	change, err := newIssued(cert, s.opts.Clock(), by, viaJoin, "")
	if err != nil {
		return nil, err
	}
	err = s.eng.Registry().Apply(ctx, use, change)
	if errors.Is(err, navvy.ErrConflict) || errors.Is(err, navvy.ErrNotFound) {
		err = errToken() // somebody else has used it meanwhile
	}
	if err != nil {
		return nil, err
	}
	s.opts.Logger.Info("worker joined", "worker", name, "serial", auth.Serial(cert.SerialNumber), "by", by)
	return &navvyv1.JoinResponse{Certificate: auth.CertPEM(cert), Ca: ca.CertPEM(), Name: name}, nil
}

// workerName makes of what a worker would like to be called a name that no
// certificate has had.
func (s *identity) workerName(ctx context.Context, wish string) (string, error) {
	if wish == "" {
		wish = "worker"
	}
	taken := map[string]struct{}{}
	err := each(ctx, s.eng.Registry(), engine.KindCertificate, "", func(_ string, r *issued) error {
		taken[r.Name] = struct{}{}
		return nil
	})
	if err != nil {
		return "", err
	}
	for {
		name := wish + "-" + string(navvy.NewJobID()[:5])
		if err := auth.ValidateName(name); err != nil {
			return "", err
		}
		if _, ok := taken[name]; !ok {
			return name, nil
		}
	}
}
