package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/navvy-run/navvy"
)

// fileError is what a caller is told of an error of the store. That one's own words have the
// server's disk in them, and where it keeps the files of owners.
type fileError struct {
	told  string
	whole error // for the log
}

func (e *fileError) Error() string { return e.told }
func (e *fileError) Unwrap() error { return e.whole }

// storeWords say what an error of the store is about, and how loudly the log has it: what
// callers bring about is quiet.
var storeWords = []struct {
	sentinel error
	words    string
	level    slog.Level
}{
	{context.Canceled, "the call has ended", slog.LevelDebug},
	{context.DeadlineExceeded, "the call has ended", slog.LevelDebug},
	{navvy.ErrNotFound, "it is not there, or the store of the server is not", slog.LevelWarn},
	{navvy.ErrExists, "there is one", slog.LevelDebug},
	{navvy.ErrInvalid, "the store of the server cannot have it, or no such part of it", slog.LevelDebug},
	{navvy.ErrConflict, "there is a folder of that name, a part of its path is a file, or it is changed meanwhile", slog.LevelDebug},
	{navvy.ErrDenied, "the server has no right to that in its store", slog.LevelWarn},
	{navvy.ErrExhausted, "the store of the server is full", slog.LevelWarn},
	{navvy.ErrCorrupt, "its checksum or its size is another than it was to be", slog.LevelWarn},
	{navvy.ErrUnavailable, "the store of the server does not answer", slog.LevelWarn},
	{navvy.ErrUnsupported, "it is no regular file, or the store of the server cannot do that", slog.LevelDebug},
	{navvy.ErrClosed, "the store of the server is closed", slog.LevelDebug},
}

// tellFile is an error of the store as who called is told it, under the file's name as its
// owner gave it. The log has the whole. Nil stays nil.
func (s *Server) tellFile(verb, name string, err error) error {
	if err == nil {
		return nil
	}
	what := fmt.Sprintf("%s file %q", verb, name)
	for _, w := range storeWords {
		if errors.Is(err, w.sentinel) {
			s.opts.Logger.Log(context.Background(), w.level, "the store could not do what was asked", "call", what, "error", err)
			return &fileError{fmt.Sprintf("%s: %s: %v", what, w.words, w.sentinel), err}
		}
	}
	return &fileError{what + ": the store of the server fails", err} // which is logged as an internal error
}

// whole is an error for the log.
func whole(err error) error {
	if told, ok := errors.AsType[*fileError](err); ok {
		return told.whole
	}
	return err
}
