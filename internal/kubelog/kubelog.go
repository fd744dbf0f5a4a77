// Package kubelog leads what Kubernetes' client logs to where the rest of navvy's log goes.
package kubelog

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"k8s.io/klog/v2"
)

// Kubernetes' client has one log for a whole process, which goes to standard error unless it
// is led elsewhere. It goes to the logger of the driver that was made last with one, and is led
// there by the first driver, before any client runs.
var (
	leadOnce sync.Once
	leadTo   atomic.Pointer[slog.Logger]
)

// Lead leads what the client logs to a logger; nil for the one before, and nowhere if there is
// none.
func Lead(log *slog.Logger) {
	if log == nil {
		leadTo.CompareAndSwap(nil, slog.New(slog.DiscardHandler))
	} else {
		leadTo.Store(log)
	}
	leadOnce.Do(func() { klog.SetSlogLogger(slog.New(led{})) })
}

// led is the handler of the client's log. What it calls an error is mostly one that passes
// by itself, such as a watch that broke; what it calls information is for who looks closely.
type led struct{ attrs []slog.Attr }

// Enabled implements slog.Handler.
func (led) Enabled(ctx context.Context, level slog.Level) bool {
	return leadTo.Load().Enabled(ctx, ledLevel(level))
}

func ledLevel(level slog.Level) slog.Level {
	if level >= slog.LevelWarn {
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

// Handle implements slog.Handler.
func (l led) Handle(ctx context.Context, r slog.Record) error {
	attrs := append([]slog.Attr{slog.String("says", r.Message)}, l.attrs...)
	r.Attrs(func(a slog.Attr) bool {
		attrs = append(attrs, a)
		return true
	})
	leadTo.Load().LogAttrs(ctx, ledLevel(r.Level), "the client of Kubernetes", attrs...)
	return nil
}

// WithAttrs implements slog.Handler.
func (l led) WithAttrs(attrs []slog.Attr) slog.Handler {
	return led{append(slices.Clip(l.attrs), attrs...)}
}

// WithGroup implements slog.Handler: names are few enough without groups.
func (l led) WithGroup(string) slog.Handler { return l }
