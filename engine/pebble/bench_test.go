package pebble

import (
	"testing"

	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/engine/driver/drivertest"
)

func BenchmarkStore(b *testing.B) {
	drivertest.Bench(b, drivertest.Harness{
		New: func(t testing.TB) driver.Store { return open(t, t.TempDir(), nil) },
	})
}

func BenchmarkOpen(b *testing.B) {
	b.Run("new", func(b *testing.B) {
		for b.Loop() {
			s := open(b, b.TempDir(), nil)
			b.StopTimer()
			_ = s.Close()
			b.StartTimer()
		}
	})
	b.Run("existing", func(b *testing.B) {
		dir := b.TempDir()
		for b.Loop() {
			s := open(b, dir, nil)
			b.StopTimer()
			_ = s.Close()
			b.StartTimer()
		}
	})
	b.Run("close", func(b *testing.B) {
		dir := b.TempDir()
		for b.Loop() {
			b.StopTimer()
			s := open(b, dir, nil)
			b.StartTimer()
			_ = s.Close()
		}
	})
}
