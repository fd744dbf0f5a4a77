package navvy_test

import (
	"math"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
)

// Processor time of very many tasks is no less because it cannot be counted.
func TestUsageBeyondCount(t *testing.T) {
	t.Parallel()
	u := navvy.Usage{User: math.MaxInt64 - 5, System: 1, Read: math.MaxInt64}
	u.Add(&navvy.Usage{User: 3, System: time.Second, Read: 1})
	if want := (navvy.Usage{User: math.MaxInt64 - 2, System: time.Second + 1, Read: math.MaxInt64}); u != want {
		t.Errorf("got %+v, want %+v", u, want)
	}
	if got := u.CPU(); got != math.MaxInt64 {
		t.Errorf("together: %d", got)
	}
}
