package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/server/auth"
)

// Bounds of a token.
const (
	tokenLifetime    = time.Hour // if nothing else is asked for
	maxTokenLifetime = 365 * 24 * time.Hour
	maxTokenUses     = 1_000_000
)

// CreateToken implements the call of that name.
func (s *identity) CreateToken(ctx context.Context, req *navvyv1.CreateTokenRequest) (*navvyv1.CreateTokenResponse, error) {
	resp, err := s.createToken(ctx, req)
	return resp, s.fail(err)
}

func (s *identity) createToken(ctx context.Context, req *navvyv1.CreateTokenRequest) (*navvyv1.CreateTokenResponse, error) {
	ca, err := s.authority()
	if err != nil {
		return nil, err
	}
	now := s.opts.Clock().UTC()
	lifetime, err := lifetimeOf(req.GetLifetime(), tokenLifetime)
	if err != nil {
		return nil, err
	}
	t := token{Version: recordVersion, By: auth.From(ctx).Name, Created: now, Expires: now.Add(lifetime), Uses: 1}
	if n := req.GetUses(); n < 0 || n > maxTokenUses {
		return nil, fmt.Errorf("token: %d uses; want 1 to %d: %w", n, maxTokenUses, navvy.ErrInvalid)
	} else if n > 0 {
		t.Uses = n
	}
	if err := forgetExpired(ctx, s, engine.KindToken, func(t *token) time.Time { return t.Expires }); err != nil {
		return nil, err
	}
	value, err := encodeRecord(&t)
	if err != nil {
		return nil, err
	}
	made := auth.NewToken(ca.Fingerprint())
	auth.Note(ctx, slog.String("token_id", auth.TokenID(made.Hash())))
	err = s.eng.Registry().Apply(ctx, engine.Change{Kind: engine.KindToken, Name: made.Hash(), Value: value, IfAbsent: true})
	if err != nil {
		return nil, err
	}
	return &navvyv1.CreateTokenResponse{Token: made.String(), Info: fromToken(made.Hash(), &t)}, nil
}

// fromToken shows a token without its secret.
func fromToken(hash string, t *token) *navvyv1.Token {
	return &navvyv1.Token{
		Id: auth.TokenID(hash), Kind: tokenJoin, Role: string(auth.RoleWorker), By: t.By, Uses: t.Uses,
		Created: timestamppb.New(t.Created), Expires: timestamppb.New(t.Expires),
	}
}

// lifetimeOf is how long a token is good.
func lifetimeOf(asked *durationpb.Duration, otherwise time.Duration) (time.Duration, error) {
	if asked == nil {
		return otherwise, nil
	}
	d := asked.AsDuration()
	if asked.CheckValid() != nil || d <= 0 || d > maxTokenLifetime {
		return 0, fmt.Errorf("token: a lifetime of %v; want more than nothing and at most %v: %w", d, maxTokenLifetime, navvy.ErrInvalid)
	}
	return d, nil
}

// forgetExpired deletes tokens of a kind whose time is over.
func forgetExpired[R record](ctx context.Context, s *identity, kind engine.Kind, expires func(*R) time.Time) error {
	var old []engine.Change
	err := each(ctx, s.eng.Registry(), kind, "", func(hash string, t *R) error {
		if s.opts.Clock().After(expires(t)) {
			old = append(old, engine.Change{Kind: kind, Name: hash, Delete: true})
		}
		return nil
	})
	if err != nil || len(old) == 0 {
		return err
	}
	return s.eng.Registry().Apply(ctx, old...)
}

// errToken refuses a token, and tells nobody which of the reasons it is.
func errToken() error {
	return fmt.Errorf("join: this token is unknown here, or used up, or revoked; ask for another one (navvy token create): %w", navvy.ErrDenied)
}

// useToken is the change that uses a token once, and who has made the token. It
// takes effect only if nobody uses the token meanwhile.
func (s *identity) useToken(ctx context.Context, t auth.Token) (use engine.Change, by string, err error) {
	entry, err := s.eng.Registry().Get(ctx, engine.KindToken, t.Hash())
	if errors.Is(err, navvy.ErrNotFound) {
		return use, "", errToken()
	} else if err != nil {
		return use, "", err
	}
	stored, err := decodeRecord[token](&entry)
	if err != nil {
		return use, "", err
	}
	if !s.opts.Clock().Before(stored.Expires) {
		return use, "", fmt.Errorf("join: the token has expired on %s; ask for another one (navvy token create): %w", stored.Expires.Format(time.DateTime), navvy.ErrDenied)
	}
	use = engine.Change{Kind: engine.KindToken, Name: entry.Name, IfEqual: entry.Value}
	if stored.Uses--; stored.Uses <= 0 {
		use.Delete = true
		return use, stored.By, nil
	}
	use.Value, err = encodeRecord(stored)
	return use, stored.By, err
}
