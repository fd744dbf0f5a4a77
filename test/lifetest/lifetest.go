// Package lifetest runs the crash harness: one life of navvy after the other, each
// from a seed of its own, for as long as there is time.
package lifetest

import (
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// Run calls live with one seed after the other, in as many goroutines as there
// are cores, until the time is over: NAVVY_CRASH_TIME, a duration, else short. The
// first seed is NAVVY_SEED, or any. Whatever a life leaves open when the time is
// over is finished.
func Run(t *testing.T, short time.Duration, live func(t *testing.T, seed uint64)) {
	t.Helper()
	until := time.Now().Add(duration(t, short))
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

func duration(t *testing.T, short time.Duration) time.Duration {
	t.Helper()
	env := os.Getenv("NAVVY_CRASH_TIME")
	if env == "" {
		return short
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
