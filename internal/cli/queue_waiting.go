package cli

import (
	"context"
	"errors"
	"strconv"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/cli/format"
	"github.com/navvy-run/navvy/quantity"
)

// sideFlags say which side of a queue is meant.
type sideFlags struct{ requests, responses, dead bool }

func (f *sideFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.requests, "requests", false, "messages that have no answer")
	cmd.Flags().BoolVar(&f.responses, "responses", false, "answers that nobody has acknowledged")
	cmd.Flags().BoolVar(&f.dead, "dead", false, "messages that have failed for good")
}

// sides are those that were named.
func (f *sideFlags) sides() (list []client.Side) {
	for _, one := range []struct {
		named bool
		side  client.Side
	}{{f.requests, client.Requests}, {f.responses, client.Responses}, {f.dead, client.DeadLetters}} {
		if one.named {
			list = append(list, one.side)
		}
	}
	return list
}

func newQueuePeek(a *app) *cobra.Command {
	f, l, place, n := &sideFlags{}, &listFlags{}, boxFlags{}, 100
	cmd := &cobra.Command{
		Use: "peek [flags] NAME", Short: "look at what waits in a queue",
		Long: `peek shows one's own messages in a queue, and changes nothing: those without an answer,
or with --responses the answers, with --dead the dead letters.

NAME can be the URL of a broker's queue: then it shows what waits there, whoever sent it,
without a delivery. RabbitMQ cannot do that (docs/brokers.md).`,
		Example: "  navvy queue peek scores\n  navvy queue peek scores --responses -o jsonl\n  navvy queue peek redis://localhost/requests",
		Args:    place.args(0), ValidArgsFunction: a.completeQueues,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, _, err := place.place(a, args)
			if err != nil {
				return err
			}
			sides := f.sides()
			if len(sides) == 0 {
				sides = []client.Side{client.Requests}
			}
			if len(sides) > 1 {
				return usagef("queue peek: give one of --requests, --responses and --dead")
			}
			return a.peek(cmd.Context(), name, sides[0], l, n)
		},
	}
	place.add(cmd)
	f.add(cmd)
	l.add(cmd)
	cmd.Flags().IntVarP(&n, "max", "n", n, "so many at most; 0 for all")
	return cmd
}

func newQueueDLQ(a *app) *cobra.Command {
	l, place, n := &listFlags{}, boxFlags{}, 100
	cmd := &cobra.Command{
		Use: "dlq [flags] NAME", Short: "list dead letters of a queue: messages that have failed for good",
		Long: `dlq lists dead letters with their ids, how often they were tried, and why they failed.

NAME can be the URL of a broker's queue, or that of its dead letters.`,
		Example: "  navvy queue dlq scores\n  navvy queue redrive scores\n  navvy queue dlq amqp://localhost/requests -o jsonl",
		Args:    place.args(0), ValidArgsFunction: a.completeQueues,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, _, err := place.place(a, args)
			if err != nil {
				return err
			}
			return a.peek(cmd.Context(), name, client.DeadLetters, l, n)
		},
	}
	place.add(cmd)
	l.add(cmd)
	cmd.Flags().IntVarP(&n, "max", "n", n, "so many at most; 0 for all")
	return cmd
}

// peek prints what waits on one side of a queue.
func (a *app) peek(ctx context.Context, queue string, side client.Side, f *listFlags, n int) error {
	if isURL(queue) {
		return a.peekBroker(ctx, queue, side, f, n)
	}
	if err := f.check(); err != nil {
		return err
	}
	return a.messages(ctx, needLook, queue, func(m client.Messages) error {
		out := f.objects(a.out)
		var rows [][]string
		seen := 0
		for one, err := range m.Peek(ctx, side) {
			if err != nil {
				return err
			}
			if seen++; n > 0 && seen > n {
				a.say("there are more than %d; -n 0 shows all", n)
				break
			}
			if f.output == "table" {
				rows = append(rows, messageRow(&one))
			} else if err := out.add(newMessageObject(&one)); err != nil {
				return err
			}
		}
		if f.output != "table" {
			return out.close()
		}
		if len(rows) == 0 {
			a.say("there are no %s", side)
			return nil
		}
		return format.Table(a.out, messageColumns, rows)
	})
}

// messageColumns are those of messageRow.
var messageColumns = []string{"ID", "CORRELATION", "SENT", "ATTEMPTS", "SIZE", "BODY", "REASON"}

// shownBody is how much of a body a table shows, in characters.
const shownBody = 40

func messageRow(m *client.Message) []string {
	body := strconv.Quote(string(m.Body))
	body = body[1 : len(body)-1]
	if utf8.RuneCountInString(body) > shownBody {
		body = string([]rune(body)[:shownBody-1]) + "…"
	}
	reason := m.Reason
	if m.Missing != "" {
		reason = m.Missing
	}
	return []string{m.ID, m.Correlation, moment(m.Sent), blankZero(int64(m.Attempts)), quantity.Size(int64(len(m.Body))), body, reason}
}

func newQueuePurge(a *app) *cobra.Command {
	f, place, claims, yes := &sideFlags{}, boxFlags{}, &claimsFlags{}, false
	cmd := &cobra.Command{
		Use: "purge NAME --requests|--responses|--dead|--yes", Short: "remove what waits in a queue, for good",
		Long: `purge removes one's own messages from a queue, for good: with --requests those that have
no answer, with --responses the answers, with --dead the dead letters. What is to go
must be named. Requests go with the jobs that they were sent in: what runs of those is
ended. Jobs of the queue that are no messages stay.

NAME can be the URL of a broker's queue: then --yes removes all messages that wait there,
whoever sent them, and --dead its dead letters. What somebody has, or gave back for
later, stays. With --claims their large bodies go, too; without they stay where they are.`,
		Example: "  navvy queue purge scores --dead\n  navvy queue purge redis://localhost/requests --yes",
		Args:    place.args(0), ValidArgsFunction: a.completeQueues,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, _, err := place.place(a, args)
			switch {
			case err != nil:
				return err
			case isURL(name):
				return a.purgeBroker(cmd.Context(), name, f, claims, yes)
			case claims.given() != "":
				return claims.unused()
			case len(f.sides()) == 0:
				return usagef("queue purge: say what is to go, with --requests, --responses or --dead")
			}
			return a.messages(cmd.Context(), needSteer, name, func(m client.Messages) error {
				for _, side := range f.sides() {
					n, err := m.Purge(cmd.Context(), side)
					if err != nil {
						return err
					}
					a.say("%d %s are removed", n, side)
				}
				return nil
			})
		},
	}
	f.add(cmd)
	place.add(cmd)
	cmd.Flags().StringVar(&claims.place, "claims", "", "of a broker's queue with ?envelope=json in the URL: remove the bodies, too, that messages have at this `PLACE`, a folder such as share://NAME/FOLDER or s3://BUCKET/FOLDER (default $"+claimsVariable+")")
	cmd.Flags().BoolVar(&yes, "yes", false, "of a broker's queue: yes, all that waits is to go")
	return cmd
}

func newQueueRedrive(a *app) *cobra.Command {
	place := boxFlags{}
	cmd := &cobra.Command{
		Use: "redrive NAME [ID…]", Short: "send dead letters of a queue again: those that are named, or all",
		Long: `redrive makes dead letters requests again. NAME can be the URL of a broker's queue, or that
of its dead letters: each is confirmed in its queue, as it was sent, before it leaves the
dead letters. A crash between leaves it in both.`,
		Example: "  navvy queue redrive scores\n  navvy queue redrive scores 7k2m9c3x8d0q/4\n  navvy queue redrive redis://localhost/requests",
		Args:    place.args(-1), ValidArgsFunction: a.completeQueues,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, ids, err := place.place(a, args)
			if err != nil {
				return err
			}
			if isURL(name) {
				return a.redriveBroker(cmd.Context(), name, ids)
			}
			return a.messages(cmd.Context(), needBehind, name, func(m client.Messages) error {
				n, fresh, err := m.Redrive(cmd.Context(), ids...)
				if errors.Is(err, navvy.ErrNotFound) {
					return withHint(err, "navvy queue dlq %s lists the dead letters", name)
				} else if err != nil {
					return err
				}
				a.say("%d dead letters are sent again", n)
				for _, id := range fresh {
					a.say("as %s", id)
				}
				return nil
			})
		},
	}
	place.add(cmd)
	return cmd
}
