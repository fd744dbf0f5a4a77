package navvy

import "errors"

// The sentinels that every part wraps with what it was doing. Callers test with
// errors.Is; package api maps them to gRPC codes, HTTP statuses and exit codes.
var (
	// ErrNotFound says that the named thing does not exist, or is not yours.
	ErrNotFound = errors.New("not found")
	// ErrExists says that the thing exists already: a second result for a task, a taken id.
	ErrExists = errors.New("already exists")
	// ErrInvalid says that what was asked makes no sense as it stands; the message names the field.
	ErrInvalid = errors.New("invalid")
	// ErrConflict says that somebody changed the thing in between.
	ErrConflict = errors.New("conflict")
	// ErrLeaseLost says that the attempt no longer has the right to run or to answer.
	ErrLeaseLost = errors.New("lease lost")
	// ErrUnavailable says that a part cannot be reached now; trying again later is right.
	ErrUnavailable = errors.New("unavailable")
	// ErrUnsupported says that this backend, host or build cannot do it.
	ErrUnsupported = errors.New("unsupported")
	// ErrDenied says that the caller may not do it.
	ErrDenied = errors.New("permission denied")
	// ErrExhausted says that there is no room: disk, memory, a queue's bound.
	ErrExhausted = errors.New("exhausted")
	// ErrCorrupt says that stored bytes are not what was written, or were written by a newer version.
	ErrCorrupt = errors.New("corrupt")
	// ErrClosed says that the part was closed.
	ErrClosed = errors.New("closed")
)
