package azure

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/driver/drivertest"
)

const (
	suiteSecret  = "hunter2-of-the-suite"
	suiteAnother = "another-secret"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]config.QueueKind{"servicebus": config.QueueServiceBus, "storage": config.QueueStorage} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			drivertest.Run(t, harness(kind))
		})
	}
}

func suiteEnv(name string) string {
	return map[string]string{"SECRET": suiteSecret, "ANOTHER": suiteAnother}[name]
}

func harness(kind config.QueueKind) *drivertest.Harness { return harnessOf(newCloud(), kind) }

func harnessOf(cloud *cloud, kind config.QueueKind) *drivertest.Harness {
	return &drivertest.Harness{
		Open: func(t testing.TB) driver.Driver {
			d := cloud.driver(t)
			d.o.Getenv = suiteEnv
			return d
		},
		Cluster: func(t testing.TB, name string, workers int, variant string) *config.Cluster {
			return suiteCluster(t, kind, name, workers, variant)
		},
		Break: func(t testing.TB, name string) driver.ID {
			worker := (&Driver{subscription: testSubscription}).names(name, "navvy-"+name).worker(1)
			cloud.mu.Lock()
			defer cloud.mu.Unlock()
			cloud.find(t, "/"+worker).properties["provisioningState"] = "Failed"
			return driver.ID{Kind: kindWorker, Name: worker}
		},
		Foreign: func(t testing.TB, name string) (driver.ID, func() bool) { return cloud.occupy(t, kind, name) },
		Hold: func(t testing.TB, name string) driver.ID {
			kindOf := map[config.QueueKind]string{config.QueueServiceBus: kindQueue, config.QueueStorage: kindStored}[kind]
			cloud.mu.Lock()
			defer cloud.mu.Unlock()
			for id, thing := range cloud.resources {
				if strings.Contains(id, "/resourcegroups/navvy-"+name+"/") && strings.HasSuffix(id, "/queues/requests") {
					thing.properties["messageCount"] = 2.0
					return driver.ID{Kind: kindOf, Name: "requests"}
				}
			}
			t.Fatal("there is no queue")
			return driver.ID{}
		},
		Another: func(_ testing.TB, c *config.Cluster) {
			c.Queue.SKU, c.Queue.Kind = "", map[config.QueueKind]config.QueueKind{config.QueueServiceBus: config.QueueStorage, config.QueueStorage: config.QueueServiceBus}[kind]
		},
		Left:   func(_ testing.TB, name string) []string { return cloud.left("navvy-" + name) },
		Secret: suiteSecret, Patience: 2 * time.Minute,
	}
}

func suiteCluster(t testing.TB, kind config.QueueKind, name string, workers int, variant string) *config.Cluster {
	t.Helper()
	dir := filepath.Join("testdata", "suite")
	c := &config.Cluster{
		Version: config.Version, Name: name, Provider: config.ProviderAzure, Dir: dir,
		Queue:   config.Queue{Kind: kind, Request: "requests", Response: "responses"},
		Share:   []config.Share{{From: "data", At: "/data"}},
		Service: config.Service{Kind: config.ServiceCGI, Command: "/data/answer"},
		Monitor: config.Monitor{Kind: config.MonitorInsights},
		Workers: config.Workers{Count: workers, Image: "ghcr.io/example/a:1", Environment: map[string]config.Value{"KEY": {Env: "SECRET"}}},
		Azure:   &config.Azure{Subscription: testSubscription, Location: "westeurope"},
	}
	switch variant {
	case "b":
		c.Service.Command = "/data/answer --better"
	case "secret":
		c.Workers.Environment = map[string]config.Value{"KEY": {Env: "ANOTHER"}}
	}
	c = config.Defaults(c)
	if err := config.Validate(c); err != nil {
		t.Fatal(err)
	}
	return c
}

// occupy puts a namespace or an account of somebody else's where the cluster's will be, in a
// resource group of the cluster's, as it would be after its lock was taken.
func (c *cloud) occupy(t testing.TB, kind config.QueueKind, name string) (driver.ID, func() bool) {
	t.Helper()
	n := (&Driver{subscription: testSubscription}).names(name, "navvy-"+name)
	id, what := driver.ID{Kind: kindNamespace, Name: n.namespace()}, typeNamespace
	if kind == config.QueueStorage {
		id, what = driver.ID{Kind: kindAccount, Name: n.account()}, typeAccount
	}
	path := "/subscriptions/" + testSubscription + "/resourceGroups/navvy-" + name + "/providers/" + what + "/" + id.Name
	g := armGroup("navvy-"+name, map[string]*string{tagLock: new(name)})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.groups[key("navvy-"+name)] = g
	mine := &thing{id: path, kind: what, name: id.Name, location: "westeurope", tags: map[string]*string{"owner": new("me")}, properties: map[string]any{"mine": true}}
	c.resources[strings.ToLower(path)] = mine
	return id, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		now := c.resources[strings.ToLower(path)]
		return now == mine && len(now.tags) == 1 && now.properties["mine"] == true && len(now.properties) == 1
	}
}

// left lists what there is in a resource group.
func (c *cloud) left(group string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	if c.groups[key(group)] != nil {
		all = append(all, group)
	}
	for _, id := range slices.Sorted(maps.Keys(c.resources)) {
		if strings.Contains(id, "/resourcegroups/"+key(group)+"/") {
			all = append(all, id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.deployments)) {
		if strings.HasPrefix(id, key(group)+"/") {
			all = append(all, fmt.Sprint("deployment ", id))
		}
	}
	return all
}
