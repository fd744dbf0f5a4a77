package cli

import (
	"context"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/kubesecret"
	"github.com/navvy-run/navvy/internal/pause"
)

// publishFlags are the flags of token publish.
type publishFlags struct {
	logFlags
	secret, viewer, viewerDir string
	every, ttl                string
	uses                      int

	pause, lifetime time.Duration
	viewerDue       time.Time // when the viewer's certificate is made anew
}

// What is published.
const (
	joinKey = "token" // of the Secret
	allUses = 1_000_000
)

func newTokenPublish(a *app) *cobra.Command {
	f := &publishFlags{}
	cmd := &cobra.Command{
		Use: "publish --secret NAME [flags]", Short: "keep a token to join with in a Secret of Kubernetes",
		Long: `publish runs beside a server in its pod, until it is told to end: it makes a token and
writes it to the key token of a Secret, which is there already, anew every so often. Workers
mount the Secret and join with the token. The pod's service account needs the right to
patch that Secret, and no other.

With --viewer-secret it keeps a viewer's certificate in another Secret, as tls.crt, tls.key
and ca.crt, good for 90 days and made anew every 30: with it KEDA asks the server how much
waits (docs/kubernetes.md). What is kept in --viewer-dir is published again by the next
start, while it is good: KEDA does not look whether there is another.`,
		Example: "  navvy token publish --secret navvy-join\n  navvy token publish --secret navvy-join --viewer-secret navvy-viewer --every 1h --ttl 6h",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.publish(cmd.Context(), f)
		},
	}
	fs := cmd.Flags()
	f.logFlags.add(fs)
	fs.StringVar(&f.secret, "secret", "", "the `NAME` of the Secret for the token")
	fs.StringVar(&f.viewer, "viewer-secret", "", "the `NAME` of a Secret for a viewer's certificate")
	fs.StringVar(&f.viewerDir, "viewer-dir", "", "the `DIR` in which that certificate is kept, with its key; empty for none")
	fs.StringVar(&f.every, "every", "4h", "how often they are written anew")
	fs.StringVar(&f.ttl, "ttl", "1d", "how long a token is good; longer than --every")
	fs.IntVar(&f.uses, "uses", allUses, "how many workers may join with one token")
	return cmd
}

// check reads the flags.
func (f *publishFlags) check() (err error) {
	if f.secret == "" {
		return usagef("token publish: --secret is missing")
	}
	if f.uses < 1 {
		return usagef("--uses %d: want 1 or more", f.uses)
	}
	if f.pause, err = durationFlag("every", f.every); err != nil {
		return err
	}
	if f.lifetime, err = durationFlag("ttl", f.ttl); err != nil {
		return err
	}
	if f.pause < time.Second || f.lifetime <= f.pause {
		return usagef("--every %s --ttl %s: want a second or more, and tokens that are good for longer than until the next one", f.every, f.ttl)
	}
	return nil
}

// Pauses after a failure: the server, or that of Kubernetes, may not be there yet.
const (
	firstPublishPause   = time.Second
	longestPublishPause = 30 * time.Second
)

// publish publishes until it is told to end.
func (a *app) publish(ctx context.Context, f *publishFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	log, err := f.logger(a)
	if err != nil {
		return err
	}
	w, err := kubesecret.Open(a.env, kubesecret.AccountDir)
	if err != nil {
		return err
	}
	return untilTold(ctx, func(soft, _ context.Context) error {
		pauses := pause.Series{First: firstPublishPause, Longest: longestPublishPause}
		for {
			err := a.publishOnce(soft, f, w, log)
			wait := f.pause
			if err == nil {
				pauses.Reset()
			} else {
				log.Warn("nothing was published; trying again", "error", err)
				wait = pauses.Next()
			}
			if pause.For(soft, wait) != nil {
				return nil
			}
		}
	})
}

// publishOnce makes what is published, and writes it.
func (a *app) publishOnce(ctx context.Context, f *publishFlags, w *kubesecret.Writer, log *slog.Logger) error {
	return a.withServer(ctx, func(c *client.Client, _ *target) error {
		token, made, err := c.CreateToken(ctx, f.lifetime, f.uses)
		if err != nil {
			return err
		}
		if err := w.Set(ctx, f.secret, map[string][]byte{joinKey: []byte(token)}); err != nil {
			return err
		}
		log.Info("token published", "secret", f.secret, "token_id", made.ID, "expires", made.Expires)
		if f.viewer == "" || time.Now().Before(f.viewerDue) {
			return nil
		}
		return f.publishViewer(ctx, c, token, w, log)
	})
}
