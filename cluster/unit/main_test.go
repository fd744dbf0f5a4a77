package unit_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy/cluster/unit"
)

// supervise is the first argument with which this program is a supervisor.
const supervise = "supervise"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == supervise {
		if err := supervised(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// A supervisor outlives who has started it, and may be about to end.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/navvy-run/navvy/cluster/unit.(*Supervised).start.func1"))
}

// supervised is a supervisor that is quick with its pauses.
func supervised(dir string) error {
	tell := os.NewFile(3, "tell")
	syscall.CloseOnExec(3)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err := unit.Supervise(ctx, dir, &unit.Options{
		FirstPause: 10 * time.Millisecond, LongestPause: 50 * time.Millisecond, Tries: 4, Well: time.Hour,
		Patience: time.Minute, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}, func() error {
		_, err := tell.WriteString(unit.Serving)
		return errors.Join(err, tell.Close())
	})
	if errors.Is(err, unit.ErrHeld) {
		return nil
	}
	return err
}
