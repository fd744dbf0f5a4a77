package server_test

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/server/auth"
)

// signed is a certificate that the world's authority signs, whatever it says.
func (w *world) signed(t *testing.T, subject pkix.Name) *tls.Certificate {
	t.Helper()
	caKey, err := auth.ReadKey(filepath.Join(w.dir, "ca", "ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := auth.NewKey(auth.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(77), Subject: subject, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, w.ca.Certificate(), key.Public(), crypto.Signer(caKey))
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Whoever has no good certificate is refused, and is told what is wrong.
func TestRefusedConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	other, _, err := auth.OpenAuthority(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ann := auth.Subject{Name: "ann", Role: auth.RoleUser}
	gone := w.cert(t, w.ca, ann, 0)
	w.gate.Revoke(serial(gone))
	for _, c := range []struct {
		what string
		cert *tls.Certificate
		says string
	}{
		{"no certificate", nil, "asks for a client's certificate"},
		{"another authority's", w.cert(t, other, ann, 0), "another authority"},
		{"expired", w.cert(t, w.authority(t, -2*time.Hour, ""), ann, time.Hour), "has expired"},
		{"not good yet", w.cert(t, w.authority(t, 4*time.Hour, ""), ann, time.Hour), "not good yet"},
		{"revoked", gone, "was revoked"},
		{"a server's", w.cert(t, w.ca, auth.Subject{Name: "server", Server: true, Hosts: []string{"localhost"}}, 0), "not one of a client"},
		{"no role", w.signed(t, pkix.Name{CommonName: "ann"}), "0 organizational units"},
		{"two roles", w.signed(t, pkix.Name{CommonName: "ann", OrganizationalUnit: []string{"user", "admin"}}), "2 organizational units"},
		{"an unknown role", w.signed(t, pkix.Name{CommonName: "ann", OrganizationalUnit: []string{"root"}}), `role "root"`},
		{"the role of a server", w.signed(t, pkix.Name{CommonName: "ann", OrganizationalUnit: []string{"server"}}), `role "server"`},
		{"no name", w.signed(t, pkix.Name{OrganizationalUnit: []string{"user"}}), "names nobody"},
		{"an odd name", w.signed(t, pkix.Name{CommonName: "ann\x00bob", OrganizationalUnit: []string{"user"}}), "names nobody"},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			_, err := w.dial(t, c.cert)
			if !errors.Is(err, navvy.ErrDenied) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want ErrDenied that says %q", err, c.says)
			}
		})
	}
}

func TestTLS12IsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.P256, false)
	config := auth.ClientTLS(auth.Fixed(w.cert(t, w.ca, auth.Subject{Name: "ann", Role: auth.RoleUser}, 0)), w.ca.Pool())
	for version, want := range map[uint16]bool{tls.VersionTLS12: false, tls.VersionTLS13: true} {
		config := config.Clone()
		config.MinVersion, config.MaxVersion = tls.VersionTLS12, version
		conn, err := tls.Dial("tcp", w.addr, config)
		if err == nil {
			_ = conn.Close()
		}
		if (err == nil) != want {
			t.Errorf("TLS version %x: %v", version, err)
		}
	}
}

// Who expects another server does not talk to this one.
func TestServerOfAnotherAuthority(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	other, _, err := auth.OpenAuthority(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	cert := auth.Fixed(w.cert(t, w.ca, auth.Subject{Name: "ann", Role: auth.RoleUser}, 0))
	if _, _, err := client.Dial(t.Context(), w.addr, auth.ClientTLS(cert, other.Pool())); !errors.Is(err, navvy.ErrDenied) || !strings.Contains(err.Error(), "do not trust the server") {
		t.Errorf("got %v", err)
	}
	// Who pretends to be a server with a client's certificate is not believed.
	fake := w.fake(t, w.cert(t, w.ca, auth.Subject{Name: "ann", Role: auth.RoleAdmin}, 0))
	if _, _, err := client.Dial(t.Context(), fake, auth.ClientTLS(cert, w.ca.Pool())); !errors.Is(err, navvy.ErrDenied) || !strings.Contains(err.Error(), "do not trust the server") {
		t.Errorf("a client's certificate as a server's: %v", err)
	}
	if _, _, err := client.Dial(t.Context(), "127.0.0.1:1", auth.ClientTLS(cert, w.ca.Pool())); !errors.Is(err, navvy.ErrUnavailable) {
		t.Errorf("nobody listens: %v", err)
	}
}

// Both kinds of keys work at both ends, with an authority of either kind.
func TestKeyTypes(t *testing.T) {
	t.Parallel()
	for _, kt := range []auth.KeyType{auth.Ed25519, auth.P256} {
		w := newWorld(t, kt, false)
		admin := w.as(t, "root", auth.RoleAdmin)
		for _, mine := range []auth.KeyType{auth.Ed25519, auth.P256} {
			key, err := auth.NewKey(mine)
			if err != nil {
				t.Fatal(err)
			}
			issued, err := admin.Issue(t.Context(), key, "ann", auth.RoleViewer, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			cert, err := issued.Parsed()
			if err != nil {
				t.Fatal(err)
			}
			conn, me, err := client.Dial(t.Context(), w.addr, auth.ClientTLS(auth.Fixed(&tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}), w.ca.Pool()))
			if err != nil {
				t.Fatalf("%s at an authority of %s: %v", mine, kt, err)
			}
			want := auth.Identity{Name: "ann", Role: auth.RoleViewer, Serial: auth.Serial(cert.SerialNumber)}
			if me.Identity != want || !me.Expires.Equal(cert.NotAfter) {
				t.Errorf("it is %+v, want %+v", me, want)
			}
			_ = conn.Close()
		}
	}
}

// Who has no certificate does not stay: a connection that joins nothing ends.
func TestNobodyStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	w.grpc.Stop()
	w.joinTime = 10 * time.Millisecond
	w.serve(t, auth.Ed25519, false)
	conn, err := tls.Dial("tcp", w.addr, w.joinTLS())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = conn.Read(make([]byte, 1<<10))
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a connection without a certificate is still there after 5 seconds")
	}
}

func (w *world) joinTLS() *tls.Config { return auth.JoinTLS(w.ca.Fingerprint()) }
