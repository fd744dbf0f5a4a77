package natsqueue

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/navvy-run/navvy"
)

// Codes of the server's API that the client has no names for.
const (
	codeNoResources      jetstream.ErrorCode = 10023
	codeAccountResources jetstream.ErrorCode = 10002
	codeMemory           jetstream.ErrorCode = 10028
	codeStorage          jetstream.ErrorCode = 10047
	codeStoreFailed      jetstream.ErrorCode = 10077
	codeStreamsLimit     jetstream.ErrorCode = 10027
	codeNotUnique        jetstream.ErrorCode = 10100 // consumers of a work queue whose subjects overlap
	codeMultiple         jetstream.ErrorCode = 10099
	codeOverlap          jetstream.ErrorCode = 10065 // streams
)

// kinds are errors of the client and of the server, and what they mean to us.
var kinds = []struct {
	is, err error
}{
	{nats.ErrAuthorization, navvy.ErrDenied},
	{nats.ErrAuthExpired, navvy.ErrDenied},
	{nats.ErrAuthRevoked, navvy.ErrDenied},
	{nats.ErrPermissionViolation, navvy.ErrDenied},
	{nats.ErrMaxPayload, navvy.ErrInvalid},
	{nats.ErrBadSubject, navvy.ErrInvalid},
	{nats.ErrMaxConnectionsExceeded, navvy.ErrExhausted},
	{nats.ErrMaxAccountConnectionsExceeded, navvy.ErrExhausted},
	{jetstream.ErrJetStreamNotEnabled, navvy.ErrUnsupported},
	{jetstream.ErrJetStreamNotEnabledForAccount, navvy.ErrUnsupported},
	{jetstream.ErrStreamNotFound, navvy.ErrNotFound},
	{jetstream.ErrConsumerNotFound, navvy.ErrNotFound},
	{navvy.ErrDenied, navvy.ErrDenied},
	{navvy.ErrConflict, navvy.ErrConflict},
}

// wrap says what an error means. What is none of the server's answers is a connection that
// is lost.
func (c *conn) wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	what = fmt.Sprintf("natsqueue: %s: %s", c.name, what)
	for _, k := range kinds {
		if errors.Is(err, k.is) {
			return fmt.Errorf("%s: %w: %w", what, err, k.err)
		}
	}
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return answered(what, api)
	}
	if cause := context.Cause(c.ctx); cause != nil && !errors.Is(err, cause) {
		err = errors.Join(err, cause)
	}
	return fmt.Errorf("%s: %w: %w", what, err, navvy.ErrUnavailable)
}

// answered says what an error that the server's API gives means.
func answered(what string, api *jetstream.APIError) error {
	switch api.ErrorCode {
	case codeNoResources, codeAccountResources, codeMemory, codeStorage, codeStoreFailed, codeStreamsLimit:
		return fmt.Errorf("%s: %w: %w", what, api, navvy.ErrExhausted)
	case codeNotUnique, codeMultiple:
		return fmt.Errorf("%s: the stream is a work queue, and has another consumer for the same messages: remove it: %w: %w", what, api, navvy.ErrConflict)
	case codeOverlap, jetstream.JSErrCodeStreamNameInUse, jetstream.JSErrCodeConsumerNameExists, jetstream.JSErrCodeConsumerAlreadyExists:
		return fmt.Errorf("%s: %w: %w", what, api, navvy.ErrConflict)
	case jetstream.JSErrCodeStreamMessageExceedsMaximum:
		return fmt.Errorf("%s: %w: %w", what, api, navvy.ErrInvalid)
	default:
		if api.Code >= 500 { // JetStream of this server is not there yet
			return fmt.Errorf("%s: %w: %w", what, api, navvy.ErrUnavailable)
		}
		return fmt.Errorf("%s: %w", what, api)
	}
}
