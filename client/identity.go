package client

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"iter"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/server/auth"
)

// Me is who the server takes the caller for.
type Me struct {
	auth.Identity
	Expires time.Time // of the certificate; zero if local
}

// Whoami tells who the server takes the caller for.
func (c *Client) Whoami(ctx context.Context) (Me, error) {
	m, err := c.identity.Whoami(ctx, &navvyv1.WhoamiRequest{})
	if err != nil {
		return Me{}, api.FromWire(err)
	}
	return toMe(m), nil
}

func toMe(m *navvyv1.WhoamiResponse) Me {
	id := auth.Identity{Name: m.GetName(), Role: auth.Role(m.GetRole()), Serial: m.GetSerial(), Local: m.GetLocal()}
	return Me{Identity: id, Expires: toTime(m.GetExpires())}
}

func toTime(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// Issued is a certificate that was just issued, and that of its authority, in PEM.
type Issued struct {
	Certificate, CA []byte
}

// Parsed gives the certificate itself.
func (i *Issued) Parsed() (*x509.Certificate, error) {
	certs, err := auth.ParseCertPEM(i.Certificate)
	if err != nil {
		return nil, err
	}
	return certs[0], nil
}

// Issue asks for a certificate with this name and role for a key, of which only
// the public half travels. A lifetime of 0 leaves it to the server. Admins only.
func (c *Client) Issue(ctx context.Context, key crypto.Signer, name string, role auth.Role, lifetime time.Duration) (Issued, error) {
	request, err := auth.NewRequest(key, name)
	if err != nil {
		return Issued{}, err
	}
	m := &navvyv1.IssueRequest{Name: api.Text(name), Role: api.Text(string(role)), Request: request}
	if lifetime != 0 {
		m.Lifetime = durationpb.New(lifetime)
	}
	resp, err := c.identity.Issue(ctx, m)
	if err != nil {
		return Issued{}, api.FromWire(err)
	}
	return Issued{Certificate: resp.GetCertificate(), CA: resp.GetCa()}, nil
}

// Renew asks for another certificate for whoever this connection belongs to, for
// the same key or a new one.
func (c *Client) Renew(ctx context.Context, key crypto.Signer) (Issued, error) {
	request, err := auth.NewRequest(key, "")
	if err != nil {
		return Issued{}, err
	}
	resp, err := c.identity.Renew(ctx, &navvyv1.RenewRequest{Request: request})
	if err != nil {
		return Issued{}, api.FromWire(err)
	}
	return Issued{Certificate: resp.GetCertificate(), CA: resp.GetCa()}, nil
}

// Certificate is one that was issued, or revoked.
type Certificate struct {
	Serial          string
	Name, Role      string // empty if an outside authority has issued it
	Issued, Expires time.Time
	By, Via         string // who asked for it: "issue", "join", "renew", "server"
	Renews          string // the serial number of the one that it renews; empty if none
	Revoked         time.Time
	RevokedBy, Why  string
}

func toCertificate(m *navvyv1.Certificate) Certificate {
	return Certificate{
		Serial: m.GetSerial(), Name: m.GetName(), Role: m.GetRole(), Issued: toTime(m.GetIssued()), Expires: toTime(m.GetExpires()),
		By: m.GetBy(), Via: m.GetVia(), Renews: m.GetRenews(),
		Revoked: toTime(m.GetRevoked()), RevokedBy: m.GetRevokedBy(), Why: m.GetWhy(),
	}
}

// Certificates gives those that were issued, as they are asked for, in no
// particular order: all, or only those that have a name. Admins only. An error is the last.
func (c *Client) Certificates(ctx context.Context, name string) iter.Seq2[Certificate, error] {
	return func(yield func(Certificate, error) bool) {
		for page := ""; ; {
			resp, err := c.identity.Certificates(ctx, &navvyv1.CertificatesRequest{Page: page, Name: api.Text(name)})
			if err != nil {
				yield(Certificate{}, api.FromWire(err))
				return
			}
			for _, m := range resp.GetCertificates() {
				if !yield(toCertificate(m), nil) {
					return
				}
			}
			if page = resp.GetNextPage(); page == "" {
				return
			}
		}
	}
}

// RevokeOptions say what to revoke: a certificate by its serial number, with those
// that renew it, or all that have a name.
type RevokeOptions struct {
	Serial, Name string
	Why          string // for people
}

// Revoke refuses certificates for ever, and gives them. Admins only.
func (c *Client) Revoke(ctx context.Context, o RevokeOptions) ([]Certificate, error) {
	resp, err := c.identity.Revoke(ctx, &navvyv1.RevokeRequest{Serial: api.Text(o.Serial), Name: api.Text(o.Name), Why: api.Text(o.Why)})
	if err != nil {
		return nil, api.FromWire(err)
	}
	var list []Certificate
	for _, m := range resp.GetCertificates() {
		list = append(list, toCertificate(m))
	}
	return list, nil
}

// Token is a token without its secret: one to join with, or one for the API.
type Token struct {
	ID               string
	Kind             string // "join" or "api"
	Role             string // that it gives
	By               string
	Created, Expires time.Time
	Uses             int // left; 0 for one for the API, which has any number
}

func toToken(m *navvyv1.Token) Token {
	return Token{ID: m.GetId(), Kind: m.GetKind(), Role: m.GetRole(), By: m.GetBy(), Created: toTime(m.GetCreated()), Expires: toTime(m.GetExpires()), Uses: int(m.GetUses())}
}

// CreateToken makes a token with which a worker can join: for an hour and once,
// where lifetime and uses are 0. text is the secret that is handed on; nobody can
// read it again. Admins only.
func (c *Client) CreateToken(ctx context.Context, lifetime time.Duration, uses int) (text string, info Token, err error) {
	m := &navvyv1.CreateTokenRequest{Uses: int32(min(uses, 1<<30))}
	if lifetime != 0 {
		m.Lifetime = durationpb.New(lifetime)
	}
	resp, err := c.identity.CreateToken(ctx, m)
	if err != nil {
		return "", Token{}, api.FromWire(err)
	}
	return resp.GetToken(), toToken(resp.GetInfo()), nil
}

// CreateAPIToken makes a token with which programs call the API over HTTP as the
// caller: for 30 days, where lifetime is 0, and never longer than the caller's
// certificate is good. text is the secret; nobody can read it again.
func (c *Client) CreateAPIToken(ctx context.Context, lifetime time.Duration) (text string, info Token, err error) {
	m := &navvyv1.CreateAPITokenRequest{}
	if lifetime != 0 {
		m.Lifetime = durationpb.New(lifetime)
	}
	resp, err := c.identity.CreateAPIToken(ctx, m)
	if err != nil {
		return "", Token{}, api.FromWire(err)
	}
	return resp.GetToken(), toToken(resp.GetInfo()), nil
}

// Tokens gives the tokens that can still be used: all to an admin, to others their
// own for the API.
func (c *Client) Tokens(ctx context.Context) ([]Token, error) {
	resp, err := c.identity.Tokens(ctx, &navvyv1.TokensRequest{})
	if err != nil {
		return nil, api.FromWire(err)
	}
	var list []Token
	for _, m := range resp.GetTokens() {
		list = append(list, toToken(m))
	}
	return list, nil
}

// RevokeToken makes a token useless, by its id or the beginning of it: any for an
// admin, their own for the API for others.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	_, err := c.identity.RevokeToken(ctx, &navvyv1.RevokeTokenRequest{Id: api.Text(id)})
	return api.FromWire(err)
}

// Joined is what a worker has after it has joined, all in PEM.
type Joined struct {
	Name string // as the server calls it
	Issued
	Key []byte // the private key, which was made here and did not travel
}

// Join exchanges a token for a worker's certificate: it makes a key, sees that the
// server at addr belongs to the authority that the token names, and only then
// shows the token. name is what the worker would like to be called. The error
// wraps navvy.ErrDenied if server or token are not good.
func Join(ctx context.Context, addr, token, name string, keyType auth.KeyType) (Joined, error) {
	t, err := auth.ParseToken(token)
	if err != nil {
		return Joined{}, err
	}
	key, err := auth.NewKey(keyType)
	if err != nil {
		return Joined{}, err
	}
	request, err := auth.NewRequest(key, name)
	if err != nil {
		return Joined{}, err
	}
	pem, err := auth.KeyPEM(key)
	if err != nil {
		return Joined{}, err
	}
	config := auth.JoinTLS(t.Fingerprint)
	conn, err := newConn(addr, config)
	if err != nil {
		return Joined{}, err
	}
	defer conn.Close()
	resp, err := navvyv1.NewIdentityClient(conn).Join(ctx, &navvyv1.JoinRequest{Token: t.String(), Request: request, Name: api.Text(name)})
	if err != nil {
		return Joined{}, fmt.Errorf("join %s: %w", addr, explain(ctx, err, addr, config))
	}
	j := Joined{Name: resp.GetName(), Issued: Issued{Certificate: resp.GetCertificate(), CA: resp.GetCa()}, Key: pem}
	return j, j.check(key, t.Fingerprint)
}
