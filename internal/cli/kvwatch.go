package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy/client"
)

func newKVWatch(a *app, owner *string) *cobra.Command {
	w := &valueWatch{app: a}
	cmd := &cobra.Command{
		Use: "watch [PREFIX] [flags]", Short: "print values whose keys begin with PREFIX, and each change, until Ctrl-C",
		Long: `watch prints the values that there are, and then each that changes or goes. A value
that changes often is printed with its newest state, and one may be printed twice.
It goes on when the server comes back, and misses nothing.

With --from it prints what has changed after that version. If too much has happened
since then to tell what was deleted, it prints "reset" first, and all that there is.`,
		Example: "  navvy kv watch settings/\n  navvy kv watch -o jsonl --from 12 | while read change; do ./apply.sh \"$change\"; done", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if w.output != "text" && w.output != "jsonl" {
				return usagef("-o %s: want text or jsonl", w.output)
			}
			if len(args) == 1 {
				w.prefix = args[0]
			}
			a.waits = true
			for { // behind: a process that watches must not be the one that others wait for
				lost := false
				err := a.withKV(cmd.Context(), needBehind, *owner, func(kv client.KV, c *conn) error {
					err := w.follow(cmd.Context(), kv)
					if lost = err != nil && c.lost(err); lost {
						return nil
					}
					return err
				})
				if err != nil || !lost {
					return err
				}
			}
		},
	}
	cmd.Flags().StringVarP(&w.output, "output", "o", "text", "how it is printed: text, or jsonl with the values")
	cmd.Flags().Uint64Var(&w.from, "from", 0, "only what has changed after this version")
	return cmd
}

// valueWatch prints changes of values, and knows how far it has come.
type valueWatch struct {
	app            *app
	prefix, output string
	from           uint64
}

// resetObject is how -o jsonl tells that what was printed before is void.
type resetObject struct {
	Reset bool `json:"reset"`
}

func (w *valueWatch) follow(ctx context.Context, kv client.KV) error {
	for c, err := range kv.Watch(ctx, w.prefix, w.from) {
		if err != nil {
			return err
		}
		if c.Reset {
			if err := w.print("reset\n", resetObject{true}); err != nil {
				return err
			}
		}
		for i := range c.Changes {
			change := &c.Changes[i]
			word, object := "put", newValueObject(&change.Value, !change.Deleted)
			if object.Deleted = change.Deleted; change.Deleted {
				word = "rm"
			}
			if err := w.print(fmt.Sprintf("%d %s %s\n", change.Version, word, change.Key), object); err != nil {
				return err
			}
		}
		if c.Through != 0 {
			w.from = c.Through
		}
	}
	return nil
}

func (w *valueWatch) print(text string, object any) error {
	if w.output == "jsonl" {
		return (&objects{w: w.app.out}).add(object)
	}
	_, err := w.app.out.Write([]byte(text))
	return err
}
