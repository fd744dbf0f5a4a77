package pebble

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

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

// BenchmarkMillions writes, scans and deletes five million small results, and
// tells how much memory the process has then; run it with -benchtime 1x.
func BenchmarkMillions(b *testing.B) {
	const results, batch = 5_000_000, 500
	for b.Loop() {
		s := open(b, b.TempDir(), nil)
		start := time.Now()
		for at := 0; at < results; at += batch {
			c := new(driver.Batch)
			for i := range batch {
				key := fmt.Appendf(nil, "result/job/%010d", at+i)
				c.IfAbsent(key)
				c.Put(key, fmt.Appendf(nil, "the result number %d, as long as small results are", at+i))
			}
			if err := s.Apply(b.Context(), c); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(results/time.Since(start).Seconds(), "results/s")
		start = time.Now()
		err := s.Scan(b.Context(), driver.Range{}, func(_, _ []byte) error { return nil })
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(results/time.Since(start).Seconds(), "scanned/s")
		b.ReportMetric(float64(resident(b))/1e6, "resident-MB")
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkInputs puts inputs in the largest chunks that the engine makes; one
// op is one chunk.
func BenchmarkInputs(b *testing.B) {
	s := open(b, b.TempDir(), nil)
	chunk := make([]byte, 256<<10)
	_, _ = rand.NewChaCha8([32]byte{}).Read(chunk)
	b.SetBytes(int64(len(chunk)))
	for i := 0; b.Loop(); i++ {
		c := new(driver.Batch)
		c.Put(fmt.Appendf(nil, "input/job/%08d", i), chunk)
		if err := s.Apply(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(resident(b))/1e6, "resident-MB")
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

// resident is how many bytes of memory the process had at most; 0 if unknown.
func resident(b *testing.B) int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Log(err)
		return 0
	}
	var kilobytes int64
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			if _, err := fmt.Sscan(rest, &kilobytes); err != nil {
				b.Log(err)
			}
		}
	}
	return kilobytes << 10
}
