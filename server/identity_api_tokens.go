package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/server/auth"
)

// What a token is for.
const (
	tokenJoin = "join"
	tokenAPI  = "api"
)

const (
	apiTokenLifetime = 30 * 24 * time.Hour // if nothing else is asked for
	maxAPITokens     = 1000                // of one owner
)

// CreateAPIToken implements the call of that name.
func (s *identity) CreateAPIToken(ctx context.Context, req *navvyv1.CreateAPITokenRequest) (*navvyv1.CreateTokenResponse, error) {
	resp, err := s.createAPIToken(ctx, req)
	return resp, s.fail(err)
}

func (s *identity) createAPIToken(ctx context.Context, req *navvyv1.CreateAPITokenRequest) (*navvyv1.CreateTokenResponse, error) {
	me := auth.From(ctx)
	if me.Token != "" {
		return nil, fmt.Errorf("token: a token makes no other one; make it with a certificate: %w", navvy.ErrDenied)
	}
	lifetime, err := lifetimeOf(req.GetLifetime(), apiTokenLifetime)
	if err != nil {
		return nil, err
	}
	now := s.opts.Clock().UTC()
	t := apiToken{Version: recordVersion, Owner: me.Name, Role: string(me.Role), Serial: me.Serial, Created: now, Expires: now.Add(lifetime)}
	if end := ends(ctx); !end.IsZero() && end.Before(t.Expires) {
		t.Expires = end
	}
	if err := forgetExpired(ctx, s, engine.KindAPIToken, func(t *apiToken) time.Time { return t.Expires }); err != nil {
		return nil, err
	}
	value, err := encodeRecord(&t)
	if err != nil {
		return nil, err
	}
	s.issuing.Lock()
	defer s.issuing.Unlock()
	if me.Serial != "" && s.opts.Gate.Revoked(me.Serial) {
		return nil, fmt.Errorf("token: the certificate %s was revoked: %w", me.Serial, navvy.ErrDenied)
	}
	if err := s.roomForToken(ctx, me.Name); err != nil {
		return nil, err
	}
	made := auth.NewAPIToken()
	if me.Role == auth.RoleAdmin {
		s.opts.Gate.Acted(ctx, me, navvyv1.Identity_CreateAPIToken_FullMethodName, slog.String("token_id", auth.TokenID(made.Hash())))
	}
	err = s.eng.Registry().Apply(ctx, engine.Change{Kind: engine.KindAPIToken, Name: made.Hash(), Value: value, IfAbsent: true})
	if err != nil {
		return nil, err
	}
	return &navvyv1.CreateTokenResponse{Token: made.String(), Info: fromAPIToken(made.Hash(), &t)}, nil
}

// ends is when what the caller calls with ends; zero if it does not.
func ends(ctx context.Context) time.Time {
	if cert := auth.PeerCertificate(ctx); cert != nil {
		return cert.NotAfter.UTC()
	}
	return auth.From(ctx).Expires
}

// roomForToken refuses somebody who has as many tokens as one may have.
func (s *identity) roomForToken(ctx context.Context, owner string) error {
	n := 0
	err := each(ctx, s.eng.Registry(), engine.KindAPIToken, "", func(_ string, t *apiToken) error {
		if t.Owner == owner {
			n++
		}
		return nil
	})
	if err == nil && n >= maxAPITokens {
		err = fmt.Errorf("token: %s has %d tokens for the API; revoke some (navvy token rm): %w", owner, n, navvy.ErrExhausted)
	}
	return err
}

// fromAPIToken shows a token without its secret.
func fromAPIToken(hash string, t *apiToken) *navvyv1.Token {
	return &navvyv1.Token{
		Id: auth.TokenID(hash), Kind: tokenAPI, Role: t.Role, By: t.Owner,
		Created: timestamppb.New(t.Created), Expires: timestamppb.New(t.Expires),
	}
}

// FindAPIToken tells whom a token for the API stands for. The error wraps
// navvy.ErrDenied, and is the same for a token that was revoked and for one that was
// never made.
func (s *Server) FindAPIToken(ctx context.Context, t auth.APIToken) (auth.Identity, error) {
	hash := t.Hash()
	entry, err := s.eng.Registry().Get(ctx, engine.KindAPIToken, hash)
	if errors.Is(err, navvy.ErrNotFound) {
		return auth.Identity{}, fmt.Errorf("this API token is unknown here, or was revoked; make another one (navvy token create --api): %w", navvy.ErrDenied)
	} else if err != nil {
		return auth.Identity{}, err
	}
	r, err := decodeRecord[apiToken](&entry)
	if err != nil {
		return auth.Identity{}, err
	}
	if !s.opts.Clock().Before(r.Expires) {
		return auth.Identity{}, fmt.Errorf("this API token has expired on %s; make another one (navvy token create --api): %w", r.Expires.Format(time.DateTime), navvy.ErrDenied)
	}
	return auth.Identity{Name: r.Owner, Role: auth.Role(r.Role), Serial: r.Serial, Token: auth.TokenID(hash), Expires: r.Expires}, nil
}

// Tokens implements the call of that name.
func (s *identity) Tokens(ctx context.Context, _ *navvyv1.TokensRequest) (*navvyv1.TokensResponse, error) {
	resp, err := s.tokens(ctx)
	return resp, s.fail(err)
}

func (s *identity) tokens(ctx context.Context) (*navvyv1.TokensResponse, error) {
	me, now, resp := auth.From(ctx), s.opts.Clock(), &navvyv1.TokensResponse{}
	if me.Role == auth.RoleAdmin {
		s.opts.Gate.Acted(ctx, me, navvyv1.Identity_Tokens_FullMethodName)
		err := each(ctx, s.eng.Registry(), engine.KindToken, "", func(hash string, t *token) error {
			if now.Before(t.Expires) {
				resp.Tokens = append(resp.Tokens, fromToken(hash, t))
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return resp, each(ctx, s.eng.Registry(), engine.KindAPIToken, "", func(hash string, t *apiToken) error {
		if now.Before(t.Expires) && (t.Owner == me.Name || me.Role == auth.RoleAdmin) {
			resp.Tokens = append(resp.Tokens, fromAPIToken(hash, t))
		}
		return nil
	})
}

// RevokeToken implements the call of that name.
func (s *identity) RevokeToken(ctx context.Context, req *navvyv1.RevokeTokenRequest) (*navvyv1.RevokeTokenResponse, error) {
	if err := s.revokeToken(ctx, req.GetId()); err != nil {
		return nil, s.fail(err)
	}
	return &navvyv1.RevokeTokenResponse{}, nil
}

func (s *identity) revokeToken(ctx context.Context, id string) error {
	if len(id) < auth.MinTokenID || strings.ContainsFunc(id, func(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'f') }) {
		return fmt.Errorf("token %q: want an id as navvy token ls shows it: %w", id, navvy.ErrInvalid)
	}
	me := auth.From(ctx)
	found, err := s.findTokens(ctx, id, me)
	switch {
	case err != nil:
		return err
	case len(found) == 0:
		return fmt.Errorf("token %s: %w", id, navvy.ErrNotFound)
	case len(found) > 1:
		return fmt.Errorf("token %s fits several tokens: give all of its id: %w", id, navvy.ErrInvalid)
	}
	t := found[0]
	if me.Role == auth.RoleAdmin {
		s.opts.Gate.Acted(ctx, me, navvyv1.Identity_RevokeToken_FullMethodName, slog.String("token_id", auth.TokenID(t.Name)))
	}
	if t.Kind != engine.KindAPIToken {
		return s.eng.Registry().Delete(ctx, t.Kind, t.Name)
	}
	r, err := decodeRecord[apiToken](&t)
	if err == nil {
		err = s.eng.Registry().Delete(ctx, t.Kind, t.Name)
	}
	if err == nil {
		s.opts.Gate.RevokeToken(auth.TokenID(t.Name), r.Expires)
	}
	return err
}

// findTokens gives those that somebody may revoke and whose ids begin so; of many, some.
func (s *identity) findTokens(ctx context.Context, id string, me auth.Identity) ([]engine.Entry, error) {
	var found []engine.Entry
	if me.Role == auth.RoleAdmin {
		list, _, err := s.eng.Registry().List(ctx, engine.KindToken, id, "", 2)
		if err != nil {
			return nil, err
		}
		found = list
	}
	for after := ""; ; {
		list, next, err := s.eng.Registry().List(ctx, engine.KindAPIToken, id, after, registryPage)
		if err != nil {
			return nil, err
		}
		for i := range list {
			t, err := decodeRecord[apiToken](&list[i])
			if err != nil {
				return nil, err
			}
			if t.Owner == me.Name || me.Role == auth.RoleAdmin {
				found = append(found, list[i])
			}
		}
		if after = next; next == "" {
			return found, nil
		}
	}
}
