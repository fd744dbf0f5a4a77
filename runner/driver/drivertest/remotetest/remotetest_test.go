package remotetest_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/driver/drivertest"
	"github.com/navvy-run/navvy/runner/driver/drivertest/remotetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	t.Parallel()
	drivertest.Run(t, func(testing.TB) drivertest.Harness {
		world := remotetest.NewWorld()
		return drivertest.Harness{
			Open:       func(testing.TB) driver.Driver { return remotetest.New(world) },
			Spec:       world.Spec,
			Disconnect: world.Disconnect,
		}
	})
}
