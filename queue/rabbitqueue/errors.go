package rabbitqueue

import (
	"context"
	"errors"
	"fmt"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/navvy-run/navvy"
)

// classify wraps what the broker or the connection said with the sentinel that tells what
// to do about it. Whatever the broker did not say is the connection's.
func classify(err error) error {
	if err == nil || isClassified(err) {
		return err
	}
	said, ok := errors.AsType[*amqp.Error](err)
	if !ok || !said.Server {
		return fmt.Errorf("%w: %w", err, navvy.ErrUnavailable)
	}
	return fmt.Errorf("%s: %w", said.Reason, meaning(said))
}

// isClassified tells whether an error says already what to do.
func isClassified(err error) bool {
	for _, known := range []error{
		navvy.ErrUnavailable, navvy.ErrLeaseLost, navvy.ErrInvalid, navvy.ErrNotFound, navvy.ErrConflict, navvy.ErrDenied,
		context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// meaning is the sentinel of the broker's code. Some codes have several meanings, which
// only the text tells apart.
func meaning(said *amqp.Error) error {
	has := func(texts ...string) bool {
		for _, text := range texts {
			if strings.Contains(said.Reason, text) {
				return true
			}
		}
		return false
	}
	switch said.Code {
	case amqp.AccessRefused:
		return navvy.ErrDenied
	case amqp.NotFound:
		if has("down or inaccessible", "timeout", "stopped by supervisor") {
			return navvy.ErrUnavailable // it exists, on a node that does not answer
		}
		return navvy.ErrNotFound
	case amqp.NotAllowed: // of a virtual host
		switch {
		case has("not found"):
			return navvy.ErrNotFound
		case has("limit"):
			return navvy.ErrExhausted
		case has("down"):
			return navvy.ErrUnavailable
		}
		return navvy.ErrDenied
	case amqp.PreconditionFailed:
		if has("larger than") {
			return navvy.ErrInvalid
		}
		return navvy.ErrConflict
	case amqp.ResourceLocked:
		return navvy.ErrConflict
	case amqp.ResourceError:
		return navvy.ErrExhausted
	case amqp.NotImplemented:
		return navvy.ErrUnsupported
	default:
		return navvy.ErrUnavailable
	}
}
