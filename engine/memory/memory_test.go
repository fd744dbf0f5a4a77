package memory_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/engine/driver/drivertest"
	"github.com/navvy-run/navvy/engine/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStore(t *testing.T) {
	t.Parallel()
	drivertest.Run(t, drivertest.Harness{
		New:    func(testing.TB) driver.Store { return memory.New() },
		Reopen: func(_ testing.TB, s driver.Store) driver.Store { return s.(*memory.Store).Crash() },
		Crash:  func(_ testing.TB, s driver.Store, _ uint64) driver.Store { return s.(*memory.Store).Crash() },
	})
}
