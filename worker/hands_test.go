package worker

import (
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type doFunc func()

func (f doFunc) do() { f() }

// However many are busy, the next attempt begins at once.
func TestHandsNeverWait(t *testing.T) {
	t.Parallel()
	var h hands
	const busy = 3 * maxIdle
	for range 2 { // with new hands, and with those that are left
		release := make(chan struct{})
		var begun sync.WaitGroup
		begun.Add(busy)
		long := make([]doable, busy)
		for i := range long {
			long[i] = doFunc(func() {
				begun.Done()
				<-release
			})
		}
		h.give(long[:busy/2]...)
		for _, a := range long[busy/2:] {
			h.give(a)
		}
		begun.Wait()
		close(release)
	}
	h.end()
}

// Each attempt is done once, whoever gives it, and an attempt may give others.
func TestHandsDoAll(t *testing.T) {
	t.Parallel()
	var h hands
	var done atomic.Int64
	var givers sync.WaitGroup
	const n = 2000
	for range 4 {
		givers.Go(func() {
			for range n {
				h.give(doFunc(func() {
					h.give(doFunc(func() { done.Add(1) }))
					done.Add(1)
				}))
			}
		})
	}
	givers.Wait()
	for done.Load() < 4*2*n {
		var turn sync.WaitGroup
		turn.Add(1)
		h.give(doFunc(turn.Done))
		turn.Wait()
	}
	h.end()
	if got := done.Load(); got != 4*2*n {
		t.Errorf("%d attempts are done, should be %d", got, 4*2*n)
	}
}
