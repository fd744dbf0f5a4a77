package pebble

import (
	"fmt"
	"log/slog"
	"strings"

	lsm "github.com/cockroachdb/pebble/v2"

	"github.com/navvy-run/navvy"
)

// logger hands on what the storage engine logs, and takes its Fatalf for what
// it means: the store has failed. Fatalf returns, which the engine does not
// expect; since from then on nothing that it writes reaches the files, it can
// do no harm.
type logger struct {
	log  *slog.Logger
	fail func(error)
}

func (l *logger) Infof(format string, args ...any) {
	l.log.Debug("storage engine", "message", fmt.Sprintf(format, args...))
}

func (l *logger) Errorf(format string, args ...any) {
	l.log.Error("storage engine", "message", fmt.Sprintf(format, args...))
}

func (l *logger) Fatalf(format string, args ...any) {
	l.fail(fmt.Errorf(format, args...))
}

// plain is the text of an error of the storage engine without its own bookkeeping.
func plain(err error) string {
	return strings.ReplaceAll(err.Error(), "\n<corruption detail carrier>", "")
}

// damaged is a corruption that the storage engine has found, in words for people.
type damaged struct{ err error }

func (d damaged) Error() string   { return plain(d.err) }
func (d damaged) Unwrap() []error { return []error{navvy.ErrCorrupt, d.err} }

// listener logs what is worth knowing. A corrupted table is no reason to stop
// the store: the calls that need it say so.
func (l *logger) listener() *lsm.EventListener {
	// Errors as text: a log handler would print these with a stack.
	return &lsm.EventListener{
		BackgroundError: func(err error) {
			l.log.Error("storage engine: work in the background failed", "error", plain(err))
		},
		DataCorruption: func(info lsm.DataCorruptionInfo) {
			l.log.Debug("storage engine: corrupted file", "path", info.Path, "error", plain(info.Details))
		},
		WriteStallBegin: func(info lsm.WriteStallBeginInfo) {
			l.log.Debug("storage engine: writes wait", "reason", info.Reason)
		},
		WriteStallEnd: func() { l.log.Debug("storage engine: writes go on") },
	}
}
