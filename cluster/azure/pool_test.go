package azure

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
)

// How many nodes there are for workers of which the file says no number.
func TestPool(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		aks          *config.AKS
		count        int
		cpus, memory string
		want         string // the pool, or what is refused
	}{
		{nil, 0, "", "", "1"},
		{nil, 2, "", "", "1"},
		{nil, 3, "", "", "2"}, // 3 on a node, and there must be room for one more
		{nil, 100, "0.5", "1G", "17"},
		{nil, 10, "0.01", "4G", "6"}, // 2 on a node
		{nil, 179, "0.01", "10M", "2"},
		{nil, 180, "0.01", "10M", "3"}, // 90 pods on a node
		{nil, 1, "4", "1G", "has no room for such a worker"},
		{nil, 1, "1", "12G", "has no room for such a worker"},
		{nil, 10000, "", "", "want 1 to 250"},
		{&config.AKS{Nodes: 4}, 10000, "", "", "4"},
		{&config.AKS{MaxNodes: 4}, 1, "", "", "1-4"},
		{&config.AKS{VMSize: "Standard_D8s_v5", Nodes: 2}, 1, "8", "64G", "2"},
		{&config.AKS{VMSize: "Standard_D8s_v5"}, 1, "", "", "azure.aks.nodes is missing"},
		{&config.AKS{Nodes: 5, MaxNodes: 4}, 1, "", "", "want 1 to 250"},
		{&config.AKS{Nodes: 251}, 1, "", "", "want 1 to 250"},
		{nil, 1, "lots", "", "workers.cpus"},
	} {
		c := example(t)
		c.Monitor, c.Azure.Compute, c.Azure.AKS = config.Monitor{}, config.ComputeAKS, test.aks
		c.Workers.Count, c.Workers.CPUs, c.Workers.Memory = test.count, test.cpus, test.memory
		p, err := poolOf(c)
		switch {
		case err != nil && (!strings.Contains(err.Error(), test.want) || !errors.Is(err, navvy.ErrInvalid)):
			t.Errorf("%+v: %v", test, err)
		case err == nil && p.String() != test.want:
			t.Errorf("%+v: %s", test, p)
		}
	}
}

// What is beside each worker wants room, too.
func TestPoolWithCollectors(t *testing.T) {
	t.Parallel()
	c := example(t)
	c.Azure.Compute, c.Workers.Count, c.Workers.CPUs, c.Workers.Memory = config.ComputeAKS, 179, "0.01", "10M"
	if p, err := poolOf(c); err != nil || p.String() != "4" { // 50 on a node, of 60 thousandths each
		t.Errorf("%s, %v", p, err)
	}
}

// on AKS without a Kubernetes: the AKS cluster is there, and nothing is put on it.
func aksApplied(t *testing.T, aks *config.AKS) (*cloud, *Driver, *config.Cluster) {
	t.Helper()
	cloud, c := newCloud(), example(t)
	cloud.kubeconfig = answering(t)
	c.Name, c.Workers.Labels, c.Azure.Compute, c.Azure.AKS = "demo", nil, config.ComputeAKS, aks
	d := cloud.driver(t)
	if err := apply(t.Context(), d, c); err != nil {
		t.Fatal(err)
	}
	return cloud, d, c
}

func (c *cloud) pool(t *testing.T) map[string]any {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, thing := range c.resources {
		if thing.kind == typeAKS {
			return at(thing.properties, "agentPoolProfiles", 0).(map[string]any)
		}
	}
	t.Fatal("there is no AKS cluster")
	return nil
}

// observedAKS is the AKS cluster as it is seen.
func observedAKS(t *testing.T, d *Driver, c *config.Cluster) driver.Observed {
	t.Helper()
	w, err := d.Observe(t.Context(), c.Name)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range w.Resources {
		if r.Kind == kindAKS {
			return r
		}
	}
	t.Fatal("there is no AKS cluster")
	return driver.Observed{}
}

// Nodes that Azure's autoscaler has made stay when the AKS cluster is deployed once more.
func TestPoolKept(t *testing.T) {
	t.Parallel()
	cloud, d, c := aksApplied(t, &config.AKS{Nodes: 2, MaxNodes: 9})
	cloud.pool(t)["count"] = 7.0
	if got := observedAKS(t, d, c).Properties["nodes"]; got != "2-9" {
		t.Errorf("nodes %s", got)
	}
	for most, want := range map[int]string{8: "7", 5: "5"} {
		c.Azure.AKS.MaxNodes = most
		if err := apply(t.Context(), d, c); err != nil {
			t.Fatal(err)
		}
		if p := cloud.pool(t); text(p["count"]) != want || text(p["maxCount"]) != text(float64(most)) {
			t.Errorf("with at most %d nodes there are %v", most, p)
		}
		cloud.pool(t)["count"] = 7.0
	}
	c.Azure.AKS = &config.AKS{Nodes: 3}
	if err := apply(t.Context(), d, c); err != nil {
		t.Fatal(err)
	}
	if p := cloud.pool(t); text(p["count"]) != "3" || p["maxCount"] != nil || p["enableAutoScaling"] != false {
		t.Errorf("without an autoscaler there are %v", p)
	}
}

func TestPoolRefuses(t *testing.T) {
	t.Parallel()
	_, d, c := aksApplied(t, nil)
	c.Azure.AKS = &config.AKS{VMSize: "Standard_D8s_v5", Nodes: 1}
	if err := apply(t.Context(), d, c); !errors.Is(err, navvy.ErrConflict) || !strings.Contains(err.Error(), "azure.aks.vm_size says Standard_D8s_v5") {
		t.Errorf("got %v", err)
	}
	c.Azure.AKS, c.Workers.Labels = nil, map[string]string{"tier": "cheap"}
	if err := apply(t.Context(), d, c); !errors.Is(err, navvy.ErrUnsupported) || !strings.Contains(err.Error(), "workers.labels") {
		t.Errorf("got %v", err)
	}
	c.Workers.Labels, c.Share[0].At = nil, "/tmp/data"
	if err := apply(t.Context(), d, c); !errors.Is(err, navvy.ErrUnsupported) || !strings.Contains(err.Error(), "share[0].at") {
		t.Errorf("got %v", err)
	}
}

// An AKS cluster that somebody has stopped, or that Azure could not make, is told, and gone when it
// is destroyed, with the group of its nodes.
func TestAKSUnwell(t *testing.T) {
	t.Parallel()
	cloud, d, c := aksApplied(t, nil)
	thing := cloud.find(t, "/managedclusters/"+d.names(c.Name, groupName(c)).aks())
	thing.properties["powerState"] = map[string]any{"code": "Stopped"}
	if r := observedAKS(t, d, c); r.Health != driver.HealthFailed || !strings.Contains(r.Detail, "az aks start") {
		t.Errorf("%+v", r)
	}
	thing.properties["provisioningState"], cloud.kubeconfig = "Failed", nil
	if r := observedAKS(t, d, c); r.Health != driver.HealthFailed || r.Holds == "" {
		t.Errorf("%+v", r)
	}
	if err := destroy(t.Context(), d, c.Name); err != nil {
		t.Fatal(err)
	}
	if len(cloud.groups)+len(cloud.resources) > 0 {
		t.Errorf("left: %v, %v", cloud.groups, cloud.resources)
	}
}

// Errors of the credentials name what to do.
func TestAKSCredentials(t *testing.T) {
	t.Parallel()
	cloud, d, c := aksApplied(t, nil)
	cloud.kubeconfig = []byte("users: [{name: a, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/true}}}]")
	all, err := d.Compile(t.Context(), c, salt)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		if r.Kind != kindAKS && r.Kind != kindSecret {
			continue
		}
		if err := d.Put(t.Context(), c.Name, &r); !errors.Is(err, navvy.ErrUnsupported) || !strings.Contains(err.Error(), "programs or files of this machine") {
			t.Errorf("%s: got %v", r.ID, err)
		}
	}
}

// An AKS cluster that is not to be watched any more sends nothing, and lets go of the rule by which
// it did, which Azure does not remove as long as it is used.
func TestAKSUnwatched(t *testing.T) {
	t.Parallel()
	cloud, d, c := aksApplied(t, nil)
	if got := observedAKS(t, d, c).Properties["workspace"]; got != "navvy-demo" {
		t.Errorf("it is watched by %q", got)
	}
	association := "/dataCollectionRuleAssociations/ContainerInsightsExtension"
	if rule := text(cloud.find(t, association).properties["dataCollectionRuleId"]); !strings.HasSuffix(rule, "/dataCollectionRules/"+d.names("demo", "navvy-demo").collection()) {
		t.Errorf("it is associated with %s", rule)
	}
	c.Monitor = config.Monitor{}
	if err := apply(t.Context(), d, c); err != nil {
		t.Fatal(err)
	}
	if got := observedAKS(t, d, c).Properties["workspace"]; got != "" {
		t.Errorf("it is still watched by %q", got)
	}
	w, err := d.Observe(t.Context(), c.Name)
	if err != nil {
		t.Fatal(err)
	}
	removed := 0
	for _, r := range slices.Backward(w.Resources) {
		if r.Kind == kindCollection || r.Kind == kindInsights || r.Kind == kindWorkspace {
			removed++
			if err := d.Remove(t.Context(), c.Name, &r); err != nil {
				t.Error(err)
			}
		}
	}
	for id := range cloud.resources {
		if strings.Contains(id, "datacollection") {
			t.Errorf("left: %s", id)
		}
	}
	if removed != 3 {
		t.Errorf("%d were there to be removed", removed)
	}
}

// The keys that workers on AKS get of queues of a storage account.
func TestAKSStorageKeys(t *testing.T) {
	t.Parallel()
	cloud, c := newCloud(), example(t)
	cloud.kubeconfig = answering(t)
	c.Name, c.Workers.Labels, c.Azure.Compute = "demo", nil, config.ComputeAKS
	c.Queue = config.Queue{Kind: config.QueueStorage, Request: "requests", Response: "responses"}
	d := cloud.driver(t)
	if err := apply(t.Context(), d, c); err != nil {
		t.Fatal(err)
	}
	account := d.names("demo", groupName(c)).account()
	late, err := d.workerKeys(t.Context(), groupName(c), typeAccount, account, "")
	want := "DefaultEndpointsProtocol=https;AccountName=" + account + ";AccountKey=" + testKey + ";EndpointSuffix=core.windows.net"
	if err != nil || late.Values[varStorage] != want || len(late.Values) != 1 || !strings.HasPrefix(late.Of, account+" 2026-") {
		t.Errorf("got %+v, %v", late, err)
	}
	// The same as the template gives to a container group.
	c.Azure.Compute = config.ComputeACI
	if err := apply(t.Context(), d, c); err != nil {
		t.Fatal(err)
	}
	for _, v := range elements(at(cloud.find(t, "/"+d.names("demo", groupName(c)).worker(1)).properties, "containers", 0, "properties", "environmentVariables")) {
		if at(v, "name") == varStorage && at(v, "secureValue") != want {
			t.Errorf("a container group has %v", v)
		}
	}
}
