package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

// Messages are the caller's own in one queue of the server's, whose service answers them.
// Its methods may be called at once.
type Messages struct {
	rpc   navvyv1.MessagesClient
	queue string
}

// Messages gives the caller's messages in a queue.
func (c *Client) Messages(queue string) Messages {
	return Messages{rpc: c.messages, queue: api.Text(queue)}
}

// OutMessage is a message to send.
type OutMessage struct {
	// Correlation is what its answer is known by: UTF-8, at most 1024 bytes. It may be empty.
	Correlation string
	Body        []byte // exactly what the service gets
}

// SendOptions say how messages are sent. The zero value is the default.
type SendOptions struct {
	// IdempotencyKey makes a repeated Send give the ids of the first one, and send
	// nothing. Defaults to none.
	IdempotencyKey string
	// Priority is higher for what is served first.
	Priority int32
}

// MaxSend is how many messages one Send takes.
const MaxSend = 10_000

// Send puts at most MaxSend messages into the queue, and returns their ids, JOB/INDEX in
// their order, when they are durable. navvy.ErrNotFound says that the queue has no service
// that answers them.
func (m Messages) Send(ctx context.Context, messages []OutMessage, o SendOptions) (ids []string, err error) {
	req := &navvyv1.SendRequest{Queue: m.queue, IdempotencyKey: api.Text(o.IdempotencyKey), Priority: o.Priority}
	for i, one := range messages {
		if !utf8.ValidString(one.Correlation) {
			return nil, fmt.Errorf("send: the correlation id of message %d is not UTF-8: %w", i, navvy.ErrInvalid)
		}
		req.Messages = append(req.Messages, &navvyv1.OutMessage{CorrelationId: one.Correlation, Body: one.Body})
	}
	resp, err := m.rpc.Send(ctx, req)
	return resp.GetIds(), api.FromWire(err)
}

// ReceiveOptions say how responses are received. The zero value is the default.
type ReceiveOptions struct {
	// Max is how many are received at once, at most 1000. Defaults to 1.
	Max int
	// Lease is how long nobody else receives them, a second to 12 hours. Defaults to a minute.
	Lease time.Duration
	// Wait is how long to wait for the first one, at most 5 minutes. Defaults to not at all.
	Wait time.Duration
}

// Message is a message that waits.
type Message struct {
	ID          string // JOB/INDEX
	Correlation string
	// Body is, of a response, what the service answered; else what was sent.
	Body     []byte
	Receipt  string // what acknowledges it, of one that was received
	Attempts int    // how many there were at it
	Sent     time.Time
	Answered time.Time // or failed; zero for a request
	Reason   string    // why it is a dead letter
	// Missing is why the body is not here: it is too large, or damaged. Empty if it is.
	Missing string
}

// Receive leases responses: those that there are, or, if there are none, the first ones
// that come while it waits. There may be none in the end. Whoever has dealt with one
// acknowledges it before its lease runs out; else it comes again.
func (m Messages) Receive(ctx context.Context, o ReceiveOptions) ([]Message, error) {
	req := &navvyv1.ReceiveRequest{Queue: m.queue, Max: int32(min(o.Max, 1<<30))}
	if o.Lease != 0 {
		req.Lease = durationpb.New(o.Lease)
	}
	if o.Wait != 0 {
		req.Wait = durationpb.New(o.Wait)
	}
	resp, err := m.rpc.Receive(ctx, req)
	return toMessages(resp.GetMessages()), api.FromWire(err)
}

// Ack takes responses that were received off the queue for good, by their receipts, and
// returns when that is durable. What is gone already is no error; what somebody else has
// leased meanwhile is navvy.ErrLeaseLost, which names it, and the others are acknowledged.
func (m Messages) Ack(ctx context.Context, receipts ...string) error {
	return inParts(receipts, func(part []string) error {
		_, err := m.rpc.Ack(ctx, &navvyv1.AckRequest{Queue: m.queue, Receipts: part})
		return api.FromWire(err)
	})
}

// Release gives responses that were received back, to be received again after a delay.
// Errors are as of Ack.
func (m Messages) Release(ctx context.Context, delay time.Duration, receipts ...string) error {
	return inParts(receipts, func(part []string) error {
		_, err := m.rpc.Release(ctx, &navvyv1.ReleaseRequest{Queue: m.queue, Receipts: part, Delay: durationpb.New(delay)})
		return api.FromWire(err)
	})
}

// inParts calls fn with as many receipts as a call takes; lost leases are told at the end.
func inParts(receipts []string, fn func(part []string) error) error {
	var lost error
	for part := range slices.Chunk(receipts, MaxSend) {
		err := fn(part)
		if err != nil && !errors.Is(err, navvy.ErrLeaseLost) {
			return err
		}
		lost = errors.Join(lost, err)
	}
	return lost
}

// Side is where messages wait.
type Side string

// The sides of a queue.
const (
	Requests    Side = "requests"     // they have no answer
	Responses   Side = "responses"    // answers that nobody has acknowledged
	DeadLetters Side = "dead letters" // they have failed for good
)

func (s Side) wire() navvyv1.MessageSide {
	switch s {
	case Requests:
		return navvyv1.MessageSide_MESSAGE_SIDE_REQUESTS
	case Responses:
		return navvyv1.MessageSide_MESSAGE_SIDE_RESPONSES
	case DeadLetters:
		return navvyv1.MessageSide_MESSAGE_SIDE_DEAD_LETTERS
	}
	return navvyv1.MessageSide_MESSAGE_SIDE_UNSPECIFIED
}

// Peek shows what waits, those that were sent first at first, and leases nothing. An
// error is the last.
func (m Messages) Peek(ctx context.Context, side Side) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		for page := ""; ; {
			resp, err := m.rpc.Peek(ctx, &navvyv1.PeekRequest{Queue: m.queue, Side: side.wire(), Limit: 1000, Page: page})
			if err != nil {
				yield(Message{}, api.FromWire(err))
				return
			}
			for _, one := range toMessages(resp.GetMessages()) {
				if !yield(one, nil) {
					return
				}
			}
			if page = resp.GetNextPage(); page == "" {
				return
			}
		}
	}
}

// Purge removes what waits, for good, and returns how many messages that were. Requests
// are removed with the jobs that they came in, so that what runs of those is ended.
func (m Messages) Purge(ctx context.Context, side Side) (int64, error) {
	resp, err := m.rpc.Purge(ctx, &navvyv1.PurgeRequest{Queue: m.queue, Side: side.wire()})
	return resp.GetMessages(), api.FromWire(err)
}

// Redrive sends dead letters again, those that are named or all that there are, and
// returns how many. They keep their ids; but those whose job was stopped, or purged,
// become new messages, whose ids it gives.
func (m Messages) Redrive(ctx context.Context, ids ...string) (n int64, fresh []string, err error) {
	resp, err := m.rpc.Redrive(ctx, &navvyv1.RedriveRequest{Queue: m.queue, Ids: ids})
	return resp.GetMessages(), resp.GetIds(), api.FromWire(err)
}

func toMessages(list []*navvyv1.Message) []Message {
	var messages []Message
	for _, m := range list {
		messages = append(messages, Message{
			ID: m.GetId(), Correlation: m.GetCorrelationId(), Body: m.GetBody(), Receipt: m.GetReceipt(),
			Attempts: int(m.GetAttempts()), Sent: toTime(m.GetSent()), Answered: toTime(m.GetAnswered()),
			Reason: m.GetReason(), Missing: m.GetMissing(),
		})
	}
	return messages
}
