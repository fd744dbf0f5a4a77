package servicebusqueue_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/drivertest"
	"github.com/navvy-run/navvy/queue/servicebusqueue"
	"github.com/navvy-run/navvy/queue/servicebusqueue/servicebustest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var serial atomic.Int64

func harness(b *servicebustest.Broker) *drivertest.Harness {
	return &drivertest.Harness{
		Driver: servicebusqueue.Driver(&servicebusqueue.Options{ConnectionString: b.ConnectionString()}),
		URL: func(testing.TB) string {
			return fmt.Sprintf("azservicebus://%s/q-%d", b.Address(), serial.Add(1))
		},
		Dead: func(url string) string { return url + servicebusqueue.DeadSuffix },
		Want: driver.Capabilities{
			Correlation: true, Reason: true, Attempts: true, Binary: true, Detects: true, Peek: 1000, MaxBody: 248 << 10, MaxBatch: 500,
		},
		Lease: 5 * time.Second, // the shortest that Azure has
		Own: func(t testing.TB) *drivertest.Restartable {
			own := servicebustest.StartOnDisk(t)
			return &drivertest.Restartable{Harness: harness(own), Kill: own.Kill, Restart: own.Restart}
		},
		Bare: bare(b),
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	drivertest.Run(t, harness(servicebustest.Start(t)))
}

func Benchmark(b *testing.B) {
	broker := servicebustest.Start(b)
	bodies := make([][]byte, 2000)
	for i := range bodies {
		bodies[i] = []byte("x")
	}
	bare(broker)(b, bodies) // the stand-in is slow at first
	drivertest.Bench(b, harness(broker))
}
