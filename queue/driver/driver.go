// Package driver is what a broker must offer to carry navvy's requests and responses.
// The contract is cut against two unlike ones: RabbitMQ, whose deliveries belong to a
// connection, last as long as it does and come by themselves; and Azure's Storage queues,
// which are asked again and again over HTTP, lend a message for a time, and know neither
// properties nor bytes that are no text. The others lie between.
//
// Whoever implements it passes package drivertest. Package queue is its only caller:
// batching, renewal, back-off, reconnection and the envelope live there, once.
package driver

import (
	"context"
	"net/url"
	"time"
)

// Driver reads a queue's URL, without its user's secrets being told in errors, and
// refuses what it does not know with navvy.ErrInvalid. It connects to nothing: a mistake
// is told before anything happens. The options that are the same for all brokers are no
// longer in the URL.
type Driver func(u *url.URL, o *Options) (Dial, error)

// Dial connects to the broker and finds the queue, or makes it if Options.Create says so.
// What does not exist is navvy.ErrNotFound, who may not come navvy.ErrDenied, a queue that
// is there with other settings navvy.ErrConflict; whatever may be better later is
// navvy.ErrUnavailable. ctx bounds the call, not the queue.
type Dial func(ctx context.Context) (Queue, error)

// Options are what package queue asks of a broker. All are set.
type Options struct {
	// Lease is how long a delivery stays with whoever received it, unless it is renewed.
	// A broker that keeps leases in another way says so in its Capabilities.
	Lease time.Duration
	// Outstanding is how many deliveries are held at once, at most: what a broker that
	// sends by itself may send ahead.
	Outstanding int
	// Create makes the queue, and the one of its dead letters, where they are missing.
	Create bool
}

// Queue is a connection to one queue. All methods but Close may be called at once. A
// method that fails with navvy.ErrUnavailable may have lost the connection: package queue
// closes the Queue then, and dials again. Other errors leave it as it is. navvy.ErrExhausted
// is the broker's wish to be left alone for a while. ctx bounds each call; one that ends
// while a broker works leaves open whether it was done.
type Queue interface {
	// Capabilities says what this broker can do for this queue. It does not change.
	Capabilities() Capabilities

	// Send hands in messages, in their order, and returns when the broker has
	// confirmed them: they survive its restart, if the queue is durable. Its errors are
	// one for each message, or nil if all went well. A body beyond the broker's bounds is
	// navvy.ErrInvalid, and nothing of it is sent.
	Send(ctx context.Context, ms []*Message) []error

	// Receive gives at least one delivery and at most max, as soon as there is one; it
	// waits for it without polling if the broker lets it. When ctx ends it gives none and
	// no error, or what it has. A delivery that is given to nobody goes back.
	Receive(ctx context.Context, max int) ([]*Delivery, error)

	// Ack takes messages off the queue for good: they have been answered. Its errors are
	// one for each, or nil; a delivery that somebody else may have by now is
	// navvy.ErrLeaseLost, as far as the broker tells.
	Ack(ctx context.Context, ds []*Delivery) []error

	// Renew has the leases of deliveries begin anew, and sets their Until. Errors as of Ack.
	// It is not called where leases are of a connection (Capabilities.Held).
	Renew(ctx context.Context, ds []*Delivery) []error

	// Nack gives a message back, to be delivered again after the delay, or at once where
	// the broker cannot wait (Capabilities.Delay): package queue holds it meanwhile.
	Nack(ctx context.Context, d *Delivery, delay time.Duration) error

	// DeadLetter moves a message to the queue of dead letters, whose name the driver
	// documents. A crash between leaves it in one of the two, or in both, never in none.
	DeadLetter(ctx context.Context, d *Delivery, reason string) error

	// Close ends the connection; deliveries that it holds go back to the queue. Calls that
	// wait end. It is called once. If leases are of the connection (Capabilities.Held) an
	// error says that the broker may not have had all acknowledgements; one that wraps
	// navvy.ErrUnavailable that the connection was lost before, or at the end.
	Close() error

	Upkeep
}

// Message is what is sent.
type Message struct {
	// ID names the message; never empty. A broker that can forget a second one of the
	// same ID does.
	ID string
	// Correlation is the ID of the request that a response answers; empty for none.
	Correlation string
	// Body is exactly what the user gave. It is not changed, nor kept after the call.
	Body []byte
}

// Delivery is a message that was received.
type Delivery struct {
	// ID is that of the sender where the broker keeps it, else one that the broker gave.
	// It is the same at each delivery of a message.
	ID string
	// Correlation is what the sender set, if Capabilities.Correlation.
	Correlation string
	// Reason is why a message is among the dead letters, if Capabilities.Reason.
	Reason string
	// Tried is how often a dead letter had been delivered before it became one; 0 where
	// nobody knows.
	Tried int
	// Body is the receiver's own.
	Body []byte
	// Attempt counts the deliveries of this message from 1, also those that ended in a
	// crash; 0 if the broker does not count (Capabilities.Attempts).
	Attempt int
	// Enqueued is when the message came to the broker, or was made by its sender; zero if
	// nobody knows.
	Enqueued time.Time
	// Until is when the lease ends unless it is renewed, by this machine's clock and
	// rather too early; zero for Capabilities.Held.
	Until time.Time
	// Lost ends, with a cause that wraps navvy.ErrLeaseLost, when the lease is lost though
	// nobody has asked; nil if this broker does not tell. Many deliveries may share one.
	Lost context.Context //nolint:containedctx // of the lease

	// Token is the driver's own. It is used again after a new dial unless the lease
	// belonged to the connection; then what uses it fails with navvy.ErrLeaseLost.
	Token any
}

// Capabilities are what brokers differ in. The suite asserts what a broker lacks, too.
type Capabilities struct {
	// Correlation: a message carries its correlation id, and the ID of its sender, beside
	// the body.
	Correlation bool
	// Reason: a dead letter carries why it is one.
	Reason bool
	// Attempts: deliveries are counted.
	Attempts bool
	// Delay: Nack can wait.
	Delay bool
	// Binary: bodies are any bytes; without it, text that XML can carry.
	Binary bool
	// Held: a delivery is leased as long as the connection lasts, and lost with it; there
	// is no time to renew.
	Held bool
	// Detects: whoever acknowledges or renews a lease that is lost is told, at once.
	Detects bool
	// Peek is how many messages Peek shows at most; 0 where it cannot show any.
	Peek int
	// Waiting: Count tells those that wait from those that somebody has.
	Waiting bool
	// MaxBody is how long a body may be, in bytes.
	MaxBody int
	// MaxBatch is how many messages go together into one Send, Ack or Renew; at least 1.
	MaxBatch int
}

// Each is the errors of n messages that fail for one reason; nil if there is none.
func Each(n int, err error) []error {
	if err == nil {
		return nil
	}
	errs := make([]error, n)
	for i := range errs {
		errs[i] = err
	}
	return errs
}
