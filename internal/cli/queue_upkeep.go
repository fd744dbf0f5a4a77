package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/cli/format"
	"github.com/navvy-run/navvy/queue"
)

// isURL tells whether a queue is a broker's.
func isURL(name string) bool { return strings.Contains(name, "://") }

// upkeep calls fn with a broker's queue, which must be there: to look after one makes none.
func (a *app) upkeep(ctx context.Context, url string, o queue.Options, fn func(*queue.Queue) error) (err error) {
	o.MustExist = true
	q, err := queue.Open(ctx, url, a.brokers(""), &o)
	if errors.Is(err, navvy.ErrNotFound) {
		return withHint(err, "navvy queue send, a worker or navvy map --queue make it")
	} else if err != nil {
		return brokerError(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
		defer cancel()
		err = errors.Join(err, q.Close(ctx))
	}()
	return fn(q)
}

// deadUpkeep is upkeep of the dead letters of a queue; of a queue that has none yet it
// calls fn with nil.
func (a *app) deadUpkeep(ctx context.Context, url string, o queue.Options, fn func(*queue.Queue) error) error {
	dead, err := queue.DeadLetters(url)
	if err != nil {
		return brokerError(err)
	}
	err = a.upkeep(ctx, dead, o, fn)
	if errors.Is(err, navvy.ErrNotFound) {
		return a.upkeep(ctx, url, o, func(*queue.Queue) error { return fn(nil) }) // which must be there
	}
	return err
}

// peekBroker prints what waits in a broker's queue, or its dead letters.
func (a *app) peekBroker(ctx context.Context, url string, side client.Side, f *listFlags, n int) error {
	if err := f.check(); err != nil {
		return err
	}
	switch side {
	case client.Requests:
	case client.Responses:
		return usagef("queue peek: a broker's queue has no answers of its own: give the URL of the queue that they are sent to")
	case client.DeadLetters:
		return a.deadUpkeep(ctx, url, queue.Options{Outstanding: 1}, func(q *queue.Queue) error {
			if q == nil {
				return a.printSeen(nil, side, f)
			}
			list, err := look(ctx, q, n)
			return errors.Join(err, a.printSeen(list, side, f))
		})
	}
	return a.upkeep(ctx, url, queue.Options{Outstanding: 1}, func(q *queue.Queue) error {
		if q.Capabilities().Peek == 0 {
			return withHint(usagef("queue peek: RabbitMQ shows a message only by delivering it, which counts as an attempt: it is not done to messages that are to be worked on"),
				"navvy queue show tells how many wait; navvy queue recv --ack=false delivers some and gives them back; dead letters are shown by navvy queue dlq")
		}
		list, err := q.Peek(ctx, most(n, q))
		if err == nil && (n == 0 || n > len(list)) && len(list) == q.Capabilities().Peek {
			a.say("there may be more: this broker shows %d", len(list))
		}
		return errors.Join(err, a.printSeen(list, side, f))
	})
}

// most is how many messages are asked for; 0 is for all that can be shown.
func most(n int, q *queue.Queue) int {
	if n == 0 {
		return q.Capabilities().Peek
	}
	return n
}

// look shows dead letters. Where the broker shows only what it delivers, each is put behind
// the others instead, so that to look counts for nothing; they come round to where they were.
func look(ctx context.Context, q *queue.Queue, n int) (list []queue.Seen, err error) {
	if q.Capabilities().Peek > 0 {
		return q.Peek(ctx, most(n, q))
	}
	count, err := q.Count(ctx)
	if err != nil {
		return nil, err
	}
	for n == 0 || len(list) < n {
		if int64(len(list)) >= count.Waiting {
			return list, nil
		}
		l, err := next(ctx, q)
		if l == nil || err != nil {
			return list, err
		}
		if err := l.Behind(ctx); err != nil {
			return list, err
		}
		list = append(list, l.Shown())
	}
	return list, nil
}

// next receives one message; nil if there is none.
func next(ctx context.Context, q *queue.Queue) (*queue.Lease, error) {
	waiting, cancel := context.WithTimeout(ctx, brokerWait)
	defer cancel()
	leases, err := q.Receive(waiting, 1)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil, nil //nolint:nilnil // nothing came
	} else if err != nil {
		return nil, err
	}
	return leases[0], nil
}

func (a *app) printSeen(list []queue.Seen, side client.Side, f *listFlags) error {
	out := f.objects(a.out)
	var rows [][]string
	for i := range list {
		s := &list[i]
		m := client.Message{ID: s.ID, Correlation: s.Correlation, Body: s.Body, Missing: s.Missing, Attempts: s.Attempts, Sent: s.Enqueued, Reason: s.Reason}
		if side == client.DeadLetters {
			m.Attempts = s.Tried
		}
		if f.output != "table" {
			o := newMessageObject(&m)
			o.Leased = s.Leased
			if err := out.add(o); err != nil {
				return err
			}
			continue
		}
		if s.Leased {
			m.Reason = cmp.Or(m.Reason, "leased")
		}
		rows = append(rows, messageRow(&m))
	}
	switch {
	case f.output != "table":
		return out.close()
	case len(rows) == 0:
		a.say("there are no %s", side)
		return nil
	}
	return format.Table(a.out, messageColumns, rows)
}

// purgeTogether is how many messages are taken off at once.
const purgeTogether = 1000

// purgeBroker removes what waits in a broker's queue, or its dead letters, and what bodies
// they have at the place that is given.
func (a *app) purgeBroker(ctx context.Context, url string, f *sideFlags, at *claimsFlags, yes bool) (err error) {
	switch {
	case f.requests || f.responses:
		return usagef("queue purge: a broker's queue is one: give its URL and --yes, or --dead for its dead letters")
	case !f.dead && !yes:
		return usagef("queue purge: what waits in %s would be gone for good: give --yes; or --dead, and its dead letters go", redacted(url))
	}
	large, err := a.openClaims(ctx, at, url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, large.close()) }()
	o := large.use(url, &queue.Options{Outstanding: purgeTogether})
	if f.dead {
		return a.deadUpkeep(ctx, url, *o, func(q *queue.Queue) error { return a.purgeQueue(ctx, q, "dead letters") })
	}
	return a.upkeep(ctx, url, *o, func(q *queue.Queue) error { return a.purgeQueue(ctx, q, "messages") })
}

func (a *app) purgeQueue(ctx context.Context, q *queue.Queue, what string) error {
	n := 0
	var err error
	for q != nil && err == nil {
		var leases []*queue.Lease
		waiting, cancel := context.WithTimeout(ctx, brokerWait)
		leases, err = q.Receive(waiting, purgeTogether)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			err = nil
			break
		}
		var done int
		if err == nil {
			done, err = ackAll(ctx, leases)
		}
		n += done
	}
	a.say("%d %s are removed", n, what)
	return err
}

// ackAll acknowledges leases together, and tells of how many that went well. One that was
// lost meanwhile is somebody else's, and no error.
func ackAll(ctx context.Context, leases []*queue.Lease) (n int, err error) {
	answers := make(chan error, len(leases))
	for _, l := range leases {
		go func() { answers <- l.Ack(ctx) }()
	}
	for range leases {
		switch one := <-answers; {
		case one == nil:
			n++
		case !errors.Is(one, navvy.ErrLeaseLost):
			err = one
		}
	}
	return n, err
}

// redriveHeld is how many dead letters are held at once while some of them are looked for.
const redriveHeld = 10_000

// redriveBroker sends dead letters of a broker's queue home: those that are named, or all
// that are there now.
func (a *app) redriveBroker(ctx context.Context, url string, ids []string) error {
	return a.deadUpkeep(ctx, url, queue.Options{Outstanding: redriveHeld}, func(q *queue.Queue) error {
		r := &redriving{q: q, ids: ids, done: map[string]bool{}}
		var err error
		if q != nil {
			err = r.run(ctx)
		}
		a.say("%d dead letters are sent again", r.n)
		if r.stopped {
			a.say("there may be more: they cannot be counted, and an id came twice; call it again for the rest")
		}
		if err == nil && r.left > 0 {
			err = withHint(fmt.Errorf("%s has %d more dead letters, which did not come: %w", redacted(url), r.left, navvy.ErrUnavailable), "somebody has them, or gave them back for later: call it again")
		}
		if missing := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return r.done[id] }); err == nil && len(missing) > 0 {
			err = withHint(fmt.Errorf("%s has no dead letter %s: %w", redacted(url), missing[0], navvy.ErrNotFound), "navvy queue dlq lists the dead letters")
		}
		return err
	})
}

// redriving is a call of queue redrive.
type redriving struct {
	q    *queue.Queue
	ids  []string        // empty for all
	n    int             // that are sent
	done map[string]bool // their ids; several messages may have one
	held []*queue.Lease  // not to be sent, given back at the end
	// stopped says that all were asked for, and that it ended at an id that it had sent.
	stopped bool
	left    int64 // of all that were asked for, those that did not come
}

func (r *redriving) run(ctx context.Context) error {
	defer r.giveBack(ctx)
	there, err := r.count(ctx)
	if err != nil {
		return err
	}
	for seen := int64(0); (len(r.ids) == 0 || len(r.done) < len(r.ids)) && (there == 0 || seen < there) && len(r.held) < redriveHeld; seen++ {
		l, err := next(ctx, r.q)
		switch {
		case err != nil:
			return err
		case l == nil:
			return r.ended(ctx, there)
		case !r.wants(l.ID()):
			r.held = append(r.held, l)
			continue
		case there == 0 && r.done[l.ID()]: // it may have failed again already
			r.held, r.stopped = append(r.held, l), true
			return nil
		}
		if err := l.Redrive(ctx); err != nil {
			return err
		}
		r.n++
		r.done[l.ID()] = true
	}
	return nil
}

// count is how many dead letters there are, also those that somebody has or gave back, as
// far as the broker tells; 0 if nobody knows.
func (r *redriving) count(ctx context.Context) (int64, error) {
	n, err := r.q.Count(ctx)
	if errors.Is(err, navvy.ErrDenied) { // who may receive may not always count
		return 0, nil
	}
	return max(n.Waiting, 0) + max(n.Leased, 0), err
}

// ended finds out how many are left when no more come, of those that were there. What has
// gone meanwhile went elsewhere, and what is there beyond them came later.
func (r *redriving) ended(ctx context.Context, there int64) error {
	if len(r.ids) > 0 {
		return nil
	}
	now, err := r.count(ctx)
	r.left = max(min(now, there-int64(r.n)), 0)
	return err
}

// wants tells whether a dead letter of this id is to be sent: of those that are named one each.
func (r *redriving) wants(id string) bool {
	return len(r.ids) == 0 || slices.Contains(r.ids, id) && !r.done[id]
}

func (r *redriving) giveBack(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
	defer cancel()
	for _, l := range r.held {
		_ = l.Nack(ctx, 0) // else it comes again when its lease is over
	}
}

// countObject is how many messages a broker's queue has; a number that the broker does not
// tell is missing.
type countObject struct {
	Queue   string `json:"queue"`
	Waiting *int64 `json:"waiting,omitempty"`
	Leased  *int64 `json:"leased,omitempty"`
	Dead    *int64 `json:"dead,omitempty"`
	// Apart says that Waiting is without those that somebody has.
	Apart bool `json:"leased_apart"`
}

func newQueueShow(a *app) *cobra.Command {
	f, place := &listFlags{}, boxFlags{}
	cmd := &cobra.Command{
		Use: "show [flags] NAME", Short: "show one queue: its settings and what is in it, or how many messages a broker's queue has",
		Long: `show tells all about one queue. Of a queue that is attached to a broker's it says what
is wrong with that, if something is.

NAME can be the URL of a broker's queue: then it tells how many messages wait there, how
many somebody has, and how many dead letters there are, as far as the broker tells.`,
		Example: "  navvy queue show scores\n  navvy queue show redis://localhost/requests -o json",
		Args:    place.args(0), ValidArgsFunction: a.completeQueues,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, _, err := place.place(a, args)
			if err := errors.Join(err, f.check()); err != nil {
				return err
			}
			if isURL(name) {
				return a.showBroker(cmd.Context(), name, f)
			}
			if err := navvy.ValidateQueue(name); err != nil {
				return &usageError{err}
			}
			return a.with(cmd.Context(), needLook, func(c *conn) error { return a.showQueue(cmd.Context(), c, name, f) })
		},
	}
	place.add(cmd)
	f.add(cmd)
	return cmd
}

func (a *app) showBroker(ctx context.Context, url string, f *listFlags) error {
	return a.upkeep(ctx, url, queue.Options{Outstanding: 1}, func(q *queue.Queue) error {
		n, err := q.Count(ctx)
		if errors.Is(err, navvy.ErrDenied) {
			return withHint(err, "these credentials may use the queue, and not count what is in it")
		} else if err != nil {
			return err
		}
		o := countObject{Queue: q.Name(), Waiting: known(n.Waiting), Leased: known(n.Leased), Dead: known(n.Dead), Apart: q.Capabilities().Waiting}
		if f.output != "table" {
			return f.one(a.out, o)
		}
		row := []string{o.Queue}
		for _, n := range []*int64{o.Waiting, o.Leased, o.Dead} {
			text := "?"
			if n != nil {
				text = strconv.FormatInt(*n, 10)
			}
			row = append(row, text)
		}
		columns := []string{"QUEUE", "WAITING", "LEASED", "DEAD"}
		if !o.Apart {
			columns[1] = "WAITING OR LEASED"
		}
		return format.Table(a.out, columns, [][]string{row})
	})
}

// known is a number that the broker tells; nil for one that it does not.
func known(n int64) *int64 {
	if n < 0 {
		return nil
	}
	return &n
}
