package api

import (
	"context"
	"errors"
	"net/http"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/navvy-run/navvy"
)

// Exit codes of the command line that are not a task's own; those above 64 are of sysexits(3).
const (
	ExitOK          = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitCorrupt     = 65
	ExitUnavailable = 69
	ExitInternal    = 70
	ExitExhausted   = 73
	ExitDenied      = 77
	ExitTimeout     = 124
	ExitCannotRun   = 126
	ExitNotFound    = 127
	ExitInterrupted = 130
)

// mapping is one row of the table.
type mapping struct {
	err  error
	code codes.Code
	http int
	exit int
}

// table has each sentinel once and each code once, so that an error survives the
// wire. The first row that fits an error counts.
var table = []mapping{
	{navvy.ErrNotFound, codes.NotFound, http.StatusNotFound, ExitFailed},
	{navvy.ErrExists, codes.AlreadyExists, http.StatusConflict, ExitFailed},
	{navvy.ErrInvalid, codes.InvalidArgument, http.StatusBadRequest, ExitUsage},
	{navvy.ErrConflict, codes.Aborted, http.StatusConflict, ExitFailed},
	{navvy.ErrLeaseLost, codes.FailedPrecondition, http.StatusPreconditionFailed, ExitFailed},
	{navvy.ErrUnsupported, codes.Unimplemented, http.StatusNotImplemented, ExitFailed},
	{navvy.ErrDenied, codes.PermissionDenied, http.StatusForbidden, ExitDenied},
	{navvy.ErrExhausted, codes.ResourceExhausted, http.StatusInsufficientStorage, ExitExhausted},
	{navvy.ErrCorrupt, codes.DataLoss, http.StatusInternalServerError, ExitCorrupt},
	{navvy.ErrUnavailable, codes.Unavailable, http.StatusServiceUnavailable, ExitUnavailable},
	{navvy.ErrClosed, codes.Canceled, 499, ExitUnavailable},
	{context.DeadlineExceeded, codes.DeadlineExceeded, http.StatusGatewayTimeout, ExitUnavailable},
}

func lookup(err error) (mapping, bool) {
	for _, row := range table {
		if errors.Is(err, row.err) {
			return row, true
		}
	}
	return mapping{}, false
}

// ToWire turns an error into what goes over the wire. An error that is not in
// the table becomes Internal with its message replaced by detail, which names
// the place where it was logged. Nil stays nil.
func ToWire(err error, detail func(error) string) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) {
		return status.Error(codes.Canceled, err.Error())
	}
	if code := status.Code(err); code != codes.Unknown && code != codes.Internal {
		return err // the wire itself said it: the other side has gone
	}
	row, ok := lookup(err)
	if !ok {
		return status.Error(codes.Internal, detail(err))
	}
	return status.Error(row.code, err.Error())
}

// wireError is an error that came over the wire.
type wireError struct {
	message string
	err     error
}

func (e *wireError) Error() string { return e.message }
func (e *wireError) Unwrap() error { return e.err }

// FromWire turns what came over the wire into an error that wraps the
// sentinel it left with. Nil and what is no status stay as they are.
func FromWire(err error) error {
	s, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	for _, row := range table {
		if row.code == s.Code() {
			return &wireError{message: s.Message(), err: row.err}
		}
	}
	return &wireError{message: s.Message(), err: err}
}

// HTTPStatus is the status of an answer that fails with err.
func HTTPStatus(err error) int {
	if row, ok := lookup(err); ok {
		return row.http
	}
	return http.StatusInternalServerError
}

// ExitCode is what the command line ends with when it fails with err.
func ExitCode(err error) int {
	if err == nil {
		return ExitOK
	}
	if row, ok := lookup(err); ok {
		return row.exit
	}
	return ExitInternal
}
