package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
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
	name string // in JSON
	http int
	exit int
}

// table has each sentinel once and each code once, so that an error survives the
// wire. The first row that fits an error counts.
var table = []mapping{
	{navvy.ErrNotFound, codes.NotFound, "not_found", http.StatusNotFound, ExitFailed},
	{navvy.ErrExists, codes.AlreadyExists, "exists", http.StatusConflict, ExitFailed},
	{navvy.ErrInvalid, codes.InvalidArgument, "invalid", http.StatusBadRequest, ExitUsage},
	{navvy.ErrConflict, codes.Aborted, "conflict", http.StatusConflict, ExitFailed},
	{navvy.ErrLeaseLost, codes.FailedPrecondition, "lease_lost", http.StatusPreconditionFailed, ExitFailed},
	{navvy.ErrUnsupported, codes.Unimplemented, "unsupported", http.StatusNotImplemented, ExitFailed},
	{navvy.ErrDenied, codes.PermissionDenied, "denied", http.StatusForbidden, ExitDenied},
	{navvy.ErrExhausted, codes.ResourceExhausted, "exhausted", http.StatusInsufficientStorage, ExitExhausted},
	{navvy.ErrCorrupt, codes.DataLoss, "corrupt", http.StatusInternalServerError, ExitCorrupt},
	{navvy.ErrUnavailable, codes.Unavailable, "unavailable", http.StatusServiceUnavailable, ExitUnavailable},
	{navvy.ErrClosed, codes.Canceled, "closed", 499, ExitUnavailable},
	{context.DeadlineExceeded, codes.DeadlineExceeded, "timeout", http.StatusGatewayTimeout, ExitUnavailable},
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

// AnswerError says why a call has no result: it was refused, or its job was stopped or is
// held, which wraps navvy.ErrConflict. Nil if it has one.
func AnswerError(a *navvyv1.RunAnswer) error {
	switch {
	case a.GetRefused() != nil:
		return FromWire(status.Error(codes.Code(a.GetRefused().GetCode()), a.GetRefused().GetMessage()))
	case a.GetResult() == nil:
		st := ToStatus(a.GetStatus())
		return fmt.Errorf("job %s has no answer: it is %s: %s: %w", a.GetId(), st.State(), st.Why, navvy.ErrConflict)
	default:
		return nil
	}
}

// HTTPStatus is the status of an answer that fails with err.
func HTTPStatus(err error) int {
	if row, ok := lookup(err); ok {
		return row.http
	}
	return http.StatusInternalServerError
}

// codeInternal names an error in JSON that is not in the table.
const codeInternal = "internal"

// ErrorCode names err in JSON: "not_found" and so on, "internal" for what is not in the table.
func ErrorCode(err error) string {
	if row, ok := lookup(err); ok {
		return row.name
	}
	return codeInternal
}

// ErrorCodes are all names that ErrorCode gives, with the HTTP status of each.
func ErrorCodes() map[string]int {
	all := map[string]int{codeInternal: http.StatusInternalServerError}
	for _, row := range table {
		all[row.name] = row.http
	}
	return all
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
