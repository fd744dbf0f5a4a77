package pause_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/navvy-run/navvy/internal/pause"
)

// Pauses double up to the longest, and are drawn from their upper half.
func TestNext(t *testing.T) {
	t.Parallel()
	s := pause.Series{First: 100 * time.Millisecond, Longest: 500 * time.Millisecond}
	differ := map[time.Duration]bool{}
	for range 2 {
		for _, length := range []time.Duration{100, 200, 400, 500, 500} {
			length *= time.Millisecond
			d := s.Next()
			if d < length/2 || d > length {
				t.Errorf("a pause of %s, want one of %s to %s", d, length/2, length)
			}
			differ[d] = true
		}
		s.Reset()
	}
	if len(differ) < 5 {
		t.Errorf("they are not drawn: %v", differ)
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := pause.Series{First: time.Hour, Longest: time.Hour}
		begun := time.Now()
		if err := s.Wait(t.Context()); err != nil || time.Since(begun) < 30*time.Minute || time.Since(begun) > time.Hour {
			t.Errorf("it waits for %s, %v", time.Since(begun), err)
		}
		why := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(why)
		begun = time.Now()
		if err := s.Wait(ctx); !errors.Is(err, why) || time.Since(begun) > 0 {
			t.Errorf("after %s: %v", time.Since(begun), err)
		}
	})
}
