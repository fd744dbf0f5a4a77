package cli

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/pflag"
)

// A service is a verb that runs until it is told to end: server, dev, worker start.

// logFlags say how a service logs.
type logFlags struct{ format string }

func (f *logFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.format, "log-format", "", "how standard error is written: text or json (default: text on a terminal, else json)")
}

// logger makes the log of a service.
func (f *logFlags) logger(a *app) (*slog.Logger, error) {
	o := &slog.HandlerOptions{}
	if a.env("NAVVY_DEBUG") != "" {
		o.Level = slog.LevelDebug
	}
	switch {
	case f.format == "text" || f.format == "" && a.terminal != nil:
		return slog.New(slog.NewTextHandler(a.err, o)), nil
	case f.format == "json" || f.format == "":
		return slog.New(slog.NewJSONHandler(a.err, o)), nil
	default:
		return nil, usagef("--log-format %s: want text or json", f.format)
	}
}

// stateDir is the data directory of a service that --data does not name: one of its
// own, so that what is done without a server does not change.
func (a *app) stateDir(name string) (string, error) {
	if a.data != "" {
		return a.data, nil
	}
	path, err := a.statePath()
	if err != nil {
		return "", err
	}
	return filepath.Join(path, name), nil
}

// untilTold runs a service. The first SIGTERM or SIGINT ends soft, the second hard.
func untilTold(ctx context.Context, run func(soft, hard context.Context) error) error {
	soft, drain := context.WithCancel(ctx)
	defer drain()
	hard, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	over := make(chan struct{})
	defer close(over)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-over:
				return
			case <-signals:
				drain()
				if n > 0 {
					cut()
				}
			}
		}
	}()
	return run(soft, hard)
}
