package auth

import (
	"context"
	"log/slog"
	"slices"
	"sync"
)

// notes are what a call of an admin was about, for its line in the audit log.
type notes struct {
	mu   sync.Mutex
	list []slog.Attr
}

func (n *notes) add(attrs ...slog.Attr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, attrs...)
}

func (n *notes) all() []slog.Attr {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.list)
}

type notesKey struct{}

// noting gives a context in which Note takes down.
func noting(ctx context.Context) (context.Context, *notes) {
	n := &notes{}
	return context.WithValue(ctx, notesKey{}, n), n
}

// Note says what a call is about: it becomes a part of the call's line in the audit
// log, if it has one. Whoever serves a call notes no secrets.
func Note(ctx context.Context, attrs ...slog.Attr) {
	if n, ok := ctx.Value(notesKey{}).(*notes); ok {
		n.add(attrs...)
	}
}
