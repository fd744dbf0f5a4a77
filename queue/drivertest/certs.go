package drivertest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Certificates are files in PEM: of an authority, of a broker on 127.0.0.1 that it has
// issued, of a client, and of another authority.
type Certificates struct {
	CA, Server, ServerKey, Client, ClientKey, OtherCA string
}

// Certify makes certificates for a test.
func Certify(tb testing.TB) Certificates {
	tb.Helper()
	dir := tb.TempDir()
	ca, caKey, caFile := authority(tb, filepath.Join(dir, "ca.crt"))
	_, _, other := authority(tb, filepath.Join(dir, "other.crt"))
	c := Certificates{CA: caFile, OtherCA: other}
	c.Server, c.ServerKey = issue(tb, filepath.Join(dir, "server"), ca, caKey, x509.ExtKeyUsageServerAuth)
	c.Client, c.ClientKey = issue(tb, filepath.Join(dir, "client"), ca, caKey, x509.ExtKeyUsageClientAuth)
	return c
}

func template(serial int64, name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
}

func authority(tb testing.TB, file string) (*x509.Certificate, *ecdsa.PrivateKey, string) {
	tb.Helper()
	t := template(1, file)
	t.IsCA, t.BasicConstraintsValid, t.KeyUsage = true, true, x509.KeyUsageCertSign
	key := newKey(tb)
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	write(tb, file, "CERTIFICATE", der)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return cert, key, file
}

func issue(tb testing.TB, name string, ca *x509.Certificate, caKey *ecdsa.PrivateKey, use x509.ExtKeyUsage) (cert, key string) {
	tb.Helper()
	t := template(2, "navvy")
	t.KeyUsage, t.ExtKeyUsage, t.IPAddresses = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{use}, []net.IP{net.IPv4(127, 0, 0, 1)}
	own := newKey(tb)
	der, err := x509.CreateCertificate(rand.Reader, t, ca, own.Public(), caKey)
	if err != nil {
		tb.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		tb.Fatal(err)
	}
	write(tb, name+".crt", "CERTIFICATE", der)
	write(tb, name+".key", "PRIVATE KEY", text)
	return name + ".crt", name + ".key"
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func write(tb testing.TB, file, kind string, der []byte) {
	tb.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		tb.Fatal(err)
	}
}

// FreeAddr is an address on 127.0.0.1 where nobody listened a moment ago.
func FreeAddr(tb testing.TB) (addr, port string) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	if err := l.Close(); err != nil {
		tb.Fatal(err)
	}
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return l.Addr().String(), port
}
