package sim

import (
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestPromises lives through as many simulated lives as fit into
// NAVVY_CRASH_TIME, a duration, 3s unless told. Each life follows from a seed of
// its own; the first is NAVVY_SEED, or any. A failure prints its seed: with that
// in NAVVY_SEED the same life comes first.
func TestPromises(t *testing.T) {
	until := time.Now().Add(crashTime(t))
	first := firstSeed(t)
	var lives atomic.Uint64
	t.Run("lives", func(t *testing.T) {
		for range runtime.GOMAXPROCS(0) {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				for n := lives.Add(1) - 1; n == 0 || time.Now().Before(until); n = lives.Add(1) - 1 {
					live(t, first+n)
				}
			})
		}
	})
	t.Logf("%d lives, from seed %d on", lives.Load(), first)
}

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

func crashTime(t *testing.T) time.Duration {
	t.Helper()
	env := os.Getenv("NAVVY_CRASH_TIME")
	if env == "" {
		return 3 * time.Second
	}
	d, err := time.ParseDuration(env)
	if err != nil {
		t.Fatalf("NAVVY_CRASH_TIME: %v", err)
	}
	return d
}

func firstSeed(t *testing.T) uint64 {
	t.Helper()
	env := os.Getenv("NAVVY_SEED")
	if env == "" {
		return rand.Uint64N(1 << 40)
	}
	seed, err := strconv.ParseUint(env, 10, 64)
	if err != nil {
		t.Fatalf("NAVVY_SEED: %v", err)
	}
	return seed
}
