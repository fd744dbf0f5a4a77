package cli

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestGCPercent(t *testing.T) {
	t.Parallel()
	for live, want := range map[uint64]int{0: 400, 1 << 20: 400, 16 << 20: 400, 32 << 20: 200, 64 << 20: 100, 1 << 30: 100} {
		if got := gcPercent(live); got != want {
			t.Errorf("with %d bytes in use %d percent, want %d", live, got, want)
		}
	}
}

// With much in use there is less garbage, and with little there may be more again.
func TestTuneGC(t *testing.T) { //nolint:paralleltest // it is of the whole process
	before := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	tuneGC()
	percent := func() int {
		p := debug.SetGCPercent(mostGarbage)
		debug.SetGCPercent(p)
		return p
	}
	until := func(what string, is func(int) bool) {
		for range 1000 {
			runtime.GC()
			runtime.Gosched()
			if is(percent()) {
				return
			}
		}
		t.Errorf("%s: %d percent", what, percent())
	}
	much := make([]byte, 128<<20)
	until("with much in use", func(p int) bool { return p == leastGarbage })
	runtime.KeepAlive(much)
	until("with little", func(p int) bool { return p > leastGarbage })
}
