package container

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/navvy-run/navvy"
)

// pingTimeout bounds the wait for an API server that may not be there.
const pingTimeout = 5 * time.Second

// Ping asks the API server for its version, which anybody may ask: whatever it answers, it is
// there. The error wraps navvy.ErrUnavailable if it cannot be reached, or has too much to do.
func (d *Driver) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	_, err := d.cluster.core.Get().AbsPath("/version").MaxRetries(0).DoRaw(ctx)
	switch {
	case !passing(err):
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		err = fmt.Errorf("no answer within %s", pingTimeout)
	}
	return fmt.Errorf("the cluster cannot be reached: %w: %w", err, navvy.ErrUnavailable)
}
