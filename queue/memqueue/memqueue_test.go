package memqueue_test

import (
	"strconv"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/drivertest"
	"github.com/navvy-run/navvy/queue/memqueue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var serial atomic.Int64

func harness(broker *memqueue.Broker) *drivertest.Harness {
	return &drivertest.Harness{
		Driver: broker.Driver,
		URL:    func(testing.TB) string { return "mem://q" + strconv.FormatInt(serial.Add(1), 10) },
		Want: driver.Capabilities{
			Correlation: true, Reason: true, Attempts: true, Delay: true, Binary: true, Detects: true,
			Peek: 10_000, Waiting: true, MaxBody: 64 << 20, MaxBatch: 1000,
		},
		Own: func(testing.TB) *drivertest.Restartable {
			own := &memqueue.Broker{}
			return &drivertest.Restartable{
				Harness: harness(own),
				Kill:    func(testing.TB) { own.Kill() }, Restart: func(testing.TB) { own.Restart() },
			}
		},
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	drivertest.Run(t, harness(&memqueue.Broker{}))
}

func Benchmark(b *testing.B) { drivertest.Bench(b, harness(&memqueue.Broker{})) }
