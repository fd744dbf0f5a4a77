// Package pause says how long to wait between tries that fail: longer each time, and
// not all at once, so that many who wait for one server do not come together.
package pause

import (
	"context"
	"math/rand/v2"
	"time"
)

// Series are the pauses of one who tries. It is for one goroutine at a time.
type Series struct {
	// First and Longest are what a pause is drawn from: between half of it and all of
	// it. It doubles from each try to the next.
	First, Longest time.Duration

	last time.Duration
}

// Next draws the next pause.
func (s *Series) Next() time.Duration {
	s.last = min(max(2*s.last, s.First), s.Longest)
	half := s.last / 2
	return half + rand.N(s.last-half+1)
}

// Reset begins anew, after a try that went well.
func (s *Series) Reset() { s.last = 0 }

// Wait waits for the next pause to pass, or for ctx to end, and then gives why.
func (s *Series) Wait(ctx context.Context) error { return For(ctx, s.Next()) }

// For waits for so long, or for ctx to end, and then gives why.
func For(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
