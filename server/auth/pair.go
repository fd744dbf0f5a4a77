package auth

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/navvy-run/navvy"
)

// ReadKey reads a private key, PKCS #8 in PEM, from a file that must be closed to
// others: navvy.ErrDenied if it is not.
func ReadKey(path string) (crypto.Signer, error) {
	text, err := readSecret(path)
	if err != nil {
		return nil, err
	}
	key, err := ParseKeyPEM(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

func writeKey(path string, key crypto.Signer) error {
	text, err := KeyPEM(key)
	if err != nil {
		return err
	}
	return WriteFile(path, text)
}

// LoadPair reads a certificate with those that lead to its authority, and its key,
// from two files. The error wraps navvy.ErrInvalid if they do not belong together
// and navvy.ErrDenied if others may read the key. The key may have any form that
// package tls reads.
func LoadPair(certFile, keyFile string) (*tls.Certificate, error) {
	cert, err := os.ReadFile(certFile)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	key, err := readSecret(keyFile)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w: %w", certFile, keyFile, err, navvy.ErrInvalid)
	}
	return &pair, nil
}

// LoadPool reads the certificates of authorities from a file.
func LoadPool(file string) (*x509.CertPool, error) {
	certs, err := readCerts(file)
	if err != nil {
		return nil, fmt.Errorf("certificates of authorities: %w", err)
	}
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool, nil
}

// NeedsRenewal tells whether less than a third of a certificate's time is left.
func NeedsRenewal(cert *x509.Certificate, now time.Time) bool {
	return cert.NotAfter.Sub(now) < lifetime(cert)/3
}

// PairOptions say how a pair of files is kept.
type PairOptions struct {
	// KeyType is that of a key that is made. Defaults to Ed25519.
	KeyType KeyType
	// Lifetime is that of a certificate that is made. Defaults to that of the role.
	Lifetime time.Duration
	// Record makes a certificate known durably, before it is written. Defaults to nothing.
	Record func(*x509.Certificate) error
	// Revoked tells whether a certificate was revoked: it then stays as it is, and
	// is not renewed. Defaults to never.
	Revoked func(serial string) bool
}

// EnsurePair keeps a certificate and its key in two files: it makes what is
// missing, was left half done, belongs to another authority, names other hosts, or
// is near its end, and tells whether it made a certificate. The key is written
// first and stays when the certificate is renewed. The certificate's file ends
// with that of the authority, which a joining worker must be shown.
func (a *Authority) EnsurePair(certFile, keyFile string, s Subject, o *PairOptions) (pair *tls.Certificate, made bool, err error) {
	var opts PairOptions
	if o != nil {
		opts = *o
	}
	for _, file := range []string{certFile, keyFile} {
		if err := makeDir(filepath.Dir(file)); err != nil {
			return nil, false, fmt.Errorf("certificate of %s: %w", s.Name, err)
		}
	}
	key, err := ReadKey(keyFile)
	if errors.Is(err, fs.ErrNotExist) {
		if key, err = NewKey(opts.KeyType); err == nil {
			err = writeKey(keyFile, key)
		}
	}
	if err != nil {
		return nil, false, fmt.Errorf("certificate of %s: %w", s.Name, err)
	}
	certs, err := readCerts(certFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, fmt.Errorf("certificate of %s: %w", s.Name, err)
	}
	if len(certs) == 0 || !a.keeps(certs[0], key, &s, &opts) {
		cert, err := a.renewPair(certFile, key, s, &opts)
		if err != nil {
			return nil, false, fmt.Errorf("certificate of %s: %w", s.Name, err)
		}
		certs, made = []*x509.Certificate{cert, a.cert}, true
	}
	return chain(key, certs), made, nil
}

// keeps tells whether a certificate does as it is.
func (a *Authority) keeps(cert *x509.Certificate, key crypto.Signer, s *Subject, o *PairOptions) bool {
	if !samePublic(key.Public(), cert.PublicKey) || !a.issued(cert) {
		return false
	}
	if o.Revoked != nil && o.Revoked(Serial(cert.SerialNumber)) {
		return true
	}
	want, err := s.template()
	if err != nil {
		return true // to issue another one is where the error is told
	}
	var ips, wantIPs []string
	for _, ip := range cert.IPAddresses {
		ips = append(ips, ip.String())
	}
	for _, ip := range want.IPAddresses {
		wantIPs = append(wantIPs, ip.String())
	}
	return cert.Subject.String() == want.Subject.String() && slices.Equal(cert.DNSNames, want.DNSNames) && slices.Equal(ips, wantIPs) &&
		!NeedsRenewal(cert, a.now())
}

func (a *Authority) renewPair(certFile string, key crypto.Signer, s Subject, o *PairOptions) (*x509.Certificate, error) {
	cert, err := a.Issue(key.Public(), s, o.Lifetime)
	if err != nil {
		return nil, err
	}
	if o.Record != nil {
		if err := o.Record(cert); err != nil {
			return nil, err
		}
	}
	return cert, WriteFile(certFile, CertPEM(cert, a.cert))
}

func chain(key crypto.Signer, certs []*x509.Certificate) *tls.Certificate {
	pair := &tls.Certificate{PrivateKey: key, Leaf: certs[0]}
	for _, c := range certs {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	return pair
}
