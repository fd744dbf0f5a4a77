package server

import (
	"context"
	"errors"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
)

// How long what has expired is remembered, so that people who look find out what it
// was, and how often what is forgotten is looked for.
const (
	rememberExpired = 30 * 24 * time.Hour
	forgetEvery     = 24 * time.Hour
	forgetAtOnce    = 500 // entries in one batch
)

// Forget takes out of the registry what is good for nothing any more, now and once a
// day, until ctx ends: tokens that have expired, and certificates that expired a month
// ago, with their revocations. A revocation of a certificate whose end is not known
// stays.
func (s *Server) Forget(ctx context.Context) error {
	tick := time.NewTicker(forgetEvery)
	defer tick.Stop()
	for {
		if n, err := s.forget(ctx); err != nil && ctx.Err() == nil {
			s.opts.Logger.Warn("what has expired could not be forgotten; the next try is tomorrow", "error", err)
		} else if n > 0 {
			s.opts.Logger.Info("tokens and certificates that expired are forgotten", "number", n)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// forget looks once, and tells how many entries are gone.
func (s *Server) forget(ctx context.Context) (int, error) {
	s.issuing.Lock() // nobody renews, or revokes, what goes
	defer s.issuing.Unlock()
	now := s.opts.Clock()
	s.opts.Gate.Forget(now)
	tokens, err := s.expired(ctx, engine.KindToken, func(e *engine.Entry) (bool, error) {
		t, err := decodeRecord[token](e)
		return err == nil && (t.Uses <= 0 || now.After(t.Expires)), err
	})
	apiTokens, err4 := s.expired(ctx, engine.KindAPIToken, func(e *engine.Entry) (bool, error) {
		t, err := decodeRecord[apiToken](e)
		return err == nil && now.After(t.Expires), err
	})
	certificates, err2 := s.expired(ctx, engine.KindCertificate, func(e *engine.Entry) (bool, error) {
		r, err := decodeRecord[issued](e)
		return err == nil && longAgo(r.Expires, now), err
	})
	revocations, err3 := s.expired(ctx, engine.KindRevocation, func(e *engine.Entry) (bool, error) {
		r, err := decodeRecord[revoked](e)
		return err == nil && !r.Expires.IsZero() && longAgo(r.Expires, now), err
	})
	return tokens + apiTokens + certificates + revocations, errors.Join(err, err2, err3, err4)
}

func longAgo(expires, now time.Time) bool { return now.After(expires.Add(rememberExpired)) }

// expired deletes the entries of a kind that are over. One that cannot be read stays,
// and keeps no other one.
func (s *Server) expired(ctx context.Context, kind engine.Kind, over func(*engine.Entry) (bool, error)) (n int, err error) {
	after := ""
	for {
		list, next, listErr := s.eng.Registry().List(ctx, kind, "", after, forgetAtOnce)
		if listErr != nil {
			return n, errors.Join(err, listErr)
		}
		var gone []engine.Change
		for i := range list {
			e := &list[i]
			old, overErr := over(e)
			err = errors.Join(err, overErr)
			if old {
				gone = append(gone, engine.Change{Kind: kind, Name: e.Name, Delete: true, IfEqual: e.Value})
			}
		}
		if len(gone) > 0 {
			applyErr := s.eng.Registry().Apply(ctx, gone...)
			switch {
			case errors.Is(applyErr, navvy.ErrConflict) || errors.Is(applyErr, navvy.ErrNotFound):
				// Somebody uses one just now; the next day will do.
			case applyErr != nil:
				return n, errors.Join(err, applyErr)
			default:
				n += len(gone)
			}
		}
		if next == "" {
			return n, err
		}
		after = next
	}
}
