package auth

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
)

func openAuthority(t *testing.T, dir string) (*Authority, bool) {
	t.Helper()
	a, made, err := OpenAuthority(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a, made
}

func TestAuthorityStaysTheSame(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "ca")
	first, made := openAuthority(t, dir)
	again, madeAgain := openAuthority(t, dir)
	if !made || madeAgain || first.Fingerprint() != again.Fingerprint() || len(first.Fingerprint()) != fingerprintLength {
		t.Errorf("made %t, then %t; fingerprints %s and %s", made, madeAgain, first.Fingerprint(), again.Fingerprint())
	}
	for _, name := range []string{".", caCertName, caKeyName} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if left := time.Until(first.cert.NotAfter); left < 3649*24*time.Hour || left > 3651*24*time.Hour {
		t.Errorf("it is good for %v", left)
	}
}

// Whatever a crash has left when an authority was made, the next start goes on
// with; what somebody has taken away or changed is told.
func TestAuthorityIsRepaired(t *testing.T) {
	t.Parallel()
	remove := func(name string) func(string) error {
		return func(dir string) error { return os.Remove(filepath.Join(dir, name)) }
	}
	write := func(name, text string, mode os.FileMode) func(string) error {
		return func(dir string) error {
			path := filepath.Join(dir, name)
			return errors.Join(os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode))
		}
	}
	for what, c := range map[string]struct {
		damage func(dir string) error
		want   error
		says   string
		same   bool // the authority is the one that it was
	}{
		"nothing":                    {func(string) error { return nil }, nil, "", true},
		"killed before the end":      {remove(caCertName), nil, "", false},
		"half-written files":         {write(".ca.crt.123", "-----BEG", 0o600), nil, "", true},
		"the key is gone":            {remove(caKeyName), navvy.ErrInvalid, "ca.key is missing", false},
		"the key is cut":             {write(caKeyName, "-----BEG", 0o600), navvy.ErrInvalid, "ca.key", false},
		"the certificate is garbage": {write(caCertName, "garbage", 0o600), navvy.ErrInvalid, "ca.crt", false},
		"the key is open to others": {func(dir string) error { return os.Chmod(filepath.Join(dir, caKeyName), 0o644) },
			navvy.ErrDenied, "chmod 600", false},
		"another's key": {func(dir string) error {
			key, err := NewKey(P256)
			if err != nil {
				return err
			}
			return writeKey(filepath.Join(dir, caKeyName), key)
		}, navvy.ErrInvalid, "do not belong together", false},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "c[a]") // no pattern
			before, _ := openAuthority(t, dir)
			if err := c.damage(dir); err != nil {
				t.Fatal(err)
			}
			after, made, err := OpenAuthority(dir, nil)
			if !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v, want %v that says %q", err, c.want, c.says)
			}
			if err != nil {
				return
			}
			if same := after.Fingerprint() == before.Fingerprint(); same != c.same || made == c.same {
				t.Errorf("made %t, same %t", made, same)
			}
			if !samePublic(before.key.Public(), after.key.Public()) {
				t.Error("it has another key")
			}
			if left, err := filepath.Glob(filepath.Join(escapeGlob(dir), ".*.*")); err != nil || len(left) > 0 {
				t.Errorf("left are %v, %v", left, err)
			}
		})
	}
}

func TestAuthorityExpires(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	openAuthority(t, dir)
	later := func() time.Time { return time.Now().Add(authorityLifetime + time.Hour) }
	if _, _, err := OpenAuthority(dir, &AuthorityOptions{Clock: later}); !errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), "has expired") {
		t.Errorf("got %v", err)
	}
	soon := func() time.Time { return time.Now().Add(authorityLifetime - time.Hour) }
	a, _, err := OpenAuthority(dir, &AuthorityOptions{Clock: soon})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := a.Issue(newKey(t).Public(), Subject{Name: "ann", Role: RoleUser}, 0)
	if err != nil || !cert.NotAfter.Equal(a.cert.NotAfter) {
		t.Errorf("a certificate that outlives its authority: until %v, %v", cert.NotAfter, err)
	}
}

func TestIssueRefuses(t *testing.T) {
	t.Parallel()
	a, _ := openAuthority(t, t.TempDir())
	pub := newKey(t).Public()
	for what, s := range map[string]Subject{
		"no name":                {Role: RoleUser},
		"a zero in the name":     {Name: "ann\x00bob", Role: RoleUser},
		"a long name":            {Name: strings.Repeat("a", 65), Role: RoleUser},
		"no role":                {Name: "ann"},
		"an unknown role":        {Name: "ann", Role: "root"},
		"the role server":        {Name: "ann", Role: ServerRole},
		"a server without hosts": {Name: "ann", Server: true},
		"a server with a role":   {Name: "ann", Server: true, Hosts: []string{"a"}, Role: RoleAdmin},
	} {
		if _, err := a.Issue(pub, s, 0); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := a.Issue("no key", Subject{Name: "ann", Role: RoleUser}, 0); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("no key: %v", err)
	}
	if _, err := a.Issue(pub, Subject{Name: "ann", Role: RoleUser}, -1); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("a lifetime below zero: %v", err)
	}
	other, _ := openAuthority(t, t.TempDir())
	cert, err := other.Issue(pub, Subject{Name: "ann", Role: RoleUser}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Renew(pub, cert); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("renew another authority's: %v", err)
	}
}

// A pair of files is made, kept, renewed near its end, and made again when it is
// half there, names other hosts or belongs to another authority.
func TestEnsurePair(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	caDir, dir := filepath.Join(root, "ca"), filepath.Join(root, "tls")
	certFile, keyFile := filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")
	ahead := time.Duration(0)
	a, _, err := OpenAuthority(caDir, &AuthorityOptions{Clock: func() time.Time { return time.Now().Add(ahead) }})
	if err != nil {
		t.Fatal(err)
	}
	subject := Subject{Name: "server", Server: true, Hosts: []string{"localhost", "127.0.0.1", "::1"}}
	var recorded []string
	var gone string
	ensure := func(what string, want bool) *tls.Certificate {
		t.Helper()
		n := len(recorded)
		pair, made, err := a.EnsurePair(certFile, keyFile, subject, &PairOptions{
			Record:  func(c *x509.Certificate) error { recorded = append(recorded, Serial(c.SerialNumber)); return nil },
			Revoked: func(serial string) bool { return serial == gone },
		})
		if err != nil || made != want || (len(recorded) > n) != want {
			t.Fatalf("%s: made %t, want %t, %d recorded, %v", what, made, want, len(recorded)-n, err)
		}
		if len(pair.Certificate) != 2 {
			t.Errorf("%s: the chain has %d certificates", what, len(pair.Certificate))
		}
		loaded, err := LoadPair(certFile, keyFile)
		if err != nil || Serial(loaded.Leaf.SerialNumber) != Serial(pair.Leaf.SerialNumber) {
			t.Errorf("%s: the files have %v, %v", what, loaded, err)
		}
		return pair
	}
	first := ensure("nothing is there", true)
	ensure("again", false)
	subject.Hosts = []string{"::1", "localhost", "127.0.0.1", "localhost"}
	ensure("in another order", false)
	ahead = DefaultLifetime * 6 / 10
	ensure("two fifths are left", false)
	ahead = DefaultLifetime * 7 / 10
	second := ensure("less than a third is left", true)
	if !samePublic(first.Leaf.PublicKey, second.Leaf.PublicKey) {
		t.Error("it is renewed with another key")
	}
	subject.Hosts = append(subject.Hosts, "example.org")
	ensure("another host", true)
	for _, file := range []string{certFile, keyFile} {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		ensure(file+" is gone", true)
	}
	gone = recorded[len(recorded)-1]
	ahead += DefaultLifetime
	ensure("revoked", false)
	gone = ""
	if a, _, err = OpenAuthority(filepath.Join(root, "other"), nil); err != nil {
		t.Fatal(err)
	}
	ensure("another authority", true)
}

// A certificate that cannot be recorded is not written.
func TestPairIsRecordedFirst(t *testing.T) {
	t.Parallel()
	a, _ := openAuthority(t, t.TempDir())
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "ann.crt"), filepath.Join(dir, "ann.key")
	_, _, err := a.EnsurePair(certFile, keyFile, Subject{Name: "ann", Role: RoleUser}, &PairOptions{
		Record: func(*x509.Certificate) error { return navvy.ErrExhausted },
	})
	if !errors.Is(err, navvy.ErrExhausted) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(certFile); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the certificate: %v", err)
	}
}

func TestLoadPairRefuses(t *testing.T) {
	t.Parallel()
	a, _ := openAuthority(t, t.TempDir())
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"ann", "bob"} {
		if _, _, err := a.EnsurePair(file(name+".crt"), file(name+".key"), Subject{Name: name, Role: RoleUser}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := LoadPair(file("ann.crt"), file("bob.key")); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("another's key: %v", err)
	}
	if _, err := LoadPair(file("ann.crt"), file("none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no key: %v", err)
	}
	if err := os.Chmod(file("ann.key"), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadPair(file("ann.crt"), file("ann.key")); !errors.Is(err, navvy.ErrDenied) {
		t.Errorf("a key that others may read: %v", err)
	}
	if _, err := LoadPool(file("ann.key")); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("a key as the certificates of authorities: %v", err)
	}
	if _, err := LoadPool(file("bob.crt")); err != nil {
		t.Errorf("certificates: %v", err)
	}
}
