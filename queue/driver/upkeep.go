package driver

import "context"

// Upkeep is what those who look after a queue do with it. Its methods are called as those
// of Queue are.
type Upkeep interface {
	// Peek shows messages that wait, the oldest first, at most so many and at most
	// Capabilities.Peek; no delivery of them is counted, and nobody else waits for them.
	// Where the broker shows those that somebody works on, too, they are among them, with
	// Seen.Leased set as far as it tells. One that cannot show anything without delivering
	// it gives navvy.ErrUnsupported.
	Peek(ctx context.Context, most int) ([]*Seen, error)

	// Count tells how many messages there are; it does not look at each.
	Count(ctx context.Context) (Count, error)

	// Move puts a message that was received behind all others of a queue, with all that its
	// sender gave it. The broker has confirmed it there before it leaves where it was: a
	// crash between leaves it in both, never in none. After an error the message is still
	// the receiver's. A queue that cannot be sent to is navvy.ErrUnsupported; to move Home
	// from a queue of no dead letters is navvy.ErrInvalid.
	Move(ctx context.Context, d *Delivery, to Place) error
}

// Place is where a message is moved to.
type Place int

const (
	// Behind is the end of the queue that it is in: deliveries are counted anew.
	Behind Place = iota
	// Home is the queue whose dead letter it is: it is none there any more, and deliveries
	// are counted anew.
	Home
)

// Seen is a message that was shown, and not delivered.
type Seen struct {
	// Delivery is what it would be; Attempt counts the deliveries that there were, and
	// nothing of it can be settled.
	Delivery
	// Leased says that somebody has it now, or gave it back for later.
	Leased bool
}

// Unknown is a number that the broker does not tell.
const Unknown = -1

// Count is how many messages there are; Unknown is a number that the broker does not tell.
type Count struct {
	// Waiting are those that nobody has; all that are not acknowledged where the broker
	// does not tell them from those that somebody has (Capabilities.Waiting).
	Waiting int64
	// Leased are those that somebody has, or gave back for later.
	Leased int64
	// Dead are its dead letters.
	Dead int64
}
