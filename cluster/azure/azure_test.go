package azure

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources/v3"
	"github.com/google/go-cmp/cmp"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/test/kube/kubetest"
)

func TestMain(m *testing.M) { kubetest.Main(m) }

var (
	_ driver.Driver    = (*Driver)(nil)
	_ driver.Previewer = (*Driver)(nil)
	_ driver.Lock      = (*lock)(nil)
)

var salt = []byte("sixteen bytes at")

// example is a cluster with all that there can be.
func example(t testing.TB) *config.Cluster {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "data", "model.bin"), "weights")
	write(t, filepath.Join(dir, "data", "sub", "empty"), "")
	return &config.Cluster{
		Version: 1, Name: "Demo", Provider: config.ProviderAzure, Dir: dir,
		Queue:   config.Queue{Kind: config.QueueServiceBus, Request: "requests", Response: "responses", Lease: config.Duration(90 * time.Second), Attempts: 7},
		Share:   []config.Share{{From: "data", At: "/data"}},
		Service: config.Service{Kind: config.ServiceLines, Command: "/data/score --fast", Timeout: config.Duration(time.Minute)},
		Monitor: config.Monitor{Kind: config.MonitorInsights},
		Workers: config.Workers{
			Count: 2, Concurrency: 4, CPUs: "0.5", Memory: "1G", Image: "ghcr.io/example/scorer:1",
			Environment: map[string]config.Value{"MODE": {Text: "fast"}, "NONE": {}, "TOKEN": {Env: "SECRET"}},
			Labels:      map[string]string{"tier": "cheap"},
		},
		Azure: &config.Azure{Subscription: testSubscription, Location: "westeurope"},
	}
}

func write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// apply puts all that a file asks for, in order, and removes nothing.
func apply(ctx context.Context, d *Driver, c *config.Cluster) error {
	all, err := d.Compile(ctx, c, salt)
	if err != nil {
		return err
	}
	l, err := d.Lock(ctx, c.Name, driver.Holder{Who: "a@b", What: "apply", Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)})
	if err != nil {
		return err
	}
	for i := range all {
		if _, is := all[i].Spec.(*guestSpec); is && d.wrap == nil { // it wants a Kubernetes, see aks_test.go
			continue
		}
		if err = d.Put(ctx, c.Name, &all[i]); err != nil {
			break
		}
	}
	return errors.Join(err, l.Release(ctx))
}

// destroy removes all that there is, from the end.
func destroy(ctx context.Context, d *Driver, name string) error {
	l, err := d.Lock(ctx, name, driver.Holder{Who: "a@b", What: "destroy", Since: time.Now()})
	if err != nil {
		return err
	}
	w, err := d.Observe(ctx, name)
	if err == nil {
		for _, r := range slices.Backward(w.Resources) {
			if err = d.Remove(ctx, name, &r); err != nil {
				break
			}
		}
	}
	return errors.Join(err, l.Release(ctx))
}

// difference is how the world differs from a file, as plan would see it.
func difference(t testing.TB, d *Driver, c *config.Cluster) string {
	t.Helper()
	want, err := d.Compile(t.Context(), c, salt)
	if err != nil {
		t.Fatal(err)
	}
	w, err := d.Observe(t.Context(), c.Name)
	if err != nil {
		t.Fatal(err)
	}
	is := map[string]driver.Properties{}
	for _, r := range w.Resources {
		if r.Health != driver.HealthOK {
			return r.String() + " is " + string(r.Health) + ": " + r.Detail
		}
		is[r.String()] = r.Properties
	}
	all := map[string]driver.Properties{}
	for _, r := range want {
		all[r.String()] = r.Properties
	}
	return cmp.Diff(all, is)
}

func TestCycle(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*config.Cluster){
		"service bus": func(*config.Cluster) {},
		"storage": func(c *config.Cluster) {
			c.Queue = config.Queue{Kind: config.QueueStorage, Request: "requests", Response: "responses", SKU: "Standard_ZRS"}
		},
		"a broker": func(c *config.Cluster) {
			c.Queue = config.Queue{Kind: config.QueueRabbitMQ, Request: "in", Response: "out", URL: &config.Value{Env: "BROKER"}}
			c.Monitor, c.Share = config.Monitor{}, nil
		},
		"nobody works": func(c *config.Cluster) { c.Workers.Count = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cloud, c := newCloud(), example(t)
			d := cloud.driver(t)
			change(c)
			for range 2 {
				if err := apply(t.Context(), d, c); err != nil {
					t.Fatal(err)
				}
				if diff := difference(t, d, c); diff != "" {
					t.Fatal(diff)
				}
			}
			if names, err := d.Clusters(t.Context()); err != nil || len(names) != 1 || names[0] != "Demo" {
				t.Errorf("clusters %v, %v", names, err)
			}
			for range 2 {
				if err := destroy(t.Context(), d, c.Name); err != nil {
					t.Fatal(err)
				}
				if len(cloud.groups) != 0 || len(cloud.resources) != 0 || len(cloud.deployments) != 0 {
					t.Errorf("something is left: %v %v", cloud.groups, cloud.resources)
				}
			}
			if names, err := d.Clusters(t.Context()); err != nil || len(names) != 0 {
				t.Errorf("clusters %v, %v", names, err)
			}
		})
	}
}

// find is a resource of the cloud by the end of its id.
func (c *cloud) find(t testing.TB, suffix string) *thing {
	t.Helper()
	for id, r := range c.resources {
		if strings.HasSuffix(id, strings.ToLower(suffix)) {
			return r
		}
	}
	t.Fatalf("there is no %s", suffix)
	return nil
}

func applied(t testing.TB) (*cloud, *Driver, *config.Cluster) {
	t.Helper()
	cloud, c := newCloud(), example(t)
	d := cloud.driver(t)
	if err := apply(t.Context(), d, c); err != nil {
		t.Fatal(err)
	}
	return cloud, d, c
}

func TestDrift(t *testing.T) {
	t.Parallel()
	n := (&Driver{subscription: testSubscription}).names("Demo", "navvy-Demo")
	for name, harm := range map[string]func(*testing.T, *cloud){
		"the lock of a queue": func(t *testing.T, c *cloud) { c.find(t, "/queues/requests").properties["lockDuration"] = "PT30S" },
		"a queue is gone":     func(t *testing.T, c *cloud) { delete(c.resources, strings.ToLower(c.find(t, "/queues/responses").id)) },
		"a worker is gone":    func(t *testing.T, c *cloud) { delete(c.resources, strings.ToLower(c.find(t, n.worker(2)).id)) },
		"an image": func(t *testing.T, c *cloud) {
			at(c.find(t, n.worker(1)).properties, "containers", 0, "properties").(map[string]any)["image"] = "evil"
		},
		"cores": func(t *testing.T, c *cloud) {
			at(c.find(t, n.worker(1)).properties, "containers", 0, "properties", "resources", "requests").(map[string]any)["cpu"] = 2.0
		},
		"a variable": func(t *testing.T, c *cloud) {
			p := at(c.find(t, n.worker(1)).properties, "containers", 0, "properties").(map[string]any)
			p["environmentVariables"] = append(p["environmentVariables"].([]any), map[string]any{"name": "MORE", "value": "x"})
		},
		"a tag":            func(t *testing.T, c *cloud) { c.find(t, n.worker(1)).tags[tagService] = new("other") },
		"what is uploaded": func(t *testing.T, c *cloud) { c.find(t, "/shares/"+n.share("/data")).properties["metadata"] = nil },
		"the file is not known": func(_ *testing.T, c *cloud) {
			delete(c.deployments, key("navvy-Demo", n.deployment(driver.ID{Kind: driver.KindCluster, Name: "Demo"})))
		},
		"the deployments are forgotten": func(_ *testing.T, c *cloud) { clear(c.deployments) },
		"a worker failed":               func(t *testing.T, c *cloud) { c.find(t, n.worker(1)).properties["provisioningState"] = "Failed" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cloud, d, c := applied(t)
			harm(t, cloud)
			if difference(t, d, c) == "" {
				t.Fatal("it was not seen")
			}
			if name == "the deployments are forgotten" { // then nobody knows whose the queues are
				err := apply(t.Context(), d, c)
				if !errors.Is(err, navvy.ErrExists) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err := apply(t.Context(), d, c); err != nil {
				t.Fatal(err)
			}
			if diff := difference(t, d, c); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	cloud, d, c := applied(t)
	before, err := d.Compile(t.Context(), c, salt)
	if err != nil {
		t.Fatal(err)
	}
	d.o.Getenv = func(string) string { return "another" }
	if diff := difference(t, d, c); !strings.Contains(diff, "secrets") {
		t.Errorf("a secret has changed, and the difference is %q", diff)
	}
	for _, r := range before {
		for name, value := range r.Properties {
			if strings.Contains(value, "geheim") {
				t.Errorf("%s tells a secret in %s", r.ID, name)
			}
		}
	}
	for name, sent := range cloud.sent {
		template, parameters, err := opened(sent)
		if err != nil {
			t.Fatal(err)
		}
		for p, value := range parameters {
			kind := at(template, "parameters", p, "type")
			if text := text(value); strings.Contains(text, "geheim") && kind != "secureObject" && kind != "secureString" {
				t.Errorf("deployment %s has a secret in its parameter %s of type %v", name, p, kind)
			}
		}
	}
	if value := at(cloud.find(t, "-1").properties, "containers", 0, "properties", "environmentVariables"); !strings.Contains(text(value), "geheim") {
		t.Errorf("the worker has not got its secret: %v", value)
	}
}

func armGroup(name string, tags map[string]*string) *armresources.ResourceGroup {
	return &armresources.ResourceGroup{Name: new(name), Location: new("westeurope"), Tags: tags}
}

func TestForeign(t *testing.T) {
	t.Parallel()
	for name, tags := range map[string]map[string]*string{
		"no tags": nil, "another cluster's": {tagCluster: new("other"), tagLock: new("Demo")}, "tags of others": {"owner": new("Demo")},
	} {
		cloud := newCloud()
		cloud.groups["navvy-demo"] = armGroup("navvy-Demo", tags)
		if err := apply(t.Context(), cloud.driver(t), example(t)); !errors.Is(err, navvy.ErrExists) || !strings.Contains(err.Error(), "navvy-Demo") {
			t.Errorf("%s: got %v", name, err)
		}
		if len(cloud.sent) != 0 || len(cloud.groups["navvy-demo"].Tags) != len(tags) {
			t.Errorf("%s: it was changed", name)
		}
	}
}

const testBase = "/subscriptions/" + testSubscription + "/resourceGroups/navvy-Demo/providers/"

// smartDetection is what Azure makes by itself beside Application Insights.
const smartDetection = "microsoft.insights/actiongroups"

// theirs puts something of somebody else's into the resource group.
func (c *cloud) theirs(path, kind string) {
	c.resources[strings.ToLower(testBase+path)] = &thing{id: testBase + path, kind: kind, name: path[strings.LastIndex(path, "/")+1:], properties: map[string]any{}}
}

func TestForeignInGroup(t *testing.T) {
	t.Parallel()
	cloud, d, c := applied(t)
	cloud.theirs("Microsoft.Compute/disks/mine", "Microsoft.Compute/disks")
	cloud.theirs(smartDetection+"/Application Insights Smart Detection", smartDetection)
	if err := destroy(t.Context(), d, c.Name); err != nil {
		t.Fatal(err)
	}
	if cloud.find(t, "/disks/mine") == nil || len(cloud.resources) != 2 || len(cloud.groups["navvy-demo"].Tags) != 0 {
		t.Errorf("left: %v", cloud.resources)
	}
	if w, err := d.Observe(t.Context(), c.Name); err != nil || len(w.Resources) != 0 {
		t.Errorf("there is %v, %v", w, err)
	}
}

func TestMadeByAzure(t *testing.T) {
	t.Parallel()
	cloud, d, c := applied(t)
	cloud.theirs(smartDetection+"/Application Insights Smart Detection", smartDetection)
	if err := destroy(t.Context(), d, c.Name); err != nil || len(cloud.groups) != 0 {
		t.Errorf("%v, left: %v", err, cloud.groups)
	}
}

// Others have put something into the namespace, or into the storage account.
func TestForeignInside(t *testing.T) {
	t.Parallel()
	n := (&Driver{subscription: testSubscription}).names("Demo", "navvy-Demo")
	for name, path := range map[string]string{
		"in the namespace": typeNamespace + "/" + n.namespace() + "/queues/mine",
		"in the account":   typeAccount + "/" + n.support() + "/fileServices/default/shares/mine",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cloud, d, c := applied(t)
			cloud.theirs(path, "a/b/c")
			err := destroy(t.Context(), d, c.Name)
			if !errors.Is(err, navvy.ErrConflict) || !strings.Contains(err.Error(), "mine") {
				t.Errorf("got %v", err)
			}
			delete(cloud.resources, strings.ToLower(testBase+path))
			if err := destroy(t.Context(), d, c.Name); err != nil || len(cloud.groups) != 0 {
				t.Errorf("%v, left %v", err, cloud.groups)
			}
		})
	}
}

func TestForeignWorker(t *testing.T) {
	t.Parallel()
	cloud, d, c := applied(t)
	worker := d.names("Demo", "navvy-Demo").worker(1)
	delete(cloud.find(t, worker).tags, tagCluster)
	if err := apply(t.Context(), d, c); !errors.Is(err, navvy.ErrExists) || !strings.Contains(err.Error(), worker) {
		t.Errorf("got %v", err)
	}
	if err := destroy(t.Context(), d, c.Name); err != nil || cloud.find(t, worker) == nil {
		t.Errorf("got %v", err)
	}
}

// Who has a cluster's name alone and finds nothing makes nothing.
func TestNoLocation(t *testing.T) {
	t.Parallel()
	cloud, c := newCloud(), example(t)
	d := cloud.driver(t)
	d.o.Location = ""
	if err := destroy(t.Context(), d, c.Name); err != nil {
		t.Error(err)
	}
	if err := apply(t.Context(), d, c); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if len(cloud.groups)+len(cloud.sent) != 0 {
		t.Errorf("there is %v", cloud.groups)
	}
}

func TestUpload(t *testing.T) {
	t.Parallel()
	cloud, d, c := applied(t)
	n := d.names("Demo", "navvy-Demo")
	share := n.support() + "/" + n.share("/data")
	if f := cloud.files[share+"/model.bin"]; f == nil || string(f.data) != "weights" {
		t.Fatalf("got %v", f)
	}
	cloud.files[share+"/theirs"] = &remote{data: []byte("of others")}
	if err := os.Remove(filepath.Join(c.Dir, "data", "model.bin")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(c.Dir, "data", "sub", "empty"), "not any more")
	if diff := difference(t, d, c); !strings.Contains(diff, "content") {
		t.Errorf("the difference is %s", diff)
	}
	cloud.calls = nil
	if err := apply(t.Context(), d, c); err != nil {
		t.Fatal(err)
	}
	if cloud.files[share+"/model.bin"] != nil || cloud.files[share+"/theirs"] == nil || string(cloud.files[share+"/sub/empty"].data) != "not any more" {
		t.Errorf("got %v", cloud.files)
	}
	if diff := difference(t, d, c); diff != "" {
		t.Error(diff)
	}
	c.Share[0].From = "nowhere"
	if _, err := d.Compile(t.Context(), c, salt); !errors.Is(err, navvy.ErrNotFound) || !strings.Contains(err.Error(), "share[0].from") {
		t.Errorf("got %v", err)
	}
}

// A worker is one whose cores have changed: Azure cannot change those.
func TestResize(t *testing.T) {
	t.Parallel()
	cloud, d, c := applied(t)
	c.Workers.CPUs, c.Workers.Count = "2", 12
	cloud.paged = true
	cloud.calls = nil
	if err := apply(t.Context(), d, c); err != nil {
		t.Fatal(err)
	}
	if n := len(slices.DeleteFunc(slices.Clone(cloud.calls), func(s string) bool { return s != "Client.BeginDeleteByID" })); n != 4 { // each with its poll
		t.Errorf("%d calls to remove: %v", n, cloud.calls)
	}
	if diff := difference(t, d, c); diff != "" {
		t.Error(diff)
	}
	w, err := d.Observe(t.Context(), c.Name)
	if err != nil {
		t.Fatal(err)
	}
	if last := w.Resources[len(w.Resources)-1]; !strings.HasSuffix(last.Name, "-12") || len(last.Needs) != 4 {
		t.Errorf("the last is %v", last)
	}
	if string(w.Salt) != string(salt) || !strings.Contains(string(w.Config), `"Demo"`) {
		t.Errorf("salt %q, file %q", w.Salt, w.Config)
	}
}
