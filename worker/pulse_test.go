package worker

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/navvy-run/navvy"
)

// Who was not there for longer than a lease is told so, and is not there again: only
// another session is.
func TestPulse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPulse(time.Second)
		for range 5 {
			time.Sleep(time.Second) //nolint:forbidigo // in a bubble
			if err := errors.Join(p.check(), p.beat()); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second + 1) //nolint:forbidigo // in a bubble
		for range 2 {
			if err := p.beat(); !errors.Is(err, navvy.ErrUnavailable) {
				t.Errorf("a sign of life that comes too late: %v", err)
			}
			if err := p.check(); !errors.Is(err, errAbsent) {
				t.Errorf("after it: %v", err)
			}
		}
		if p := newPulse(0); p.check() != nil {
			t.Error("a lease as long as the session has an end")
		}
	})
}
