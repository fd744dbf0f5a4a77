package link_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/ssh/link"
	"github.com/navvy-run/navvy/cluster/ssh/sshdtest"
)

// A host is trusted by its certificate, too: that of an authority that is known for it, not of
// another one, not with what was revoked, nor after its time, nor without one. What is said is
// that it is not known, as with ssh, and not that its key has changed.
func TestHostCertificates(t *testing.T) {
	t.Parallel()
	host, h, o := open(t)
	dir := t.TempDir()
	ours, theirs := sshdtest.NewAuthority(t, dir, "ours"), sshdtest.NewAuthority(t, dir, "theirs")
	known := filepath.Join(dir, "known_hosts")
	own := host.KnownLine() + "\n"
	name, _, _ := strings.Cut(own, " ")
	of := func(a *sshdtest.Authority) string { return "@cert-authority " + name + " " + a.Public + "\n" }
	stranger := name + " " + theirs.Public + "\n" // a key that it never shows
	for _, test := range []struct {
		name    string
		certify func()
		lines   string
		want    string // empty if it is trusted
		changed bool
	}{
		{"no certificate", nil, of(ours), "not known", false},
		{"no certificate, and its own key is known", nil, of(ours) + own, "", false},
		{"no certificate, and another key is known", nil, of(ours) + stranger, "HAS CHANGED", true},
		{"of the authority", func() { host.Certify(t, ours, "127.0.0.1", "+1h") }, of(ours), "", false},
		{"of one of two", nil, of(theirs) + of(ours), "", false},
		{"of the authority, and another key is known", nil, stranger + of(ours), "", false},
		{"of another one", nil, of(theirs), "not known", false},
		{"of another one, and its own key is known", nil, of(theirs) + own, "", false},
		{"of another one, and another key is known", nil, of(theirs) + stranger, "HAS CHANGED", true},
		{"of one that was revoked", nil, of(ours) + "@revoked * " + ours.Public + "\n", "WAS REVOKED in " + known + ":2", true},
		{"its key was revoked", nil, of(ours) + "@revoked " + own, "WAS REVOKED in " + known + ":2", true},
		{"of another name", func() { host.Certify(t, ours, "elsewhere.example", "+1h") }, of(ours), "is not good", false},
		{"its time is over", func() { host.Certify(t, ours, "127.0.0.1", "20200101:20200102") }, of(ours), "has expired", false},
	} {
		if test.certify != nil {
			host.Stop(t)
			test.certify()
			host.Start(t)
		}
		if err := os.WriteFile(known, []byte(test.lines), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := link.Dial(t.Context(), h, &link.Options{KnownHosts: []string{known}, Identity: o.Identity})
		if test.want == "" {
			if err != nil {
				t.Errorf("%s: %v", test.name, err)
			} else if err := c.Close(); err != nil {
				t.Error(err)
			}
			continue
		}
		wrong, is := errors.AsType[*link.KeyError](err)
		if !is || wrong.Changed != test.changed || !strings.Contains(err.Error(), test.want) || !errors.Is(err, navvy.ErrDenied) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}
