package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
)

// messages calls fn with the caller's messages in a queue.
func (a *app) messages(ctx context.Context, n need, queue string, fn func(client.Messages) error) error {
	if err := navvy.ValidateQueue(queue); err != nil {
		return &usageError{err}
	}
	return a.with(ctx, n, func(c *conn) error { return fn(c.Messages(queue)) })
}

// Bounds of one call that sends.
const (
	sendTogether      = 1000
	sendTogetherBytes = 1 << 20
	maxSentLine       = 16 << 20 // bytes, with its end
)

func newQueueSend(a *app) *cobra.Command {
	var o client.SendOptions
	var file, correlation, output string
	var place boxFlags
	var claims claimsFlags
	priority := 0
	cmd := &cobra.Command{
		Use: "send [flags] NAME [BODY…]", Short: "send messages to the service of a queue, or to a broker's queue",
		Long: `send puts messages into a queue that has a service (navvy queue create --service), and
prints their ids when they are durable. Each argument is a message; without any, each
line of standard input, or of a file. navvy queue recv receives the answers.

NAME can be the URL of a broker's queue: then the broker has confirmed them.`,
		Example: `  navvy queue send scores '{"user": 7}'
  navvy queue send scores -a requests.jsonl > ids
  echo hello | navvy queue send scores --correlation order-9
  navvy queue send redis://localhost/requests hello`,
		Args: place.args(-1), ValidArgsFunction: a.completeQueues,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Priority = int32(priority)
			name, bodies, err := place.place(a, args)
			switch {
			case err != nil:
				return err
			case output != "text" && output != "json" && output != "jsonl":
				return usagef("-o %s: want text, json or jsonl", output)
			case len(bodies) > 0 && file != "":
				return usagef("queue send: give messages as arguments or with -a, not both")
			case int(o.Priority) != priority:
				return usagef("--priority %d: want a number of 32 bits", priority)
			}
			if err := a.makeData(); err != nil {
				return err
			}
			return a.letters(cmd.Context(), needBehind, name, 0, &claims, func(m letterbox) error {
				s := &sending{app: a, m: m, o: o, correlation: correlation, output: output, objects: objects{w: a.out, array: output == "json"}}
				return s.run(cmd.Context(), bodies, file)
			})
		},
	}
	place.add(cmd)
	claims.add(cmd.Flags())
	cmd.Flags().StringVarP(&file, "arg-file", "a", "", "a message is a line of this `FILE`; - for standard input")
	cmd.Flags().StringVar(&correlation, "correlation", "", "the correlation `ID` of the messages, which their answers carry")
	cmd.Flags().IntVar(&priority, "priority", 0, "higher ones are served first")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "how ids are printed: text, json or jsonl")
	return cmd
}

// sending is a call of queue send.
type sending struct {
	app         *app
	m           letterbox
	o           client.SendOptions
	correlation string
	output      string
	objects     objects

	batch []client.OutMessage
	bytes int
}

func (s *sending) run(ctx context.Context, bodies []string, file string) (err error) {
	if s.output != "text" {
		defer func() { err = errors.Join(err, s.objects.close()) }()
	}
	for _, b := range bodies {
		if err := s.add(ctx, []byte(b)); err != nil {
			return err
		}
	}
	if len(bodies) > 0 {
		return s.flush(ctx)
	}
	from := s.app.in
	if file != "" && file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return usagef("-a %s: %w", file, err)
		}
		defer f.Close()
		from = f
	}
	return errors.Join(s.lines(ctx, from), s.flush(ctx))
}

// lines takes the lines of a file, which are messages.
func (s *sending) lines(ctx context.Context, from io.Reader) error {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, maxSentLine)
	n := 1
	for ; lines.Scan(); n++ {
		if err := s.add(ctx, append([]byte{}, lines.Bytes()...)); err != nil {
			return err
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return usagef("line %d: a message that is a line has less than %d MiB; those before it are sent", n, maxSentLine>>20)
	case err != nil:
		return fmt.Errorf("read messages: %w", err)
	}
	return nil
}

// add takes one message, and sends when there are many.
func (s *sending) add(ctx context.Context, body []byte) error {
	s.batch = append(s.batch, client.OutMessage{Correlation: s.correlation, Body: body})
	if s.bytes += len(body); len(s.batch) < sendTogether && s.bytes < sendTogetherBytes {
		return nil
	}
	return s.flush(ctx)
}

// sentObject is a sent message in JSON.
type sentObject struct {
	ID          string `json:"id"`
	Correlation string `json:"correlation,omitempty"`
}

func (s *sending) flush(ctx context.Context) error {
	if len(s.batch) == 0 {
		return nil
	}
	ids, err := s.m.Send(ctx, s.batch, s.o)
	if errors.Is(err, navvy.ErrNotFound) {
		err = withHint(err, "navvy queue create NAME --service SERVICE gives a new queue one")
	}
	if err != nil {
		return err
	}
	s.batch, s.bytes = nil, 0
	for _, id := range ids {
		if s.output == "text" {
			_, err = fmt.Fprintln(s.app.out, id)
		} else {
			err = s.objects.add(sentObject{id, s.correlation})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// messageObject is a message in JSON.
type messageObject struct {
	ID          string     `json:"id"`
	Correlation string     `json:"correlation,omitempty"`
	Body        *string    `json:"body,omitempty"`
	Base64      []byte     `json:"base64,omitempty"` // a body that is no UTF-8
	Missing     string     `json:"missing,omitempty"`
	Reason      string     `json:"reason,omitempty"`
	Attempts    int        `json:"attempts"`
	Leased      bool       `json:"leased,omitempty"` // of a broker's: somebody has it
	Sent        *time.Time `json:"sent,omitempty"`
	Answered    *time.Time `json:"answered,omitempty"`
	Receipt     string     `json:"receipt,omitempty"`
}

func newMessageObject(m *client.Message) messageObject {
	o := messageObject{
		ID: m.ID, Correlation: m.Correlation, Missing: m.Missing, Reason: m.Reason, Attempts: m.Attempts,
		Sent: orNil(m.Sent), Answered: orNil(m.Answered), Receipt: m.Receipt,
	}
	if text := string(m.Body); m.Missing == "" && utf8.ValidString(text) {
		o.Body = &text
	} else if m.Missing == "" {
		o.Base64 = m.Body
	}
	return o
}

func newQueueRecv(a *app) *cobra.Command {
	r, place, claims := &recving{app: a}, boxFlags{}, claimsFlags{}
	cmd := &cobra.Command{
		Use: "recv [flags] NAME", Short: "receive answers of a queue's service, or messages of a broker's queue",
		Long: `recv prints answers to messages that were sent to a queue, one a line, and acknowledges
them when they are printed: they are gone then. With --ack=false they come again when
the lease has run out. Whoever prints to a place that may fail prefers -o jsonl, and
acknowledges by the receipt over the API.

It waits for the first answer with --wait; without one in that time it prints nothing,
which is no error.

NAME can be the URL of a broker's queue, of which messages are received as they are. A
broker has two seconds at least.`,
		Example: `  navvy queue recv scores -n 100 --wait 10s
  navvy queue recv scores -o jsonl | jq .correlation
  navvy queue recv redis://localhost/requests.dead -n 0 --ack=false -o jsonl`,
		Args: place.args(0), ValidArgsFunction: a.completeQueues,
		RunE: func(cmd *cobra.Command, args []string) error {
			n := needSteer
			name, _, err := place.place(a, args)
			if err := errors.Join(err, r.check()); err != nil {
				return err
			}
			if r.o.Wait > 0 {
				n = needBehind // so that they are answered
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return r.runAgain(ctx, n, name, &claims)
		},
	}
	place.add(cmd)
	claims.add(cmd.Flags())
	cmd.Flags().IntVarP(&r.n, "max", "n", 1, "so many answers at most; 0 for all that there are")
	cmd.Flags().StringVar(&r.wait, "wait", "", "how long to wait for the first answer, at most 5m (default: not at all)")
	cmd.Flags().StringVar(&r.lease, "lease", "", "how long nobody else receives them (default 1m)")
	cmd.Flags().BoolVar(&r.ack, "ack", true, "acknowledge them when they are printed")
	cmd.Flags().StringVarP(&r.output, "output", "o", "text", "how they are printed: text, or jsonl with everything")
	return cmd
}

// recving is a call of queue recv.
type recving struct {
	app         *app
	n           int
	wait, lease string
	ack         bool
	output      string
	o           client.ReceiveOptions

	got  int      // answers so far
	owed []string // receipts of those that are printed and not acknowledged
}

// runAgain receives over as many holders of the data directory as it takes: one may leave
// between an answer and its acknowledgement.
func (r *recving) runAgain(ctx context.Context, n need, name string, f *claimsFlags) error {
	for {
		before := r.got
		err := r.app.letters(ctx, n, name, r.o.Lease, f, func(m letterbox) error { return r.run(ctx, m) })
		gone := errors.Is(err, navvy.ErrUnavailable) || errors.Is(err, navvy.ErrClosed)
		if !gone || r.got == before || strings.Contains(name, "://") {
			return err
		}
	}
}

func (r *recving) check() (err error) {
	if r.output != "text" && r.output != "jsonl" {
		return usagef("-o %s: want text or jsonl", r.output)
	}
	if r.n < 0 {
		return usagef("-n %d: want a number of answers, or 0 for all", r.n)
	}
	if r.o.Wait, err = durationFlag("wait", r.wait); err != nil {
		return err
	}
	r.o.Lease, err = durationFlag("lease", r.lease)
	return err
}

// receiveTogether is how many answers are received at once.
const receiveTogether = 100

func (r *recving) run(ctx context.Context, m letterbox) error {
	if err := r.settle(ctx, m); err != nil {
		return err
	}
	for r.n == 0 || r.got < r.n {
		if r.o.Max = receiveTogether; r.n > 0 {
			r.o.Max = min(r.n-r.got, receiveTogether)
		}
		list, err := m.Receive(ctx, r.o)
		if err != nil || len(list) == 0 {
			return err
		}
		if err := r.print(list); err != nil {
			return err
		}
		r.got += len(list)
		r.o.Wait = 0 // for the first one only
		if r.ack {
			r.owed = receiptsOf(list)
		}
		if err := r.settle(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// settle acknowledges what is printed.
func (r *recving) settle(ctx context.Context, m letterbox) error {
	if len(r.owed) == 0 {
		return nil
	}
	if err := m.Ack(context.WithoutCancel(ctx), r.owed...); err != nil {
		return withHint(err, "they are printed, and may come again; give a longer --lease")
	}
	r.owed = nil
	return nil
}

func receiptsOf(list []client.Message) (receipts []string) {
	for _, m := range list {
		receipts = append(receipts, m.Receipt)
	}
	return receipts
}

// print writes answers. They must have left this process before they are acknowledged.
func (r *recving) print(list []client.Message) error {
	out := bufio.NewWriter(r.app.out)
	lines := objects{w: out}
	for i := range list {
		m := &list[i]
		var err error
		switch {
		case r.output == "jsonl":
			err = lines.add(newMessageObject(m))
		case m.Missing != "":
			err = fmt.Errorf("the answer to %s cannot be printed: %s: %w", m.ID, m.Missing, navvy.ErrCorrupt)
		default:
			err = writeLine(out, m.Body)
		}
		if err != nil {
			return errors.Join(err, out.Flush())
		}
	}
	return out.Flush()
}

// writeLine writes bytes, with a newline if they end with none.
func writeLine(w io.Writer, body []byte) error {
	if len(body) == 0 || body[len(body)-1] != '\n' {
		body = append(slices.Clip(body), '\n')
	}
	_, err := w.Write(body)
	return err
}
