package container

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Calls are let through a bounded number at once, who no longer wants to call does not wait, and
// how long one waited is not of its time.
func TestGate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var now atomic.Int64
		var all sync.WaitGroup
		g := newGate()
		const takes, turns = callTimeout - time.Second, 3
		call := func(ctx context.Context, want error) {
			all.Go(func() {
				_, err := through(ctx, g, func(ctx context.Context) (int64, error) {
					defer now.Add(-1)
					n := now.Add(1)
					time.Sleep(takes) //nolint:forbidigo // the time of the bubble
					return n, ctx.Err()
				})
				if !errors.Is(err, want) {
					t.Errorf("a call ended with %v, want %v", err, want)
				}
			})
		}
		begun := time.Now()
		for range turns * callsAtOnce {
			call(t.Context(), nil)
		}
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		call(ctx, context.Canceled)
		synctest.Wait()
		if n := now.Load(); n != callsAtOnce {
			t.Errorf("%d calls are let through at once", n)
		}
		cancel()
		all.Wait()
		if took := time.Since(begun); took != turns*takes {
			t.Errorf("all took %s", took)
		}
	})
}
