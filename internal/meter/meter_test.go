package meter

import (
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestHistogram counts at each side of a bound, beyond the last, and from many
// goroutines at once.
func TestHistogram(t *testing.T) {
	t.Parallel()
	var h Histogram
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for _, d := range []time.Duration{-time.Second, time.Millisecond, time.Millisecond + 1, 2 * time.Hour} {
				h.Observe(d)
			}
		})
	}
	all.Wait()
	count, sum, within := h.Read()
	if count != 16 || h.Count() != 16 || sum != 4*(2*time.Millisecond+1+2*time.Hour) {
		t.Errorf("%d in %v", count, sum)
	}
	for bound, want := range map[float64]uint64{0.0001: 4, 0.001: 8, 0.0025: 12, 3600: 12} {
		if within[bound] != want {
			t.Errorf("%d within %v s, want %d", within[bound], bound, want)
		}
	}
}
