package drivertest

import (
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// Bench measures what the engine rests on.
func Bench(b *testing.B, h Harness) {
	b.Run("Commit", func(b *testing.B) { benchCommit(b, h) })
	b.Run("Commit64", func(b *testing.B) { benchCommits(b, h, 64) })
	b.Run("Results50", func(b *testing.B) { benchResults(b, h, 50, 1) })
	b.Run("Results500", func(b *testing.B) { benchResults(b, h, 500, 1) })
	b.Run("Results500x4", func(b *testing.B) { benchResults(b, h, 500, 4) })
	b.Run("Get", func(b *testing.B) { benchGet(b, h) })
	b.Run("Scan", func(b *testing.B) { benchScan(b, h) })
	b.Run("LogAppend", func(b *testing.B) { benchLogAppend(b, h) })
	b.Run("LogFirstSync", func(b *testing.B) { benchLogSync(b, h) })
}

// benchCommit is one durable batch of two small puts after the other.
func benchCommit(b *testing.B, h Harness) {
	s := open(b, h)
	took := make([]time.Duration, 0, 1<<bits.Len(uint(b.N)))
	for i := 0; b.Loop(); i++ {
		start := time.Now()
		apply(b, s, result(i))
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

// result is a batch as one small result makes it.
func result(i int) *driver.Batch {
	batch := new(driver.Batch)
	key := fmt.Appendf(nil, "result/job/%010d", i)
	batch.IfAbsent(key)
	batch.Put(key, make([]byte, 100))
	return batch
}

func benchCommits(b *testing.B, h Harness, writers int) {
	s := open(b, h)
	var next atomic.Int64
	b.SetParallelism(writers / 2)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			apply(b, s, result(int(next.Add(1))))
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
}

// benchResults applies batches of conditional results; one op is one batch.
func benchResults(b *testing.B, h Harness, size, writers int) {
	s := open(b, h)
	var next atomic.Int64
	b.ResetTimer()
	err := together(writers, func(int) error {
		for {
			n := int(next.Add(1)) - 1
			if n >= b.N {
				return nil
			}
			batch := new(driver.Batch)
			for i := range size {
				batch.Append(result(n*size + i))
			}
			if err := s.Apply(b.Context(), batch); err != nil {
				return err
			}
		}
	})
	must(b, err)
	b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "results/s")
}

// filled is a store with so many small results.
func filled(b *testing.B, h Harness, n int) driver.Store {
	s := open(b, h)
	for at := 0; at < n; at += 1000 {
		batch := new(driver.Batch)
		for i := range 1000 {
			r := result(at + i)
			batch.Put(r.Ops[0].Key, r.Ops[0].Value)
		}
		apply(b, s, batch)
	}
	return s
}

func benchGet(b *testing.B, h Harness) {
	const n = 200_000
	s := filled(b, h, n)
	for i := 0; b.Loop(); i++ {
		if _, err := s.Get(b.Context(), fmt.Appendf(nil, "result/job/%010d", i*7919%n)); err != nil {
			b.Fatal(err)
		}
	}
}

// benchScan scans all; one op is one pair.
func benchScan(b *testing.B, h Harness) {
	s := filled(b, h, 200_000)
	n := 0
	b.ResetTimer()
	for n < b.N {
		err := s.Scan(b.Context(), driver.Range{Limit: b.N - n}, func(_, _ []byte) error {
			n++
			return nil
		})
		must(b, err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pairs/s")
}

// benchLogAppend writes an output of a gigabyte in pieces; one op is one piece.
func benchLogAppend(b *testing.B, h Harness) {
	const piece, perLog = 256 << 10, 4096
	s := open(b, h)
	p := make([]byte, piece)
	b.SetBytes(piece)
	var w driver.LogWriter
	i := 0
	for ; b.Loop(); i++ {
		if i%perLog == 0 {
			if w != nil {
				must(b, w.Sync(), w.Close(), s.DropLogs(b.Context(), "output"))
			}
			w = createLog(b, s, fmt.Sprintf("output/job/0/%d", i))
		}
		must(b, w.Append(p))
	}
	must(b, w.Sync(), w.Close())
	b.StopTimer()
	r := openLog(b, s, fmt.Sprintf("output/job/0/%d", (i-1)/perLog*perLog))
	if _, err := r.ReadAt(p, 0); err != nil && !errors.Is(err, io.EOF) {
		b.Fatal(err)
	}
	must(b, r.Close())
	if err := s.DropLogs(b.Context(), "output"); err != nil && !errors.Is(err, navvy.ErrNotFound) {
		b.Fatal(err)
	}
}

// benchLogSync makes a log in a directory of its own, and makes it durable.
func benchLogSync(b *testing.B, h Harness) {
	s := open(b, h)
	p := make([]byte, 64<<10)
	for i := 0; b.Loop(); i++ {
		w := createLog(b, s, fmt.Sprintf("output/job/%d/1", i))
		must(b, w.Append(p), w.Sync(), w.Close())
	}
}
