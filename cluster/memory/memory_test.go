package memory_test

import (
	"maps"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/driver/drivertest"
	"github.com/navvy-run/navvy/cluster/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	t.Parallel()
	const secret, another = "hunter2-of-the-suite", "another-secret"
	world := memory.NewWorld(func(name string) string { return map[string]string{"SECRET": secret, "ANOTHER": another}[name] })
	queue := driver.ID{Kind: "queue", Name: "requests"}
	drivertest.Run(t, &drivertest.Harness{
		Open: func(testing.TB) driver.Driver { return world.Open() },
		Cluster: func(_ testing.TB, name string, workers int, variant string) *config.Cluster {
			key := map[bool]string{false: "SECRET", true: "ANOTHER"}[variant == "secret"]
			command := map[bool]string{false: "", true: "./other"}[variant == "b"]
			return &config.Cluster{
				Version: config.Version, Name: name, Provider: config.ProviderLocal,
				Queue:   config.Queue{Kind: config.QueueNavvy, Request: queue.Name},
				Service: config.Service{Kind: config.ServiceCGI, Command: "./answer " + command},
				Workers: config.Workers{Count: workers, Environment: map[string]config.Value{"KEY": {Env: key}}},
			}
		},
		Break: func(_ testing.TB, name string) driver.ID {
			id := driver.ID{Kind: "worker", Name: "1"}
			world.Break(name, id)
			return id
		},
		Foreign: func(_ testing.TB, name string) (driver.ID, func() bool) {
			is := driver.Properties{"whose": "another's"}
			world.Occupy(name, queue, is)
			return queue, func() bool { return maps.Equal(world.Occupied(name, queue), is) }
		},
		Hold: func(_ testing.TB, name string) driver.ID {
			world.Hold(name, queue, "a request")
			return queue
		},
		Another: func(_ testing.TB, c *config.Cluster) { c.Queue.Kind = config.QueueNATS },
		Left:    func(_ testing.TB, name string) []string { return world.Left(name) },
		Secret:  secret, Patience: time.Minute,
	})
}
