package sim

import (
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy/test/lifetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestPromises lives through as many simulated lives as there is time for; see
// package lifetest. A failure prints its seed: with that in NAVVY_SEED the same life
// comes first.
func TestPromises(t *testing.T) { lifetest.Run(t, 3*time.Second, live) }

// live is one life in which nothing may go wrong.
func live(t *testing.T, seed uint64) {
	t.Helper()
	bad, story := simulate(t, config{seed: seed, memory: onMemory(seed)})
	if bad == nil {
		return
	}
	lines := strings.Split(story(), "\n")
	if last := 60; !testing.Verbose() && len(lines) > last { // all of it with -v
		lines = lines[len(lines)-last:]
	}
	t.Fatalf("%s\n%v\nto repeat: NAVVY_SEED=%d go test ./test/sim -run TestPromises -v", strings.Join(lines, "\n"), bad, seed)
}

// onMemory lets one life in four pass on engine/memory, the others on engine/pebble.
func onMemory(seed uint64) bool { return seed%4 == 0 }

// TestRepeats sees that a seed tells the same story again. Not each does: pebble
// compacts in goroutines of its own, and steps that are taken at once (rush) may
// come in another order.
func TestRepeats(t *testing.T) {
	const lives = 40
	same := 0
	for seed := range uint64(lives) {
		c := config{seed: seed, memory: onMemory(seed)}
		_, once := simulate(t, c)
		_, again := simulate(t, c)
		if once() == again() {
			same++
		}
	}
	if same < lives*8/10 {
		t.Errorf("%d of %d seeds tell the same story twice", same, lives)
	}
}
