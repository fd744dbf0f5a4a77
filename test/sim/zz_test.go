package sim

import (
	"testing"
	"testing/synctest"
	"fmt"
	"time"
	"math/rand/v2"

	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/engine/pebble"
)

func TestZ(t *testing.T) {
	start := time.Now()
	n := 0
	var boots, wr int
	for time.Since(start) < 3*time.Second {
		n++
		synctest.Test(t, func(t *testing.T) {
			d := newDisk()
			rng := rand.New(rand.NewPCG(uint64(n), 1))
			for range 4 {
				m := d.mount()
				s, err := pebble.Open("/store", &pebble.Options{FS: m, Memtable: 256 << 10, Cache: 64 << 10, Ballast: -1})
				if err != nil {
					t.Fatal(err)
				}
				boots++
				synctest.Wait()
				for i := range 30 {
					b := new(driver.Batch)
					b.Put(fmt.Appendf(nil, "k%d", i), make([]byte, 300))
					if err := s.Apply(t.Context(), b); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
				}
				wr += m.writes
				m.cut(50, rng)
				s.Close()
			}
		})
	}
	t.Log(n, boots, wr, time.Since(start))
}
