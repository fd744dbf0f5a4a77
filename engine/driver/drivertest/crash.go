package drivertest

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// generations is how often one store crashes in a row: what survived one crash
// must survive the next.
const generations = 3

// testCrash crashes stores in the midst of work and looks at what is left.
func testCrash(t *testing.T, h Harness) {
	if h.Crash == nil {
		t.Skip("no crash that something survives")
	}
	first := seed(t)
	crashes := h.Crashes
	if crashes == 0 {
		crashes = 10
	}
	if env := os.Getenv("NAVVY_CRASHES"); env != "" {
		var err error
		if crashes, err = strconv.Atoi(env); err != nil {
			t.Fatalf("NAVVY_CRASHES: %v", err)
		}
	}
	for i := range crashes {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			if err := CheckCrash(t, h, first+uint64(i)); err != nil {
				t.Errorf("with seed %d: %v", first+uint64(i), err)
			}
		})
	}
}

// CheckCrash works on a store from many goroutines, crashes it, and checks that
// what is left is what the contract promises:
//
//   - a batch that was acknowledged, or seen, or conflicted with, is there,
//   - each batch is there whole or not at all,
//   - batches of one goroutine are there in their order, without a gap,
//   - log bytes that were synced are there, logs that were dropped are not.
//
// It returns what was wrong, so that a test can show that it finds something.
func CheckCrash(t testing.TB, h Harness, seed uint64) error {
	s := h.New(t)
	defer func() { _ = s.Close() }()
	w := newWork(seed)
	for generation := range uint64(generations) {
		work, stop := w.start(t.Context(), s, generation)
		w.busy(20 + random(seed, 1000+generation).IntN(300))
		known := w.known()
		s = h.Crash(t, s, seed+generation)
		stop()
		if err := work(); err != nil {
			return fmt.Errorf("before crash %d: %w", generation, err)
		}
		if err := w.verify(t.Context(), s, known); err != nil {
			return fmt.Errorf("after crash %d: %w", generation, err)
		}
	}
	return nil
}

// ended tells whether the error is how a call may end when its store crashes.
func ended(err error) bool {
	return errors.Is(err, navvy.ErrClosed) || errors.Is(err, navvy.ErrUnavailable)
}

// group runs functions at once; its result is their errors, joined.
type group struct {
	wg   sync.WaitGroup
	mu   sync.Mutex
	errs []error
}

func (g *group) run(f func() error) {
	g.wg.Go(func() {
		if err := f(); err != nil {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.errs = append(g.errs, err)
		}
	})
}

func (g *group) wait() error {
	g.wg.Wait()
	return errors.Join(g.errs...)
}

// replay returns what the first n batches of a writer leave under its prefix.
func replay(seed uint64, writer, n int) map[string]string {
	state := map[string]string{}
	for i := 1; i <= n; i++ {
		for _, op := range writerBatch(seed, writer, i).Ops {
			switch op.Kind {
			case driver.OpPut:
				state[string(op.Key)] = string(op.Value)
			case driver.OpDelete:
				delete(state, string(op.Key))
			case driver.OpDeleteRange:
				for key := range state {
					if key >= string(op.Key) && key < string(op.Value) {
						delete(state, key)
					}
				}
			}
		}
	}
	return state
}
