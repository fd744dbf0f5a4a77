package redisqueue_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/drivertest"
	"github.com/navvy-run/navvy/queue/redisqueue"
	"github.com/navvy-run/navvy/queue/redisqueue/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var serial atomic.Int64

func queueURL(s *redistest.Server) string {
	return fmt.Sprintf("redis://%s/q%d?db=3", s.Addr, serial.Add(1))
}

func harness(s *redistest.Server) *drivertest.Harness {
	return &drivertest.Harness{
		Driver: redisqueue.Driver,
		URL:    func(testing.TB) string { return queueURL(s) },
		Want: driver.Capabilities{
			Correlation: true, Reason: true, Attempts: true, Delay: true, Binary: true, Detects: true,
			Peek: 1000, Waiting: true, MaxBody: 64 << 20, MaxBatch: 1000,
		},
		Own: func(tb testing.TB) *drivertest.Restartable {
			own := redistest.Start(tb)
			return &drivertest.Restartable{Harness: harness(own), Kill: own.Kill, Restart: own.Restart}
		},
		Bare: func(b *testing.B, bodies [][]byte) { bare(b, s, bodies) },
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	drivertest.Run(t, harness(redistest.Start(t)))
}

func Benchmark(b *testing.B) { drivertest.Bench(b, harness(redistest.Start(b))) }
