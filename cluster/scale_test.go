package cluster_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/memory"
)

// Who has another value for a variable that the file names does not change the cluster by
// scaling it; what is gone is made on the way.
func TestScaleElsewhere(t *testing.T) {
	t.Parallel()
	key := "of-hers"
	world := memory.NewWorld(func(string) string { return key })
	c := cluster.New(world.Open(), nil)
	want := &config.Cluster{
		Version: config.Version, Name: "shared", Provider: config.ProviderLocal,
		Queue:   config.Queue{Kind: config.QueueNavvy, Request: "requests"},
		Service: config.Service{Kind: config.ServiceEcho},
		Workers: config.Workers{Count: 2, Environment: map[string]config.Value{"KEY": {Env: "KEY"}}},
	}
	if _, err := c.Apply(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	key = "of-his"
	p, err := c.Scale(t.Context(), "shared", 3)
	if !errors.Is(err, navvy.ErrConflict) || !strings.Contains(err.Error(), "worker 1 ") || !strings.Contains(err.Error(), "environment.KEY") {
		t.Errorf("scaled with another value: %+v, %v", p, err)
	}
	key = "of-hers"
	world.Break("shared", driver.ID{Kind: "worker", Name: "2"})
	if p, err := c.Scale(t.Context(), "shared", 3); err != nil || p.Count(cluster.Create) < 1 || p.Count(cluster.Alter) > 1 {
		t.Errorf("scaled with the value it has: %+v, %v", p, err)
	}
}
