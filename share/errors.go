package share

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"gocloud.dev/gcerrors"

	"github.com/navvy-run/navvy"
)

// sentinels are those that an error may wrap already.
var sentinels = []error{navvy.ErrNotFound, navvy.ErrExists, navvy.ErrInvalid, navvy.ErrConflict, navvy.ErrDenied, navvy.ErrExhausted,
	navvy.ErrCorrupt, navvy.ErrUnavailable, navvy.ErrUnsupported, navvy.ErrClosed, context.Canceled, context.DeadlineExceeded}

// wrap says what was done to what, and gives the error its sentinel. Nil stays nil.
func (s *Share) wrap(verb, key string, err error) error {
	if err == nil {
		return nil
	}
	what := verb + " in share " + s.name
	if key != "" {
		what = fmt.Sprintf("%s %s in share %s", verb, printable(key), s.name)
	}
	_, whole := errors.AsType[*Missing](err)
	sentinel, message := kind(err), root(err)
	if sentinel == navvy.ErrNotFound && key != "" && verb != "list" && !whole { //nolint:errorlint // kind gives the bare sentinel
		return &briefError{fmt.Sprintf("file %q in share %s: %v", key, s.name, sentinel), fmt.Errorf("%w: %w", sentinel, err)}
	}
	if sentinel == nil {
		return fmt.Errorf("%s: %w", what, message)
	}
	if errors.Is(message, sentinel) {
		return fmt.Errorf("%s: %w", what, message)
	}
	return fmt.Errorf("%s: %w: %w", what, message, sentinel)
}

// printable is a name for people, quoted if it does not stand on a line as it is.
func printable(name string) string {
	if !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(name)
	}
	return name
}

// Missing is the error of a share whose place, which others make, is not there.
type Missing struct {
	Kind string // directory, bucket or container
	Name string
}

// Error says what it is about.
func (e *Missing) Error() string { return "there is no " + e.Kind + " " + printable(e.Name) }

// Unwrap gives navvy.ErrNotFound.
func (e *Missing) Unwrap() error { return navvy.ErrNotFound }

// kind is the sentinel of an error; nil if there is none.
func kind(err error) error {
	if err == nil {
		return nil
	}
	if i := slices.IndexFunc(sentinels, func(e error) bool { return errors.Is(err, e) }); i >= 0 {
		return sentinels[i]
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return navvy.ErrExhausted
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return navvy.ErrDenied
	}
	switch gcerrors.Code(err) {
	case gcerrors.NotFound:
		return navvy.ErrNotFound
	case gcerrors.FailedPrecondition, gcerrors.AlreadyExists:
		return navvy.ErrExists
	case gcerrors.PermissionDenied:
		return navvy.ErrDenied
	case gcerrors.ResourceExhausted:
		return navvy.ErrExhausted
	case gcerrors.InvalidArgument:
		return navvy.ErrInvalid
	case gcerrors.Canceled:
		return context.Canceled
	case gcerrors.DeadlineExceeded:
		return context.DeadlineExceeded
	default:
	}
	return storeKind(err)
}

// storeKind is kind for errors that only the libraries of stores tell apart.
func storeKind(err error) error {
	if network, ok := errors.AsType[net.Error](err); ok && (network.Timeout() || isOp(err)) {
		return navvy.ErrUnavailable
	}
	switch code := storeCode(err); {
	case code == 401 || code == 403:
		return navvy.ErrDenied
	case code == 404:
		return navvy.ErrNotFound
	case code == 429 || code >= 500:
		return navvy.ErrUnavailable
	case errors.Is(err, fs.ErrNotExist):
		return navvy.ErrNotFound
	case errors.Is(err, fs.ErrExist):
		return navvy.ErrExists
	}
	return nil
}

// isOp tells whether an error came from the network, and not only through it.
func isOp(err error) bool {
	_, op := errors.AsType[*net.OpError](err)
	_, name := errors.AsType[*net.DNSError](err)
	return op || name
}

// root takes off what gocloud.dev puts around an error, which names its own parts, and
// makes the rest brief.
func root(err error) error {
	for {
		list, ok := err.(interface{ Unwrap() []error })
		if !ok {
			return brief(err)
		}
		inner := list.Unwrap()
		if len(inner) != 2 || inner[0] == nil || !slices.Contains(codes, inner[1]) {
			return brief(err)
		}
		err = inner[0]
	}
}

// codes are what gocloud.dev puts beside an error that it wraps.
var codes = []error{gcerrors.ErrUnknown, gcerrors.ErrNotFound, gcerrors.ErrAlreadyExists, gcerrors.ErrInvalidArgument, gcerrors.ErrInternal, gcerrors.ErrUnimplemented,
	gcerrors.ErrFailedPrecondition, gcerrors.ErrPermissionDenied, gcerrors.ErrResourceExhausted, gcerrors.ErrCanceled, gcerrors.ErrDeadlineExceeded}

// briefError says the same as another error, in fewer words.
type briefError struct {
	message string
	err     error
}

func (e *briefError) Error() string { return e.message }
func (e *briefError) Unwrap() error { return e.err }

// credentialError says that the library of a store has found no credentials, without all
// the places where it has looked.
type credentialError struct{ briefError }

func noCredentials(message string, err error) error {
	return &credentialError{briefError{message, errors.Join(navvy.ErrDenied, err)}}
}

// brief leaves out what the libraries of stores say around what happened: requests, their
// headers, and addresses, in which signatures may stand.
func brief(err error) error {
	if missing, ok := errors.AsType[*credentialError](err); ok {
		return missing
	}
	message := storeMessage(err)
	if failed, ok := errors.AsType[*url.Error](err); ok && message == "" {
		message = failed.Err.Error()
		if u, err := url.Parse(failed.URL); err == nil {
			message = u.Host + ": " + message
		}
	}
	if failed, ok := err.(*fs.PathError); ok && message == "" { //nolint:errorlint // what is around one is kept
		message = failed.Err.Error()
	}
	if message == "" {
		return err
	}
	return &briefError{message, err}
}

// storeCode is the HTTP status of a store's answer; 0 if there is none.
func storeCode(err error) int {
	if answer, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return answer.StatusCode
	}
	var answer interface{ HTTPStatusCode() int } // of S3
	if errors.As(err, &answer) {
		return answer.HTTPStatusCode()
	}
	return 0
}

// storeMessage is what a store has answered; empty if it has not.
func storeMessage(err error) string {
	if answer, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return fmt.Sprintf("the store answers %s (%d)", cmp.Or(answer.ErrorCode, http.StatusText(answer.StatusCode)), answer.StatusCode)
	}
	var answer interface { // of S3
		ErrorCode() string
		ErrorMessage() string
	}
	if errors.As(err, &answer) {
		text := "the store answers " + answer.ErrorCode()
		if m := answer.ErrorMessage(); m != "" && m != answer.ErrorCode() {
			text += ": " + m
		}
		return text
	}
	return ""
}
