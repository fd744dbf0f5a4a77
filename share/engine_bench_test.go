package share

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/engine/pebble"
	"github.com/navvy-run/navvy/share/enginebucket"
)

// BenchmarkPut puts files of several sizes, up to and beyond what the engine keeps in its
// map, into a directory and into the engine, one after the other and many at once.
func BenchmarkPut(b *testing.B) {
	dir, err := OpenDir(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer dir.Close()
	store, err := pebble.Open(b.TempDir(), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	e, err := engine.Open(b.Context(), store, nil)
	if err != nil {
		b.Fatal(err)
	}
	inEngine := OpenSums("engine", enginebucket.Open(e.Files()), e.Files().Move)
	for _, size := range []int{1 << 10, 16 << 10, 64 << 10, 64<<10 + 1, 1 << 20} {
		data := random(size)
		for name, s := range map[string]*Share{"directory": dir, "engine": inEngine} {
			for _, at := range []int{1, 16} {
				b.Run(fmt.Sprintf("%s/%d/at-%d", name, size, at), func(b *testing.B) {
					b.SetBytes(int64(size))
					b.SetParallelism(at)
					b.RunParallel(func(pb *testing.PB) {
						for i := 0; pb.Next(); i++ {
							if _, err := s.Put(b.Context(), fmt.Sprintf("f/%p/%d", pb, i%100), bytes.NewReader(data), nil); err != nil {
								b.Error(err)
							}
						}
					})
				})
			}
		}
	}
}
