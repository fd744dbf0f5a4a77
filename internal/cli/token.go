package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/cli/format"
)

func newToken(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "token", Short: "tokens with which workers join a server, and programs call it over HTTP",
		Long: `A token lets a worker join: it is exchanged for a certificate, once and within an
hour unless it was made for more. It is a secret; whoever has it becomes a worker.
With --api it is another kind: programs call the API over HTTP with it, as you.

On the server's machine these verbs speak with the server of --data, $NAVVY_DATA or
the default directory over its socket; elsewhere with --server. Tokens to join with are
for administrators; everybody makes, lists and removes tokens for the API of their own.`,
		Example: "  navvy token create > token\n  navvy token ls", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTokenCreate(a), newTokenLs(a), newTokenRm(a), newTokenPublish(a))
	return cmd
}

// tokenFlags are the flags of token create.
type tokenFlags struct {
	api  bool
	ttl  string
	uses int
}

func newTokenCreate(a *app) *cobra.Command {
	f := &tokenFlags{}
	cmd := &cobra.Command{
		Use: "create [flags]", Short: "make a token, and print it alone",
		Long: `create makes a token and prints it alone on standard output. Without --api a worker
joins with it.

With --api it is for programs that call the API over HTTP (docs/rest.md) as you: with
your name and role, until --ttl is over, your certificate ends or is revoked, or
navvy token rm takes it away.`,
		Example: `  navvy token create > token
  navvy token create --ttl 1d --uses 20 | ssh other navvy worker start --join build1 --token-file -
  (umask 077; printf 'header = "Authorization: Bearer %s"\n' "$(navvy token create --api)" > curlrc)
  curl -K curlrc http://localhost:7480/v1/jobs`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			lifetime, err := f.lifetime(cmd)
			if err != nil {
				return err
			}
			return a.withServer(cmd.Context(), func(c *client.Client, _ *target) error {
				return a.createToken(cmd.Context(), c, f, lifetime)
			})
		},
	}
	cmd.Flags().BoolVar(&f.api, "api", false, "for the API over HTTP, as you, not to join with")
	cmd.Flags().StringVar(&f.ttl, "ttl", "", "how long it is good (default 1h; with --api 30d)")
	cmd.Flags().IntVar(&f.uses, "uses", 1, "how many workers may join with it")
	return cmd
}

// lifetime checks the flags; 0 leaves it to the server.
func (f *tokenFlags) lifetime(cmd *cobra.Command) (time.Duration, error) {
	switch {
	case f.uses < 1:
		return 0, usagef("--uses %d: want 1 or more", f.uses)
	case f.api && cmd.Flags().Changed("uses"):
		return 0, usagef("--uses: a token for the API is good for any number of calls")
	case !cmd.Flags().Changed("ttl"):
		return 0, nil
	}
	lifetime, err := durationFlag("ttl", f.ttl)
	if err == nil && lifetime <= 0 {
		err = usagef("--ttl %s: want a time that is not over, such as 10m or 1d", f.ttl)
	}
	return lifetime, err
}

func (a *app) createToken(ctx context.Context, c *client.Client, f *tokenFlags, lifetime time.Duration) error {
	create := func() (string, client.Token, error) { return c.CreateToken(ctx, lifetime, f.uses) }
	if f.api {
		create = func() (string, client.Token, error) { return c.CreateAPIToken(ctx, lifetime) }
	}
	text, info, err := create()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(a.out, text); err != nil {
		return err
	}
	if f.api {
		a.say("token %s calls the API as %s, role %s, until %s; it is a secret", info.ID, info.By, info.Role, moment(info.Expires))
		return nil
	}
	a.say("token %s is good for %s until %s; it is a secret", info.ID, count(int64(info.Uses), "worker"), moment(info.Expires))
	return nil
}

// tokenObject is a token as -o json shows it.
type tokenObject struct {
	ID      string    `json:"id"`
	Kind    string    `json:"kind"` // join or api
	Role    string    `json:"role"`
	By      string    `json:"by"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	Uses    int       `json:"uses"` // left; 0 for any number
}

func newTokenLs(a *app) *cobra.Command {
	f := &listFlags{}
	cmd := &cobra.Command{
		Use: "ls [flags]", Short: "list tokens that can still be used, without their secrets",
		Example: "  navvy token ls\n  navvy token ls -o json", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return a.withServer(cmd.Context(), func(c *client.Client, _ *target) error { return a.listTokens(cmd.Context(), c, f) })
		},
	}
	f.add(cmd)
	return cmd
}

func (a *app) listTokens(ctx context.Context, c *client.Client, f *listFlags) (err error) {
	tokens, err := c.Tokens(ctx)
	if err != nil {
		return err
	}
	out := f.objects(a.out)
	var rows [][]string
	for _, t := range tokens {
		if f.output == "table" {
			uses := strconv.Itoa(t.Uses)
			if t.Uses == 0 {
				uses = "any"
			}
			rows = append(rows, []string{t.ID, t.Kind, t.Role, t.By, moment(t.Created), moment(t.Expires), uses})
		} else if err := out.add(tokenObject(t)); err != nil {
			return err
		}
	}
	if f.output != "table" {
		return out.close()
	}
	return format.Table(a.out, []string{"ID", "FOR", "ROLE", "MADE BY", "MADE", "EXPIRES", "USES LEFT"}, rows)
}

func newTokenRm(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "rm ID…", Short: "make tokens useless at once; workers that have joined stay",
		Example: "  navvy token rm 3fa9c1d20b7e", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withServer(cmd.Context(), func(c *client.Client, _ *target) error {
				var errs []error
				for _, id := range args {
					errs = append(errs, c.RevokeToken(cmd.Context(), id))
				}
				return errors.Join(errs...)
			})
		},
	}
}
