package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"

	"github.com/navvy-run/navvy"
)

// KeyType is a kind of key.
type KeyType string

// The kinds of keys. The empty one means Ed25519.
const (
	Ed25519 KeyType = "ed25519"
	P256    KeyType = "p256" // for clients that cannot load Ed25519
)

// ParseKeyType reads a kind of key. The error wraps navvy.ErrInvalid.
func ParseKeyType(s string) (KeyType, error) {
	switch t := KeyType(s); t {
	case "":
		return Ed25519, nil
	case Ed25519, P256:
		return t, nil
	default:
		return "", fmt.Errorf("key type %q: want ed25519 or p256: %w", s, navvy.ErrInvalid)
	}
}

// NewKey makes a private key.
func NewKey(t KeyType) (crypto.Signer, error) {
	t, err := ParseKeyType(string(t))
	if err != nil {
		return nil, err
	}
	if t == P256 {
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return key, err
}

// Types of PEM blocks.
const (
	pemCert    = "CERTIFICATE"
	pemKey     = "PRIVATE KEY"
	pemRequest = "CERTIFICATE REQUEST"
)

// KeyPEM writes a private key as PKCS #8 in PEM.
func KeyPEM(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}), nil
}

// ParseKeyPEM reads what KeyPEM wrote. The error wraps navvy.ErrInvalid and holds nothing of the key.
func ParseKeyPEM(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != pemKey {
		return nil, fmt.Errorf("want a private key in PEM (PKCS #8, %q): %w", "BEGIN "+pemKey, navvy.ErrInvalid)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("private key: %w: %w", err, navvy.ErrInvalid)
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a private key of type %T cannot sign: %w", parsed, navvy.ErrInvalid)
	}
	return key, nil
}

// CertPEM writes certificates in PEM, one after the other.
func CertPEM(certs ...*x509.Certificate) []byte {
	var text []byte
	for _, c := range certs {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: pemCert, Bytes: c.Raw})...)
	}
	return text
}

// ParseCertPEM reads one or more certificates in PEM. The error wraps navvy.ErrInvalid.
func ParseCertPEM(text []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != pemCert {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w: %w", len(certs)+1, err, navvy.ErrInvalid)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("want a certificate in PEM (%q): %w", "BEGIN "+pemCert, navvy.ErrInvalid)
	}
	return certs, nil
}

// NewRequest makes a certificate request for a key, in DER: all that travels of
// it. The name is a wish.
func NewRequest(key crypto.Signer, name string) ([]byte, error) {
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	return der, nil
}

// maxRequest bounds a certificate request, in bytes.
const maxRequest = 16 << 10

// ParseRequest reads a certificate request, in DER or PEM, and returns its public
// key, whose private half has signed it. What else it asks for is not looked at.
// The error wraps navvy.ErrInvalid.
func ParseRequest(request []byte) (crypto.PublicKey, error) {
	if len(request) > maxRequest {
		return nil, fmt.Errorf("certificate request: %d bytes, more than %d: %w", len(request), maxRequest, navvy.ErrInvalid)
	}
	if block, _ := pem.Decode(request); block != nil && block.Type == pemRequest {
		request = block.Bytes
	}
	parsed, err := x509.ParseCertificateRequest(request)
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w: %w", err, navvy.ErrInvalid)
	}
	if err := parsed.CheckSignature(); err != nil {
		return nil, fmt.Errorf("certificate request: its key has not signed it: %w: %w", err, navvy.ErrInvalid)
	}
	return parsed.PublicKey, checkKey(parsed.PublicKey)
}

// checkKey refuses what certificates are not issued for.
func checkKey(pub crypto.PublicKey) error {
	switch k := pub.(type) {
	case ed25519.PublicKey:
		return nil
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return nil
		}
		return fmt.Errorf("a key on the curve %s: want ed25519 or p256: %w", k.Curve.Params().Name, navvy.ErrInvalid)
	default:
		return fmt.Errorf("a key of type %T: want ed25519 or p256: %w", pub, navvy.ErrInvalid)
	}
}
