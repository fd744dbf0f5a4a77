package servicebusqueue

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"

	"github.com/navvy-run/navvy"
)

// conditions are errors of AMQP and of Service Bus, and what they mean to us. Others are
// those of a connection that is lost.
var conditions = map[amqp.ErrCond]error{
	"com.microsoft:message-lock-lost":     navvy.ErrLeaseLost,
	"com.microsoft:server-busy":           navvy.ErrExhausted,
	"com.microsoft:timeout":               navvy.ErrExhausted,
	"com.microsoft:entity-disabled":       navvy.ErrConflict,
	amqp.ErrCondResourceLimitExceeded:     navvy.ErrExhausted, // the queue is full
	amqp.ErrCondTransferLimitExceeded:     navvy.ErrUnavailable,
	amqp.ErrCondMessageSizeExceeded:       navvy.ErrInvalid,
	amqp.ErrCondUnauthorizedAccess:        navvy.ErrDenied,
	amqp.ErrCondNotFound:                  navvy.ErrNotFound,
	amqp.ErrCondNotAllowed:                navvy.ErrConflict, // as of a queue with sessions
	"com.microsoft:argument-error":        navvy.ErrInvalid,
	"com.microsoft:entity-already-exists": navvy.ErrConflict,
}

// codes are those that the SDK itself gives errors.
var codes = map[azservicebus.Code]error{
	azservicebus.CodeLockLost:           navvy.ErrLeaseLost,
	azservicebus.CodeTimeout:            navvy.ErrExhausted,
	azservicebus.CodeUnauthorizedAccess: navvy.ErrDenied,
	azservicebus.CodeNotFound:           navvy.ErrNotFound,
}

// status is what an answer to a request means, over AMQP or HTTP.
func status(code int) error {
	switch {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return navvy.ErrDenied
	case code == http.StatusNotFound:
		return navvy.ErrNotFound
	case code == http.StatusConflict:
		return navvy.ErrConflict
	case code == http.StatusGone:
		return navvy.ErrLeaseLost
	case code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable || code == http.StatusRequestTimeout:
		return navvy.ErrExhausted
	case code >= http.StatusInternalServerError:
		return navvy.ErrUnavailable
	default:
		return navvy.ErrInvalid
	}
}

// failed says what went wrong, in the words of package navvy.
func (s *settings) failed(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	what = "servicebusqueue: " + s.name + ": " + what
	if s.dead {
		what = "servicebusqueue: " + s.name + DeadSuffix + ": " + what
	}
	meaning := meaningOf(err)
	switch {
	case meaning == nil && ctx.Err() != nil:
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	case meaning == nil:
		meaning = navvy.ErrUnavailable
	}
	if errors.Is(meaning, navvy.ErrDenied) {
		what += ": check the connection string, or the rights of the identity, and this machine's clock"
	}
	if answer, ok := errors.AsType[*azcore.ResponseError](err); ok { // which quotes the request
		return fmt.Errorf("%s: the service answers %d %s: %w", what, answer.StatusCode, answer.ErrorCode, meaning)
	}
	if errors.Is(err, meaning) {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w: %w", what, err, meaning)
}

// meaningOf is the sentinel of what the service or the SDK said; nil if it was neither.
func meaningOf(err error) error {
	if said, ok := errors.AsType[*amqp.Error](err); ok {
		if meaning, ok := conditions[said.Condition]; ok {
			return meaning
		}
	}
	if said, ok := errors.AsType[*azservicebus.Error](err); ok {
		if meaning, ok := codes[said.Code]; ok {
			return meaning
		}
	}
	if said, ok := errors.AsType[interface {
		error
		RPCCode() int
	}](err); ok {
		return status(said.RPCCode())
	}
	if said, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return status(said.StatusCode)
	}
	if errors.Is(err, azservicebus.ErrMessageTooLarge) {
		return navvy.ErrInvalid
	}
	if _, ok := errors.AsType[*azidentity.AuthenticationFailedError](err); ok {
		return navvy.ErrDenied
	}
	return nil
}
