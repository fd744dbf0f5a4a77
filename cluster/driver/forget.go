package driver

import "context"

// Forgetter is a Driver of clusters with parts where nobody may come any more, such as a machine
// that is gone.
type Forgetter interface {
	// Forget keeps nothing any more of a resource of which Remove has failed with an
	// *AwayError. It is called by whoever has the lock, and calls nobody there.
	Forget(ctx context.Context, cluster string, o *Observed) error
}

// AwayError says that a resource cannot be removed, since where it is nothing can be done: it
// does not answer, lets nobody in, or is not trusted.
type AwayError struct {
	Err error
	// Left is what stays there if it is forgotten, and ByHand the command that removes it once
	// somebody comes there, for people; empty for one that goes with another resource.
	Left, ByHand string
}

// Error implements error.
func (e *AwayError) Error() string { return e.Err.Error() }

// Unwrap gives why.
func (e *AwayError) Unwrap() error { return e.Err }
