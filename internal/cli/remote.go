package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/pause"
	"github.com/navvy-run/navvy/server/auth"
)

// identity is how we meet the server: with our certificate, and nobody whom its
// authority does not vouch for. The files are read again for each connection, so
// that a renewed certificate is used at once.
func (c *serverContext) identity() (*tls.Config, error) {
	cert := func() (*tls.Certificate, error) { return auth.LoadPair(c.Cert, c.Key) }
	if _, err := cert(); err != nil {
		return nil, err
	}
	pool, err := auth.LoadPool(c.CA)
	if err != nil {
		return nil, err
	}
	return auth.ClientTLS(cert, pool), nil
}

// firstTries is how long a first connection is tried, as long as nobody listens at the address.
const firstTries = 2 * time.Second

// awayPauses are the pauses between two tries while a server is away.
func awayPauses() pause.Series {
	return pause.Series{First: 100 * time.Millisecond, Longest: 5 * time.Second}
}

// connectServer reaches a server. Who has reached it before and waits for a job
// tries for ever; others give up when their patience is over.
func (a *app) connectServer(ctx context.Context, t *target, n need) (*conn, error) {
	config, err := t.identity()
	if err != nil {
		return nil, t.noFile(err)
	}
	begun := time.Now()
	pauses := awayPauses()
	for first := true; ; first = false {
		if a.reached || !first { // one that is about to end is not asked at once
			if err := pauses.Wait(ctx); err != nil {
				return nil, err
			}
		}
		remote, me, err := a.tryServer(ctx, t, config)
		if err == nil {
			if a.away {
				a.say("server %s is there again", t.Server)
			}
			a.reached, a.away = true, false
			return &conn{Client: client.New(remote), app: a, need: n, remote: remote, server: t.Server, me: me.Name}, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		if err := a.missed(t, time.Since(begun), err); err != nil {
			return nil, err
		}
	}
}

// missed tells what a try that has failed means: an error if it was the last one.
func (a *app) missed(t *target, tired time.Duration, err error) error {
	switch {
	case !errors.Is(err, navvy.ErrUnavailable):
		return err
	case a.reached && a.waits:
		if !a.away {
			a.away = true
			a.say("lost server %s; waiting for it to come back", t.Server)
		}
	case tired > a.patience, tired > firstTries && nobodyThere(err):
		return withHint(err, "is navvy server running there, and is the address right? see navvy context show")
	}
	return nil
}

// tryServer is one try. Its error wraps ErrUnavailable if the next one may succeed.
func (a *app) tryServer(ctx context.Context, t *target, config *tls.Config) (*grpc.ClientConn, client.Me, error) {
	ctx, cancel := context.WithTimeout(ctx, a.patience)
	defer cancel()
	remote, me, err := client.Dial(ctx, t.Server, config)
	switch {
	case err == nil:
		return remote, me, nil
	case errors.Is(err, navvy.ErrDenied):
		return nil, me, withHint(err, "with the certificate %s of the authority %s; navvy cert show tells what is in them", t.Cert, t.CA)
	case ctx.Err() != nil:
		err = fmt.Errorf("server %s: it does not answer: %w", t.Server, navvy.ErrUnavailable)
	}
	return nil, me, err
}

// nobodyThere tells whether an error says that no server listens.
func nobodyThere(err error) bool {
	text := err.Error()
	return strings.Contains(text, "connection refused") || strings.Contains(text, "no such host") || strings.Contains(text, "network is unreachable")
}
