package auth

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
)

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := NewKey(Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestValidateName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"a": true, "ann": true, "Ann.B_c@example.org": true, "_apt": true, "7": true, "a+b-c": true, strings.Repeat("x", 64): true,
		"": false, "a b": false, "-a": false, ".": false, "a\x00": false, "ä": false, "a/b": false, "a\n": false, strings.Repeat("x", 65): false,
	} {
		if err := ValidateName(name); (err == nil) != want || err != nil && !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestParseSerial(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"ab": "ab", "AB:CD:01": "abcd01", "00ff": "ff", strings.Repeat("f", 40): strings.Repeat("f", 40),
		"": "", "0": "", "-1": "", "+1": "", "0x1": "", "1_0": "", "xyz": "", strings.Repeat("f", 41): "",
	} {
		got, err := ParseSerial(text)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v, want %q", text, got, err, want)
		}
	}
}

// FuzzOf gives the parser of identities certificates that say anything: it refuses
// them or gives a name and a role that are safe to store and to compare.
func FuzzOf(f *testing.F) {
	f.Add("ann", "user", "", int64(1))
	f.Add("ann\x00bob", "admin", "user", int64(-5))
	f.Add("", "server", "", int64(0))
	f.Fuzz(func(t *testing.T, name, unit, more string, serial int64) {
		units := []string{unit}
		if more != "" {
			units = append(units, more)
		}
		id, err := Of(&x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name, OrganizationalUnit: units}})
		if err != nil {
			if !errors.Is(err, navvy.ErrDenied) || id != (Identity{}) {
				t.Fatalf("%+v, %v", id, err)
			}
			return
		}
		if id.Name != name || string(id.Role) != unit || more != "" || id.Local || !slices.Contains(Roles(), id.Role) || strings.ContainsAny(id.Name, "\x00 \n/") {
			t.Fatalf("%q, %q, %q is %+v", name, unit, more, id)
		}
	})
}

// FuzzParseToken gives the parser anything: what it reads it writes again.
func FuzzParseToken(f *testing.F) {
	f.Add(NewToken(strings.Repeat("a", fingerprintLength)).String())
	f.Add("navvy-join..")
	f.Add("navvy-join." + strings.Repeat("a", fingerprintLength) + "." + strings.Repeat("é", secretLength/2))
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ParseToken(text)
		if err != nil {
			if !errors.Is(err, navvy.ErrInvalid) || token != (Token{}) {
				t.Fatalf("%v, %v", token, err)
			}
			return
		}
		if token.String() != strings.TrimSpace(text) {
			t.Fatalf("%q is read as %q", text, token)
		}
	})
}

// FuzzParseRequest gives foreign bytes to the parser of certificate requests.
func FuzzParseRequest(f *testing.F) {
	request, err := NewRequest(newKey(f), "ann")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(request)
	f.Add(pem.EncodeToMemory(&pem.Block{Type: pemRequest, Bytes: request}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if pub, err := ParseRequest(b); err == nil && checkKey(pub) != nil {
			t.Fatalf("a key of type %T", pub)
		} else if err != nil && !errors.Is(err, navvy.ErrInvalid) {
			t.Fatal(err)
		}
	})
}

func TestTokens(t *testing.T) {
	t.Parallel()
	a, b := NewToken(strings.Repeat("a", fingerprintLength)), NewToken(strings.Repeat("a", fingerprintLength))
	if a.Secret == b.Secret || a.Hash() == b.Hash() || strings.Contains(a.Hash(), a.Secret) {
		t.Errorf("two tokens: %v, %v", a, b)
	}
	if got, err := ParseToken(a.String()); err != nil || got != a {
		t.Errorf("read again: %v, %v", got, err)
	}
	if text := a.LogValue().String(); strings.Contains(text, a.Secret) || text != TokenID(a.Hash()) {
		t.Errorf("logged as %q", text)
	}
}

// Who is local may do what its role and a worker may, and not join.
func TestMayCall(t *testing.T) {
	t.Parallel()
	const tokens, submit, work, join = "/navvy.v1.Identity/Certificates", "/navvy.v1.Jobs/Submit", "/navvy.v1.Workers/Work", "/navvy.v1.Identity/Join"
	for _, c := range []struct {
		id   Identity
		want []string
	}{
		{Identity{Name: "ann", Role: RoleAdmin, Local: true}, []string{tokens, submit, work}},
		{Identity{Name: "ann", Role: RoleUser, Local: true}, []string{submit, work}},
		{Identity{Name: "ann", Role: RoleAdmin}, []string{tokens, submit}},
		{Identity{}, []string{join}},
		{Identity{Name: "ann"}, nil},
		{Identity{Name: "ann", Role: "root"}, nil},
	} {
		for _, method := range []string{tokens, submit, work, join, "/navvy.v1.Jobs/Unheard", ""} {
			if got := MayCall(c.id, method); got != slices.Contains(c.want, method) {
				t.Errorf("%+v, %s: %t", c.id, method, got)
			}
		}
	}
}
