package storagequeue_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/drivertest"
	"github.com/navvy-run/navvy/queue/storagequeue"
	"github.com/navvy-run/navvy/queue/storagequeue/azuritetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var serial atomic.Int64

// newURL names a queue that nobody has used.
func newURL() string {
	return fmt.Sprintf("azqueue://%s/q-%d?interval=50ms", azuritetest.Account, serial.Add(1))
}

// dead is the URL of a queue's dead letters.
func dead(url string) string {
	return strings.Replace(url, "?", storagequeue.DeadSuffix+"?", 1)
}

func harness(a *azuritetest.Azurite) *drivertest.Harness {
	return &drivertest.Harness{
		Driver: storagequeue.Driver(&storagequeue.Options{ConnectionString: a.ConnectionString()}),
		URL:    func(testing.TB) string { return newURL() },
		Dead:   dead,
		Want: driver.Capabilities{
			Attempts: true, Delay: true, Detects: true, Peek: 32, MaxBody: 64 << 10, MaxBatch: 64,
		},
		Lease: 2 * time.Second, // the emulator does one thing at a time, and the suite many
		Own: func(t testing.TB) *drivertest.Restartable {
			own := azuritetest.StartOnDisk(t)
			return &drivertest.Restartable{Harness: harness(own), Kill: own.Stop, Restart: own.Restart}
		},
		Bare: bare(a),
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	drivertest.Run(t, harness(azuritetest.Start(t)))
}

func Benchmark(b *testing.B) {
	a := azuritetest.Start(b)
	bare(a)(b, make([][]byte, 2000)) // the emulator is slow at first
	drivertest.Bench(b, harness(a))
}
