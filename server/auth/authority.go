package auth

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base32"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
)

// How long certificates are good if nothing else is asked for.
const (
	DefaultLifetime       = 365 * 24 * time.Hour // of people and servers
	DefaultWorkerLifetime = 90 * 24 * time.Hour
	authorityLifetime     = 3650 * 24 * time.Hour
)

// Lifetime is how long a role's certificate is good if nothing else is asked for.
func Lifetime(r Role) time.Duration {
	if r == RoleWorker {
		return DefaultWorkerLifetime
	}
	return DefaultLifetime
}

// backdate is how much a certificate is good before it was made: so much may the
// clock of whoever checks it be behind.
const backdate = 2 * time.Hour

// lifetime is for how long a certificate was made to be good.
func lifetime(cert *x509.Certificate) time.Duration {
	all := cert.NotAfter.Sub(cert.NotBefore)
	if all <= backdate {
		return all // somebody else's, or of an earlier navvy
	}
	return all - backdate
}

// Authority is a certificate authority of our own. It is not changed once it is
// open, and its methods may be called at once.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	now  func() time.Time
}

// AuthorityOptions are the settings of an Authority.
type AuthorityOptions struct {
	// KeyType is that of the key that is made for a new one. Defaults to Ed25519.
	KeyType KeyType
	// Clock tells the time. Defaults to time.Now.
	Clock func() time.Time
}

// Names of the authority's files.
const (
	caCertName = "ca.crt"
	caKeyName  = "ca.key"
)

// OpenAuthority opens the authority in a directory, and makes one if there is
// none: ca.crt and ca.key, both 0600. The key is written first, so that a crash
// half-way leaves a key without a certificate, for which the next call makes one.
// A certificate whose key is gone or another's is an error that wraps
// navvy.ErrInvalid and says what to do; a key that others may read is navvy.ErrDenied.
func OpenAuthority(dir string, o *AuthorityOptions) (a *Authority, made bool, err error) {
	var opts AuthorityOptions
	if o != nil {
		opts = *o
	}
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	a = &Authority{now: opts.Clock}
	if err := makeDir(dir); err != nil {
		return nil, false, fmt.Errorf("certificate authority in %s: %w", dir, err)
	}
	certFile := filepath.Join(dir, caCertName)
	certs, err := readCerts(certFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, fmt.Errorf("certificate authority in %s: %w", dir, err)
	}
	if a.key, err = a.openKey(dir, len(certs) > 0, opts.KeyType); err != nil {
		return nil, false, fmt.Errorf("certificate authority in %s: %w", dir, err)
	}
	if len(certs) > 0 {
		a.cert = certs[0]
		return a, false, a.check(dir)
	}
	if a.cert, err = a.selfSign(); err == nil {
		err = WriteFile(certFile, CertPEM(a.cert))
	}
	if err != nil {
		return nil, false, fmt.Errorf("certificate authority in %s: %w", dir, err)
	}
	return a, true, nil
}

func readCerts(path string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	certs, err := ParseCertPEM(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return certs, nil
}

// openKey reads the key, or makes it if there is no certificate that needs the one that is gone.
func (a *Authority) openKey(dir string, needed bool, t KeyType) (crypto.Signer, error) {
	path := filepath.Join(dir, caKeyName)
	key, err := ReadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if needed {
		return nil, fmt.Errorf("%s is missing: put it back, or move %s away to begin with a new authority, which knows none of the certificates of this one: %w",
			caKeyName, caCertName, navvy.ErrInvalid)
	}
	if key, err = NewKey(t); err != nil {
		return nil, err
	}
	return key, writeKey(path, key)
}

// check refuses files that do not belong together.
func (a *Authority) check(dir string) error {
	switch {
	case !a.cert.IsCA:
		return fmt.Errorf("%s is no certificate of an authority: %w", filepath.Join(dir, caCertName), navvy.ErrInvalid)
	case !samePublic(a.key.Public(), a.cert.PublicKey):
		return fmt.Errorf("%s and %s do not belong together: put back the one that was changed: %w",
			filepath.Join(dir, caCertName), caKeyName, navvy.ErrInvalid)
	case a.now().After(a.cert.NotAfter):
		return fmt.Errorf("the certificate authority in %s has expired on %s: move the directory away to begin with a new one: %w",
			dir, a.cert.NotAfter.Format(time.DateOnly), navvy.ErrInvalid)
	}
	return nil
}

func samePublic(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

func (a *Authority) selfSign() (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	now := a.now()
	template := &x509.Certificate{
		SerialNumber: serial,
		// A name of its own, so that nobody takes another authority for this one.
		Subject:   pkix.Name{Organization: []string{"navvy"}, CommonName: "navvy CA " + strings.ToLower(rand.Text()[:8])},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(authorityLifetime),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true,
		IsCA: true, MaxPathLenZero: true,
	}
	return sign(template, template, a.key.Public(), a.key)
}

// newSerial draws 127 random bits, never 0.
func newSerial() (*big.Int, error) {
	var raw [16]byte
	rand.Read(raw[:]) // never fails, see crypto/rand
	raw[0] = raw[0]&0x7f | 0x40
	return new(big.Int).SetBytes(raw[:]), nil
}

func sign(template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// Ends is when the authority's own certificate ends, and with it all that it has issued.
func (a *Authority) Ends() time.Time { return a.cert.NotAfter }

// Subject is whom a certificate is for.
type Subject struct {
	Name string
	Role Role // of a client
	// Server says that it is a server's certificate, and Hosts how clients reach
	// it: DNS names and IP addresses.
	Server bool
	Hosts  []string
}

// Issue makes a certificate for a public key, good for ttl but not longer than the
// authority's own; 0 stands for Lifetime of the role. Whoever calls records it
// before handing it out. The error wraps navvy.ErrInvalid for what cannot be issued.
func (a *Authority) Issue(pub crypto.PublicKey, s Subject, ttl time.Duration) (*x509.Certificate, error) {
	if err := checkKey(pub); err != nil {
		return nil, err
	}
	template, err := s.template()
	if err != nil {
		return nil, err
	}
	if ttl == 0 {
		ttl = Lifetime(s.Role)
	}
	if ttl < 0 {
		return nil, fmt.Errorf("certificate of %s: a lifetime of %v: %w", s.Name, ttl, navvy.ErrInvalid)
	}
	if template.SerialNumber, err = newSerial(); err != nil {
		return nil, err
	}
	now := a.now()
	template.NotBefore, template.NotAfter = now.Add(-backdate), now.Add(ttl)
	if template.NotAfter.After(a.cert.NotAfter) {
		template.NotAfter = a.cert.NotAfter
	}
	return sign(template, a.cert, pub, a.key)
}

// Renew makes another certificate for the holder of one that this authority has
// issued to a client, for the same name and role and as long as that one was good
// when it was new. ErrInvalid for any other certificate.
func (a *Authority) Renew(pub crypto.PublicKey, old *x509.Certificate) (*x509.Certificate, error) {
	if !a.issued(old) {
		return nil, fmt.Errorf("renew: the certificate %s was issued by another authority: %w", Serial(old.SerialNumber), navvy.ErrInvalid)
	}
	id, err := Of(old)
	if err != nil {
		return nil, err
	}
	return a.Issue(pub, Subject{Name: id.Name, Role: id.Role}, lifetime(old))
}

// template is the part of a certificate that follows from whom it is for.
func (s *Subject) template() (*x509.Certificate, error) {
	if err := ValidateName(s.Name); err != nil {
		return nil, err
	}
	t := &x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true}
	role := s.Role
	if s.Server {
		if s.Role != RoleNobody || len(s.Hosts) == 0 {
			return nil, fmt.Errorf("certificate of server %s: want its hosts and no role of a client: %w", s.Name, navvy.ErrInvalid)
		}
		role = ServerRole
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		hosts := slices.Sorted(slices.Values(s.Hosts)) // in whatever order they were found
		for _, h := range slices.Compact(hosts) {
			if ip := net.ParseIP(h); ip != nil {
				t.IPAddresses = append(t.IPAddresses, ip)
			} else {
				t.DNSNames = append(t.DNSNames, h)
			}
		}
	} else {
		if _, err := ParseRole(string(s.Role)); err != nil {
			return nil, fmt.Errorf("certificate of %s: %w", s.Name, err)
		}
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	t.Subject = pkix.Name{CommonName: s.Name, OrganizationalUnit: []string{string(role)}}
	return t, nil
}

// Pool holds the authority's certificate alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// CertPEM is the authority's certificate in PEM, for everybody to see.
func (a *Authority) CertPEM() []byte { return CertPEM(a.cert) }

// Certificate is the authority's own.
func (a *Authority) Certificate() *x509.Certificate { return a.cert }

// Fingerprint is that of the authority's certificate.
func (a *Authority) Fingerprint() string { return Fingerprint(a.cert) }

// encoding is how fingerprints and secrets are written: base 32 of RFC 4648 in
// lower case, without padding.
var encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Fingerprint is the SHA-256 of a certificate in 52 characters of base 32, lower case.
func Fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return encoding.EncodeToString(sum[:])
}

// issued tells whether this authority has signed a certificate.
func (a *Authority) issued(cert *x509.Certificate) bool {
	return bytes.Equal(cert.RawIssuer, a.cert.RawSubject) && cert.CheckSignatureFrom(a.cert) == nil
}
