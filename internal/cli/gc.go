package cli

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// Garbage may grow to so many percent of what is in use before it is collected: while little is
// in use (ids, counts, what runs) to mostGarbage, which costs some tens of megabytes under load and
// none at rest; where much is, as with thousands of containers, not beyond cheapGarbage bytes, or
// Go's own share of it.
const (
	mostGarbage  = 400
	leastGarbage = 100
	cheapGarbage = 64 << 20
)

// gcPercent is that for so many bytes in use.
func gcPercent(live uint64) int {
	return int(min(mostGarbage, max(leastGarbage, 100*cheapGarbage/max(live, 1))))
}

// cycle is garbage at once: that it is collected tells that a collection has ended.
type cycle struct{ _ *byte }

// tuneGC sets the percentage, and again after each collection as what is in use has changed.
func tuneGC() {
	debug.SetGCPercent(mostGarbage)
	set := mostGarbage
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	var again func(*cycle)
	again = func(*cycle) {
		metrics.Read(live)
		const worth = 20 // to set it stops everything for a moment
		if want := gcPercent(live[0].Value.Uint64()); max(want-set, set-want) >= worth {
			set = want
			debug.SetGCPercent(want)
		}
		runtime.SetFinalizer(&cycle{}, again)
	}
	runtime.SetFinalizer(&cycle{}, again)
}
