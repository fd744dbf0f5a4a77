package cli

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/navvy-run/navvy/server/auth"
)

// testAuthority is an authority of the test's own.
func testAuthority(t *testing.T) *auth.Authority {
	t.Helper()
	ca, _, err := auth.OpenAuthority(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// madeViewer is a viewer's certificate of an authority, and kept in a directory.
func madeViewer(t *testing.T, ca *auth.Authority) (v *viewer, dir string) {
	t.Helper()
	key, err := auth.NewKey(auth.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue(key.Public(), auth.Subject{Name: viewerName, Role: auth.RoleViewer}, viewerLifetime)
	if err != nil {
		t.Fatal(err)
	}
	text, err := auth.KeyPEM(key)
	if err != nil {
		t.Fatal(err)
	}
	v = &viewer{
		files:  map[string][]byte{viewerCert: auth.CertPEM(cert), viewerKey: text, caFile: ca.CertPEM()},
		serial: auth.Serial(cert.SerialNumber),
	}
	dir = filepath.Join(t.TempDir(), "viewer")
	if err := v.keep(dir); err != nil {
		t.Fatal(err)
	}
	return v, dir
}

// A viewer's certificate that was kept is good again for whoever has a token of the same
// authority, until the day on which another would be made.
func TestKeptViewer(t *testing.T) {
	t.Parallel()
	ca := testAuthority(t)
	made, dir := madeViewer(t, ca)
	v := readViewer(dir, auth.NewToken(ca.Fingerprint()).String())
	if v == nil || v.serial != made.serial {
		t.Fatalf("of what is kept there is %+v", v)
	}
	for name, text := range made.files {
		if string(v.files[name]) != string(text) {
			t.Errorf("%s is another than it was", name)
		}
	}
	if due := time.Until(v.due); due < viewerEvery-time.Hour || due > viewerEvery {
		t.Errorf("another is made in %s, want %s", due, viewerEvery)
	}
}

// What is not whole, or of another authority, is not good.
func TestKeptViewerRefused(t *testing.T) {
	t.Parallel()
	ca := testAuthority(t)
	token := auth.NewToken(ca.Fingerprint()).String()
	made, dir := madeViewer(t, ca)
	if v := readViewer(dir, auth.NewToken(testAuthority(t).Fingerprint()).String()); v != nil {
		t.Error("one of another authority is taken for good")
	}
	for _, dir := range []string{"", filepath.Join(t.TempDir(), "none")} {
		if v := readViewer(dir, token); v != nil {
			t.Errorf("in directory %q there is %+v", dir, v)
		}
	}
	for name := range made.files {
		_, broken := madeViewer(t, ca)
		if err := os.WriteFile(filepath.Join(broken, name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		if v := readViewer(broken, token); v != nil {
			t.Errorf("with half of %s it is taken for good", name)
		}
	}
}
