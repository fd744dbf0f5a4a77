package staging

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/internal/pause"
	"github.com/navvy-run/navvy/share"
)

// Pauses between tries.
const (
	firstPause   = 200 * time.Millisecond
	longestPause = 15 * time.Second
)

// tries does again what fails for reasons that pass.
type tries struct {
	patience time.Duration // since the first failure of a thing
	log      *slog.Logger
}

// do calls f until it does well, fails for good, or has failed for too long.
func (t *tries) do(ctx context.Context, f func() error) error {
	pauses := pause.Series{First: firstPause, Longest: longestPause}
	var since time.Time
	for {
		err := f()
		if err == nil || ctx.Err() != nil || final(err) {
			return err
		}
		if since.IsZero() {
			since = time.Now()
		}
		left := t.patience - time.Since(since)
		if left <= 0 {
			return err
		}
		t.log.Warn("it is tried again", "err", err)
		if e := pause.For(ctx, min(pauses.Next(), left)); e != nil {
			return err
		}
	}
}

// final tells whether another try would fail the same way.
func final(err error) bool {
	if _, local := errors.AsType[*share.Local](err); local {
		return true
	}
	for _, sentinel := range []error{navvy.ErrNotFound, navvy.ErrInvalid, navvy.ErrDenied, navvy.ErrUnsupported} {
		if errors.Is(err, sentinel) {
			return true
		}
	}
	return false
}

// Exit codes of a process that stages, beside 0. They are those of sysexits(3).
const (
	CodeFailed      = 1  // for another cause
	CodeFiles       = 66 // what is to be copied is not there, or cannot be
	CodeUnavailable = 69 // the server is not reached
	CodeDenied      = 77 // the server refuses the account
)

// Code is the exit code for an error of In or Out; 0 for none.
func Code(err error) int {
	_, local := errors.AsType[*share.Local](err)
	_, special := errors.AsType[*share.NotRegular](err)
	switch {
	case err == nil:
		return 0
	case special:
		return CodeFiles
	case local && errors.Is(err, navvy.ErrExhausted):
		return CodeFailed
	case local, errors.Is(err, navvy.ErrNotFound), errors.Is(err, navvy.ErrInvalid), errors.Is(err, navvy.ErrCorrupt):
		return CodeFiles
	case errors.Is(err, navvy.ErrDenied):
		return CodeDenied
	case errors.Is(err, navvy.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return CodeUnavailable
	}
	return CodeFailed
}
