package cli

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"

	"github.com/spf13/pflag"

	"github.com/navvy-run/navvy/quantity"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/share/claims"
	"github.com/navvy-run/navvy/share/place"
)

// claimsVariable names the place of large bodies where no flag does.
const claimsVariable = "NAVVY_CLAIMS"

// claimsFlags say where bodies go that are too large for a broker.
type claimsFlags struct{ place, over string }

func (f *claimsFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.place, "claims", "", "with ?envelope=json in the URL: bodies that do not fit into a broker's message go to this `PLACE`, a folder such as share://NAME/FOLDER or s3://BUCKET/FOLDER (default $"+claimsVariable+")")
	fs.StringVar(&f.over, "claims-over", "", "with --claims: so do bodies of more than this `SIZE`, such as 256K (default: only those that do not fit)")
}

// given names a flag that was given.
func (f *claimsFlags) given() string {
	switch {
	case f.place != "":
		return "--claims"
	case f.over != "":
		return "--claims-over"
	}
	return ""
}

// unused refuses the flags with a queue that is not a broker's.
func (f *claimsFlags) unused() error {
	if given := f.given(); given != "" {
		return usagef("%s goes with the URL of a broker's queue", given)
	}
	return nil
}

// largeBodies is an open place for large bodies; nil for none.
type largeBodies struct {
	place *claims.Place
	over  int
	log   *slog.Logger
}

// openClaims opens the place that is given for these queues; nil if there is none.
func (a *app) openClaims(ctx context.Context, f *claimsFlags, urls ...string) (*largeBodies, error) {
	enveloped := slices.ContainsFunc(urls, queue.Enveloped)
	if given := f.given(); given != "" && !enveloped {
		return nil, withHint(usagef("%s: a claim for a large body stands in an envelope, and the URL has none", given), "put ?envelope=json to the URL, here and with all who send to the queue and receive from it")
	}
	if !enveloped {
		return nil, nil
	}
	return a.openPlace(ctx, f)
}

// serverPlace is openPlace for a server. Its own files are no place for it: it would open
// them before it holds its data directory, and who else is at the queue does not reach them.
func (a *app) serverPlace(ctx context.Context, f *claimsFlags) (*largeBodies, error) {
	at, given := f.place, "--claims"
	if at == "" {
		at, given = a.env(claimsVariable), claimsVariable
	}
	if p, err := place.Parse(at); err == nil && p.URL == "" && p.Name == defaultShare {
		file, err := a.loadShares()
		if err == nil && file.Shares[defaultShare].URL == "" {
			err = withHint(usagef("%s %s: the files of owners are no place for large bodies, which all at the queue have to reach", given, at),
				"give them a place of their own, such as s3://BUCKET/FOLDER or file:///DIR, or share://NAME/FOLDER after navvy share add NAME URL")
		}
		if err != nil {
			return nil, err
		}
	}
	return a.openPlace(ctx, f)
}

// openPlace opens the place that is given, for whatever queues; nil if there is none.
func (a *app) openPlace(ctx context.Context, f *claimsFlags) (*largeBodies, error) {
	at := cmp.Or(f.place, a.env(claimsVariable))
	if at == "" && f.over != "" {
		return nil, usagef("--claims-over says from which size on bodies go to the place of --claims, which is missing")
	} else if at == "" {
		return nil, nil
	}
	over, err := f.size()
	if err != nil {
		return nil, err
	}
	p, err := place.Parse(at) // from the environment a password may come
	if f.place != "" {
		p, err = parsePlace(at)
	} else if err != nil {
		err = &usageError{fmt.Errorf("%s: %w", claimsVariable, err)}
	}
	if err != nil {
		return nil, err
	}
	// The AWS SDK writes to package log what its error says, too; this takes both to nowhere.
	slog.SetDefault(slog.New(slog.DiscardHandler))
	s, err := a.openShare(ctx, p, true)
	if err != nil {
		return nil, err
	}
	c, err := claims.Open(ctx, s, p.Path)
	if err != nil {
		return nil, shareHint(err)
	}
	return &largeBodies{place: c, over: over, log: slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelWarn}))}, nil
}

// size is from how many bytes on bodies go to the place; 0 for those that do not fit.
func (f *claimsFlags) size() (int, error) {
	if f.over == "" {
		return 0, nil
	}
	n, err := quantity.ParseSize(f.over)
	if err != nil || n <= 0 || n > queue.MaxClaim {
		return 0, usagef("--claims-over %s: want a size such as 256K, up to %s", f.over, quantity.Size(queue.MaxClaim))
	}
	return int(n), nil
}

// use gives the place to a queue that has the envelope.
func (b *largeBodies) use(url string, o *queue.Options) *queue.Options {
	if b == nil || !queue.Enveloped(url) {
		return o
	}
	o.Claims, o.ClaimOver, o.Logger = b.place, b.over, cmp.Or(o.Logger, b.log)
	return o
}

// claims is what package queue takes; nil for none.
func (b *largeBodies) claims() (c queue.Claims, over int) {
	if b == nil {
		return nil, 0
	}
	return b.place, b.over
}

// together is how many messages are received at once whose bodies are then in memory.
func (b *largeBodies) together() int {
	if b == nil {
		return receiveTogether
	}
	return 4
}

func (b *largeBodies) close() error {
	if b == nil {
		return nil
	}
	return b.place.Close()
}
