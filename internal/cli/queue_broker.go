package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/queue"
)

// letterbox is what queue send sends to: one's own messages in a queue, or a broker's queue.
type letterbox interface {
	Send(ctx context.Context, messages []client.OutMessage, o client.SendOptions) (ids []string, err error)
	Receive(ctx context.Context, o client.ReceiveOptions) ([]client.Message, error)
	Ack(ctx context.Context, receipts ...string) error
}

// boxFlags say which queue is meant, of navvy or of a broker.
type boxFlags struct{ file string }

func (f *boxFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.file, "url-file", "", "a `FILE` with the URL of a broker's queue, for one with a password, in place of NAME; - for standard input")
}

// args checks that a queue is named, and that so many further arguments are there at most; negative for any number.
func (f *boxFlags) args(further int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		least := 1
		if f.file != "" {
			least = 0
		}
		if further < 0 {
			return cobra.MinimumNArgs(least)(cmd, args)
		}
		return cobra.RangeArgs(least, least+further)(cmd, args)
	}
}

// place is the name or the URL of the queue, and the arguments behind it.
func (f *boxFlags) place(a *app, args []string) (name string, rest []string, err error) {
	if f.file != "" {
		name, err = a.urlFlag("url", "", f.file, "")
		return name, args, err
	}
	name = args[0]
	if strings.Contains(name, "://") {
		name, err = a.urlFlag("url", name, "", "")
	}
	return name, args[1:], err
}

// letters calls fn with the messages of a queue, of navvy's own or of a broker's.
func (a *app) letters(ctx context.Context, n need, name string, lease time.Duration, f *claimsFlags, fn func(letterbox) error) (err error) {
	if !isURL(name) {
		if err := f.unused(); err != nil {
			return err
		}
		return a.messages(ctx, n, name, func(m client.Messages) error { return fn(m) })
	}
	large, err := a.openClaims(ctx, f, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, large.close()) }()
	q, err := queue.Open(ctx, name, a.brokers(""), large.use(name, &queue.Options{Lease: lease, Outstanding: receiveTogether}))
	if err != nil {
		return brokerError(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
		defer cancel()
		err = errors.Join(err, q.Close(ctx))
	}()
	return fn(&brokerBox{q: q, together: large.together(), leases: map[string]*queue.Lease{}})
}

// brokerBox is a broker's queue.
type brokerBox struct {
	q        *queue.Queue
	together int                     // how many messages are received at once, at most
	leases   map[string]*queue.Lease // that are not acknowledged, by receipt
}

// Send implements letterbox.
func (b *brokerBox) Send(ctx context.Context, messages []client.OutMessage, o client.SendOptions) ([]string, error) {
	if o.Priority != 0 {
		return nil, usagef("--priority: a broker's queue has none")
	}
	ids, out := make([]string, len(messages)), make([]queue.Message, len(messages))
	for i, m := range messages {
		ids[i] = rand.Text()
		out[i] = queue.Message{ID: ids[i], Correlation: m.Correlation, Body: m.Body}
	}
	return ids, b.q.Send(ctx, out...)
}

// brokerWait is how long a broker may take to bring what it has.
const brokerWait = 2 * time.Second

// Receive implements letterbox.
func (b *brokerBox) Receive(ctx context.Context, o client.ReceiveOptions) ([]client.Message, error) {
	waiting, cancel := context.WithTimeout(ctx, max(o.Wait, brokerWait))
	defer cancel()
	leases, err := b.q.Receive(waiting, min(o.Max, b.together))
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	list := make([]client.Message, len(leases))
	for i, l := range leases {
		receipt := rand.Text()
		b.leases[receipt] = l
		list[i] = client.Message{
			ID: l.ID(), Correlation: l.Correlation(), Attempts: l.Attempt(),
			Sent: l.Enqueued(), Reason: l.Reason(), Receipt: receipt,
		}
		if list[i].Body, err = l.Body(ctx); isGone(err) {
			list[i].Missing = err.Error()
		} else if err != nil {
			return nil, errors.Join(err, giveBack(ctx, leases))
		}
	}
	return list, nil
}

// isGone tells whether nobody will ever have the body of a message again.
func isGone(err error) bool {
	return errors.Is(err, navvy.ErrNotFound) || errors.Is(err, navvy.ErrCorrupt) || errors.Is(err, navvy.ErrInvalid)
}

// giveBack gives messages back at once, for somebody else.
func giveBack(ctx context.Context, leases []*queue.Lease) (err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
	defer cancel()
	for _, l := range leases {
		err = errors.Join(err, l.Nack(ctx, 0))
	}
	return err
}

// Ack implements letterbox.
func (b *brokerBox) Ack(ctx context.Context, receipts ...string) error {
	var errs []error
	for _, r := range receipts {
		l := b.leases[r]
		if l == nil {
			errs = append(errs, fmt.Errorf("receipt %.100q: it is of no message that is held: %w", r, navvy.ErrLeaseLost))
			continue
		}
		delete(b.leases, r)
		errs = append(errs, l.Ack(ctx))
	}
	return errors.Join(errs...)
}
