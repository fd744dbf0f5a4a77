package natsqueue_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/drivertest"
	"github.com/navvy-run/navvy/queue/natsqueue"
	"github.com/navvy-run/navvy/queue/natsqueue/natstest"
)

func TestMain(m *testing.M) {
	natstest.Serve()
	goleak.VerifyTestMain(m)
}

var serial atomic.Int64

func queueURL(s *natstest.Server) string { return fmt.Sprintf("nats://%s/q.%d", s.Addr, serial.Add(1)) }

func harness(s *natstest.Server) *drivertest.Harness {
	return &drivertest.Harness{
		Driver: natsqueue.Driver,
		URL:    func(testing.TB) string { return queueURL(s) },
		Want: driver.Capabilities{
			Correlation: true, Reason: true, Attempts: true, Delay: true, Binary: true,
			Peek: 1000, Waiting: true, MaxBody: 1<<20 - 8<<10, MaxBatch: 1000,
		},
		Own: func(tb testing.TB) *drivertest.Restartable {
			own := natstest.Start(tb, nil)
			return &drivertest.Restartable{Harness: harness(own), Kill: own.Kill, Restart: own.Restart}
		},
		Bare: func(b *testing.B, bodies [][]byte) { bare(b, s, bodies) },
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	drivertest.Run(t, harness(natstest.Start(t, nil)))
}

func Benchmark(b *testing.B) { drivertest.Bench(b, harness(natstest.Start(b, nil))) }
