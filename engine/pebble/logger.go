package pebble

import (
	"fmt"
	"log/slog"

	lsm "github.com/cockroachdb/pebble/v2"
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

// listener logs what is worth knowing. A corrupted table is no reason to stop
// the store: the calls that need it say so.
func (l *logger) listener() *lsm.EventListener {
	return &lsm.EventListener{
		BackgroundError: func(err error) {
			l.log.Error("storage engine: work in the background failed", "error", err)
		},
		DataCorruption: func(info lsm.DataCorruptionInfo) {
			l.log.Error("storage engine: corrupted file", "path", info.Path, "error", info.Details)
		},
		WriteStallBegin: func(info lsm.WriteStallBeginInfo) {
			l.log.Debug("storage engine: writes wait", "reason", info.Reason)
		},
		WriteStallEnd: func() { l.log.Debug("storage engine: writes go on") },
	}
}
