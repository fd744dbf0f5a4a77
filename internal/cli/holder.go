package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy/internal/holder"
)

// newHolder is the hidden verb of a background holder: it serves until there is
// nothing left to do.
func newHolder(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "holder", Hidden: true, Args: cobra.NoArgs,
		Short: "hold the data directory in the background until nothing is left to do",
		RunE: func(cmd *cobra.Command, _ []string) error {
			syscall.CloseOnExec(3) // a task must not keep open what our parent waits for
			tell := os.NewFile(3, "ready")
			defer tell.Close()
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			return a.hold(ctx, tell)
		},
	}
}

// linger is how long a background holder waits for more to do.
const linger = 200 * time.Millisecond

func (a *app) hold(ctx context.Context, tell io.WriteCloser) error {
	log := slog.New(slog.NewTextHandler(a.err, nil))
	h, err := a.becomeHolder(ctx, log)
	word := serving
	switch {
	case errors.Is(err, errHeld):
		word = ""
	case err != nil:
		word = fmt.Sprintf("%d %s", exitCode(err), err)
	}
	_, sayErr := io.WriteString(tell, word)
	if sayErr = errors.Join(sayErr, tell.Close()); sayErr != nil {
		log.Warn("cannot say how it starts", "error", sayErr)
	}
	if err != nil {
		return err
	}
	if err := a.serveUntilIdle(ctx, h); err != nil {
		log.Error("the holder ends", "error", err)
	}
	leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.patience)
	defer cancel()
	_, err = h.Close(leaving, true)
	return errors.Join(err, h.Err())
}

var errHeld = errors.New("somebody else holds the data")

func (a *app) becomeHolder(ctx context.Context, log *slog.Logger) (*holder.Holder, error) {
	dir, err := a.dir()
	if err != nil {
		return nil, err
	}
	lock, pid, err := dir.TryLock()
	if err != nil {
		return nil, err
	}
	if lock == nil {
		return nil, fmt.Errorf("process %d: %w", pid, errHeld)
	}
	cfg, err := a.holderConfig(dir, log)
	if err == nil {
		cfg.Policy, err = a.loadPolicy(dir)
	}
	if err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	return holder.Start(ctx, lock, cfg)
}

// serveUntilIdle returns when nothing is left to do, or when ctx ends.
func (a *app) serveUntilIdle(ctx context.Context, h *holder.Holder) error {
	idle := make(chan error, 1)
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { idle <- h.AwaitIdle(waiting, linger) }()
	select {
	case <-h.Failed():
		return h.Err()
	case err := <-idle:
		return err
	}
}
