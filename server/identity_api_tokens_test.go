package server

import (
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/server/auth"
)

var ann = auth.Identity{Name: "ann", Role: auth.RoleUser, Serial: "ab12"}

// create makes a token as somebody.
func (r *records) create(me auth.Identity, lifetime time.Duration) (auth.APIToken, *navvyv1.Token, error) {
	s := &identity{Server: r.Server}
	resp, err := s.createAPIToken(auth.With(r.Context(), me), &navvyv1.CreateAPITokenRequest{Lifetime: durationpb.New(lifetime)})
	if err != nil {
		return auth.APIToken{}, nil, err
	}
	made, err := auth.ParseAPIToken(resp.GetToken())
	return made, resp.GetInfo(), err
}

// A token for the API stands for its maker, and its secret is nowhere.
func TestAPIToken(t *testing.T) {
	t.Parallel()
	r := newRecords(t)
	made, info, err := r.create(ann, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := r.FindAPIToken(t.Context(), made); err != nil || id.Name != "ann" || id.Role != auth.RoleUser || id.Serial != "ab12" || id.Token != info.GetId() || id.Local {
		t.Errorf("it is %+v, %v", id, err)
	}
	for _, name := range r.has(engine.KindAPIToken) {
		if entry, err := r.eng.Registry().Get(t.Context(), engine.KindAPIToken, name); err != nil || strings.Contains(name+string(entry.Value), made.Secret) {
			t.Errorf("the secret is stored: %s %s, %v", name, entry.Value, err)
		}
	}
}

// A token is good no longer than what its maker calls with, and makes no other one.
func TestAPITokenBounds(t *testing.T) {
	t.Parallel()
	r := newRecords(t)
	soon := time.Now().Add(time.Minute)
	if _, info, err := r.create(auth.Identity{Name: "ann", Role: auth.RoleUser, Expires: soon}, time.Hour); err != nil || !info.GetExpires().AsTime().Equal(soon) {
		t.Errorf("of who ends %v: until %v, %v", soon, info.GetExpires().AsTime(), err)
	}
	if _, _, err := r.create(auth.Identity{Name: "ann", Role: auth.RoleUser, Token: "3fa9c1d20b7e"}, time.Hour); !errors.Is(err, navvy.ErrDenied) {
		t.Errorf("a token makes a token: %v", err)
	}
	for _, lifetime := range []time.Duration{0, -1, 400 * day} {
		if _, _, err := r.create(ann, lifetime); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("for %v: %v", lifetime, err)
		}
	}
	r.opts.Gate.Revoke("ab12")
	if _, _, err := r.create(ann, time.Hour); !errors.Is(err, navvy.ErrDenied) {
		t.Errorf("with a certificate that was revoked meanwhile: %v", err)
	}
}

// Somebody has so many tokens, and no more.
func TestTooManyAPITokens(t *testing.T) {
	t.Parallel()
	r := newRecords(t)
	changes := make([]engine.Change, 0, maxAPITokens)
	for range maxAPITokens {
		value, err := encodeRecord(&apiToken{Version: recordVersion, Owner: "ann", Expires: time.Now().Add(day)})
		if err != nil {
			t.Fatal(err)
		}
		changes = append(changes, engine.Change{Kind: engine.KindAPIToken, Name: auth.NewAPIToken().Hash(), Value: value})
	}
	if err := r.eng.Registry().Apply(t.Context(), changes...); err != nil {
		t.Fatal(err)
	}
	s := &identity{Server: r.Server}
	for name, want := range map[string]error{"ann": navvy.ErrExhausted, "bob": nil} {
		me := auth.Identity{Name: name, Role: auth.RoleUser}
		if _, err := s.createAPIToken(auth.With(t.Context(), me), &navvyv1.CreateAPITokenRequest{}); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// That a token was revoked is remembered for as long as it would have been good.
func TestRevokedTokenForgotten(t *testing.T) {
	t.Parallel()
	r := newRecords(t)
	_, info, err := r.create(ann, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	s := &identity{Server: r.Server}
	if err := s.revokeToken(auth.With(t.Context(), ann), info.GetId()); err != nil {
		t.Fatal(err)
	}
	with := ann
	with.Token = info.GetId()
	for _, after := range []time.Duration{0, 30 * time.Minute, 2 * time.Hour} {
		r.opts.Clock = func() time.Time { return time.Now().Add(after) }
		_, err := r.forget(t.Context())
		refused := after < time.Hour
		if got := r.opts.Gate.Admit(t.Context(), with, navvyv1.Identity_Whoami_FullMethodName) != nil; err != nil || got != refused {
			t.Errorf("after %v it is refused: %v, want %v; %v", after, got, refused, err)
		}
	}
}

// FuzzParseAPIToken gives foreign text to the reader of tokens.
func FuzzParseAPIToken(f *testing.F) {
	f.Add("navvy-api.lu6k7sasv6ttfplohfnvmfr7pz")
	f.Add("navvy-join.a.b")
	f.Fuzz(func(t *testing.T, text string) {
		made, err := auth.ParseAPIToken(text)
		if err != nil && !errors.Is(err, navvy.ErrInvalid) {
			t.Fatal(err)
		}
		if err == nil && made.String() != strings.TrimSpace(text) {
			t.Fatalf("%q became another one", text)
		}
	})
}
