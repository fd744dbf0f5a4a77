package server_test

import (
	"crypto/tls"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/server/auth"
)

func newToken(t *testing.T, c *client.Client, lifetime time.Duration, uses int) (string, client.Token) {
	t.Helper()
	text, info, err := c.CreateToken(t.Context(), lifetime, uses)
	if err != nil {
		t.Fatal(err)
	}
	return text, info
}

// A worker joins: with the token and a name of the server's it has a certificate
// that works, and only as a worker's.
func TestJoin(t *testing.T) {
	t.Parallel()
	for _, kt := range []auth.KeyType{auth.Ed25519, auth.P256} {
		w := newWorld(t, kt, false)
		admin := w.as(t, "root", auth.RoleAdmin)
		text, info := newToken(t, admin, 0, 0)
		if left := time.Until(info.Expires); info.Uses != 1 || info.By != "root" || left > time.Hour || left < 59*time.Minute {
			t.Errorf("the token is %+v", info)
		}
		joined, err := client.Join(t.Context(), w.addr, " "+text+"\n", "host", kt)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(joined.Name, "host-") || len(joined.Name) != len("host-12345") {
			t.Errorf("it is called %q", joined.Name)
		}
		if c := certificates(t, admin, joined.Name); len(c) != 1 || c[0].Via != "join" || c[0].By != "root" {
			t.Errorf("registered is %+v", c)
		}
		w.testJoined(t, &joined)
	}
}

// testJoined connects with what a worker was given.
func (w *world) testJoined(t *testing.T, joined *client.Joined) {
	t.Helper()
	ca, err := auth.ParseCertPEM(joined.CA)
	if err != nil || auth.Fingerprint(ca[0]) != w.ca.Fingerprint() {
		t.Errorf("the authority is %v, %v", ca, err)
	}
	cert, err := tls.X509KeyPair(joined.Certificate, joined.Key)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := w.dial(t, &cert)
	if err != nil {
		t.Fatal(err)
	}
	me, err := client.New(conn).Whoami(t.Context())
	if left := time.Until(me.Expires); err != nil || left < 89*24*time.Hour || left > 90*24*time.Hour {
		t.Errorf("it is good for %v, %v", left, err)
	}
	if me.Name != joined.Name || me.Role != auth.RoleWorker || me.Local {
		t.Errorf("it is %+v", me)
	}
}

// A token that is not good gets nothing, whatever is wrong with it.
func TestBadTokens(t *testing.T) {
	t.Parallel()
	w, other := newWorld(t, auth.Ed25519, false), newWorld(t, auth.Ed25519, false)
	conn := w.conn(t, "root", auth.RoleAdmin)
	admin := client.New(conn)
	used, _ := newToken(t, admin, 0, 1)
	if _, err := client.Join(t.Context(), w.addr, used, "w", ""); err != nil {
		t.Fatal(err)
	}
	gone, info := newToken(t, admin, 0, 5)
	if err := admin.RevokeToken(t.Context(), info.ID); err != nil {
		t.Fatal(err)
	}
	foreign, _ := newToken(t, other.as(t, "root", auth.RoleAdmin), 0, 0)
	foreignSecret, err := auth.ParseToken(foreign)
	if err != nil {
		t.Fatal(err)
	}
	foreignSecret.Fingerprint = w.ca.Fingerprint()
	for what, c := range map[string]struct {
		token string
		want  error
		says  string
	}{
		"used":                      {used, navvy.ErrDenied, "used up"},
		"revoked":                   {gone, navvy.ErrDenied, "revoked"},
		"expired":                   {expiredToken(t, w), navvy.ErrDenied, "has expired"},
		"another authority's":       {foreign, navvy.ErrDenied, "does not belong to the authority"},
		"with another's secret":     {foreignSecret.String(), navvy.ErrDenied, "unknown"},
		"made up":                   {auth.NewToken(w.ca.Fingerprint()).String(), navvy.ErrDenied, "unknown"},
		"cut short":                 {used[:len(used)-1], navvy.ErrInvalid, "copied whole"},
		"garbage":                   {"let me in", navvy.ErrInvalid, "navvy token create"},
		"nothing":                   {"", navvy.ErrInvalid, "navvy token create"},
		"upper case where it isn't": {strings.ToUpper(used), navvy.ErrInvalid, "navvy token create"},
	} {
		_, err := client.Join(t.Context(), w.addr, c.token, "w", "")
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %v that says %q", what, err, c.want, c.says)
		}
	}
	// The server judges for itself what a client sends.
	key, err := auth.NewKey("")
	if err != nil {
		t.Fatal(err)
	}
	request, err := auth.NewRequest(key, "")
	if err != nil {
		t.Fatal(err)
	}
	rpc := navvyv1.NewIdentityClient(w.nobody(t))
	fresh, _ := newToken(t, admin, 0, 0)
	for what, c := range map[string]struct {
		*navvyv1.JoinRequest
		want error
	}{
		"another authority's token": {&navvyv1.JoinRequest{Token: foreign, Request: request}, navvy.ErrDenied},
		"garbage":                   {&navvyv1.JoinRequest{Token: "garbage", Request: request}, navvy.ErrInvalid},
		"no request":                {&navvyv1.JoinRequest{Token: fresh}, navvy.ErrInvalid},
		"an odd name":               {&navvyv1.JoinRequest{Token: fresh, Request: request, Name: "a b"}, navvy.ErrInvalid},
		"a long name":               {&navvyv1.JoinRequest{Token: fresh, Request: request, Name: strings.Repeat("a", 60)}, navvy.ErrInvalid},
	} {
		if _, err := rpc.Join(t.Context(), c.JoinRequest); !errors.Is(api.FromWire(err), c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := client.Join(t.Context(), w.addr, fresh, "", ""); err != nil {
		t.Errorf("a token that was refused for other reasons is still good: %v", err)
	}
}

// expiredToken makes a token whose time is over: a lifetime of a nanosecond.
func expiredToken(t *testing.T, w *world) string {
	t.Helper()
	resp, err := navvyv1.NewIdentityClient(w.conn(t, "root", auth.RoleAdmin)).CreateToken(t.Context(),
		&navvyv1.CreateTokenRequest{Lifetime: durationpb.New(1)})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetToken()
}

// Of many who join at once with one token, as many do as it has uses.
func TestTokenUsesAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	admin := w.as(t, "root", auth.RoleAdmin)
	for _, uses := range []int{1, 3} {
		text, info := newToken(t, admin, time.Hour, uses)
		var mu sync.Mutex
		names := map[string]bool{}
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				joined, err := client.Join(t.Context(), w.addr, text, "w", "")
				if err != nil && !errors.Is(err, navvy.ErrDenied) {
					t.Errorf("got %v", err)
				}
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					names[joined.Name] = true
				}
			})
		}
		all.Wait()
		if len(names) != uses {
			t.Errorf("%d have joined with a token for %d: %v", len(names), uses, names)
		}
		if err := admin.RevokeToken(t.Context(), info.ID); !errors.Is(err, navvy.ErrNotFound) {
			t.Errorf("a token that is used up is still there: %v", err)
		}
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	admin := w.as(t, "root", auth.RoleAdmin)
	text, info := newToken(t, admin, 2*time.Hour, 7)
	expiredToken(t, w)
	list, err := admin.Tokens(t.Context())
	if err != nil || len(list) != 1 || list[0] != info || info.Uses != 7 {
		t.Errorf("there are %+v, want %+v, %v", list, info, err)
	}
	// Nothing that is stored or logged helps to join.
	secret := text[strings.LastIndex(text, ".")+1:]
	entries, _, err := w.eng.Registry().List(t.Context(), engine.KindToken, "", "", 10)
	if err != nil || len(entries) == 0 {
		t.Fatalf("%d tokens are registered, %v", len(entries), err)
	}
	for _, e := range entries {
		if strings.Contains(e.Name+string(e.Value), secret) {
			t.Errorf("the secret is stored: %s %s", e.Name, e.Value)
		}
	}
	if _, err := client.Join(t.Context(), w.addr, text, "w", ""); err != nil {
		t.Fatal(err)
	}
	w.audit.mu.Lock()
	if strings.Contains(w.audit.buf.String(), secret) {
		t.Error("the secret is logged")
	}
	w.audit.mu.Unlock()
	for what, c := range map[string]struct {
		lifetime time.Duration
		uses     int
	}{"no time": {-1, 1}, "for ever": {1000 * 24 * time.Hour, 1}, "no use": {0, -1}, "any number of uses": {0, 1 << 30}} {
		if _, _, err := admin.CreateToken(t.Context(), c.lifetime, c.uses); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for id, want := range map[string]error{"": navvy.ErrInvalid, "a": navvy.ErrInvalid, "../../x": navvy.ErrInvalid, "ffffffffffff": navvy.ErrNotFound, info.ID[:6]: nil} {
		if err := admin.RevokeToken(t.Context(), id); !errors.Is(err, want) {
			t.Errorf("revoke token %q: %v", id, err)
		}
	}
}
