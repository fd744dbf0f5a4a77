package azure

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources/v3"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
)

// Without its salt a cluster gets another one, which is kept: what has secrets is made once
// more, and then no more.
func TestNoSalt(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(tags map[string]*string){
		"gone": func(tags map[string]*string) { delete(tags, tagSalt) }, "empty": func(tags map[string]*string) { tags[tagSalt] = new("") },
	} {
		cloud, d, c := applied(t)
		harm(cloud.groups["navvy-demo"].Tags)
		if w, err := d.Observe(t.Context(), c.Name); err != nil || w.Salt != nil {
			t.Errorf("%s: the salt is %q, %v", name, w.Salt, err)
		}
		controller := cluster.New(d, nil)
		if _, err := controller.Apply(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if p, err := controller.Plan(t.Context(), c); err != nil || !p.Empty() {
			t.Errorf("%s: applied once more there is still to do %v, %v", name, p.Changes, err)
		}
	}
}

// Queues of another kind are others: those that were are removed, with what they are in, if
// what they hold may be lost.
func TestQueueKind(t *testing.T) {
	t.Parallel()
	cloud, d, c := applied(t)
	for _, kind := range []config.QueueKind{config.QueueStorage, config.QueueServiceBus} {
		c.Queue = config.Queue{Kind: kind, Request: "requests", Response: "responses"}
		holding := cloud.find(t, "queues/requests").properties
		holding["messageCount"] = 3.0
		_, err := cluster.New(d, nil).Apply(t.Context(), c)
		if lose, is := errors.AsType[*cluster.LoseError](err); !is || len(lose.Lost) != 1 || lose.Lost[0].Holds != "3 messages" {
			t.Errorf("to %s: got %v", kind, err)
		}
		if _, err := cluster.New(d, &cluster.Options{Lose: true}).Apply(t.Context(), c); err != nil {
			t.Fatalf("to %s: %v", kind, err)
		}
		if diff := difference(t, d, c); diff != "" {
			t.Errorf("to %s: %s", kind, diff)
		}
	}
}

// Workers are made anew when insights come or go, and have what they are to have of them: a
// collector beside them, which gets the key, and the way to it.
func TestInsights(t *testing.T) {
	t.Parallel()
	cloud, d, c := applied(t)
	for _, m := range []config.Monitor{{}, {Kind: config.MonitorInsights}, {Kind: config.MonitorInsights, Collector: "example.com/otel:1"}} {
		c.Monitor = m
		if _, err := cluster.New(d, nil).Apply(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		worker := cloud.find(t, "-1").properties
		variables := text(at(worker, "containers", 0, "properties", "environmentVariables"))
		for _, name := range []string{varInsights, varEndpoint, varName, "service.instance.id=navvy-demo"} {
			if strings.Contains(variables, name) != (m.Kind == config.MonitorInsights) {
				t.Errorf("%v: the worker has not %s or too much of it: %s", m, name, variables)
			}
		}
		beside := at(worker, "containers", 1, "properties")
		image := cmp.Or(m.Collector, DefaultCollector)
		if m.Kind == config.MonitorNone {
			image = ""
		}
		if got := text(at(beside, "image")); got != image {
			t.Errorf("%v: beside the worker is %q", m, got)
		}
		if has := text(at(beside, "environmentVariables")); image != "" && (!strings.Contains(has, varInsights) || strings.Contains(has, varBus) || strings.Contains(has, "geheim")) {
			t.Errorf("%v: the collector has %s", m, has)
		}
		if diff := difference(t, d, c); diff != "" {
			t.Errorf("%v: %s", m, diff)
		}
	}
	beside := at(cloud.find(t, "-1").properties, "containers", 1, "properties").(map[string]any)
	for key, evil := range map[string]any{"image": "evil", "command": []any{"evil"}, "environmentVariables": []any{}} {
		good := beside[key]
		beside[key] = evil
		if diff := difference(t, d, c); !strings.Contains(diff, "collector") {
			t.Errorf("another %s of the collector is no difference: %s", key, diff)
		}
		beside[key] = good
	}
}

// What the file says of a worker's name in its traces goes before what the cluster says.
func TestTracedAs(t *testing.T) {
	t.Parallel()
	cloud, c := newCloud(), example(t)
	c.Workers.Environment[varName] = config.Value{Text: "ours"}
	if err := apply(t.Context(), cloud.driver(t), c); err != nil {
		t.Fatal(err)
	}
	variables := text(at(cloud.find(t, "-1").properties, "containers", 0, "properties", "environmentVariables"))
	if strings.Count(variables, varName) != 1 || !strings.Contains(variables, "ours") || !strings.Contains(variables, varAttributes) {
		t.Errorf("it has %s", variables)
	}
}

// Where somebody has removed what the queues are in, workers have keys of what is no more: they
// are made anew, also if whoever made the other one was interrupted.
func TestKeys(t *testing.T) {
	t.Parallel()
	for _, kind := range []config.QueueKind{config.QueueServiceBus, config.QueueStorage} {
		cloud, c := newCloud(), example(t)
		c.Queue = config.Queue{Kind: kind, Request: "requests", Response: "responses"}
		d := cloud.driver(t)
		if err := apply(t.Context(), d, c); err != nil {
			t.Fatal(err)
		}
		all, err := d.Compile(t.Context(), c, salt)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(all, func(r driver.Resource) bool { return r.Kind == kindNamespace || r.Kind == kindAccount })
		cloud.vanish(strings.ToLower(cloud.find(t, "/"+all[i].Name).id))
		wantFailed(t, d, 2)
		if err := d.Put(t.Context(), c.Name, &all[i]); err != nil {
			t.Fatal(err)
		}
		wantFailed(t, d, 2)
		if _, err := cluster.New(d, nil).Apply(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		wantFailed(t, d, 0)
		if diff := difference(t, d, c); diff != "" {
			t.Error(diff)
		}
	}
}

// wantFailed checks how many workers are told to have failed.
func wantFailed(t *testing.T, d *Driver, want int) {
	t.Helper()
	w, err := d.Observe(t.Context(), "Demo")
	if err != nil {
		t.Fatal(err)
	}
	failed := slices.DeleteFunc(w.Resources, func(r driver.Observed) bool { return r.Kind != kindWorker || r.Health != driver.HealthFailed })
	if len(failed) != want {
		t.Errorf("%d workers have failed, not %d: %v", len(failed), want, failed)
	}
}

// A resource group that an administrator made for the cluster stays, and may be used again:
// after an apply that came to nothing, and after destroy.
func TestGivenGroup(t *testing.T) {
	t.Parallel()
	cloud, c := newCloud(), example(t)
	cloud.groups["navvy-demo"] = armGroup("navvy-Demo", map[string]*string{tagLock: new("Demo"), "owner": new("me")})
	d := cloud.driver(t)
	for _, do := range []func() error{
		func() error {
			l, err := d.Lock(t.Context(), c.Name, driver.Holder{Who: "a", What: "apply"})
			if err != nil {
				return err
			}
			return l.Release(t.Context())
		},
		func() error { return errors.Join(apply(t.Context(), d, c), destroy(t.Context(), d, c.Name)) },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
		g := cloud.groups["navvy-demo"]
		if g == nil || len(g.Tags) != 2 || tagOf(g.Tags, tagLock) != c.Name || len(cloud.resources)+len(cloud.deployments) != 0 {
			t.Fatalf("the group is %v, in it %v, %v", g, cloud.resources, cloud.deployments)
		}
	}
}

// A cluster does not move to another resource group, however its file says so; it is removed
// where it is.
func TestOtherGroup(t *testing.T) {
	t.Parallel()
	cloud, c := newCloud(), example(t)
	c.Azure.ResourceGroup = "mine"
	d := cloud.driver(t)
	d.o.ResourceGroup = "mine"
	if err := apply(t.Context(), d, c); err != nil {
		t.Fatal(err)
	}
	for _, group := range []string{"other", ""} {
		c.Azure.ResourceGroup, d.o.ResourceGroup = group, group
		mark, err := d.Compile(t.Context(), c, salt)
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range []error{apply(t.Context(), d, c), d.Put(t.Context(), c.Name, &mark[0])} {
			if !errors.Is(err, navvy.ErrConflict) || !strings.Contains(err.Error(), "mine") {
				t.Errorf("to %q: got %v", group, err)
			}
		}
		if len(cloud.groups) != 1 {
			t.Errorf("to %q: there are %v", group, cloud.groups)
		}
	}
	if err := destroy(t.Context(), d, c.Name); err != nil || len(cloud.groups) != 0 {
		t.Errorf("%v, left %v", err, cloud.groups)
	}
}

// To remove what there is not nothing is made, and what somebody else has is no matter.
func TestDestroyNothing(t *testing.T) {
	t.Parallel()
	for name, group := range map[string]*armresources.ResourceGroup{"nothing": nil, "another's": armGroup("navvy-Demo", map[string]*string{"owner": new("me")})} {
		cloud := newCloud()
		if group != nil {
			cloud.groups["navvy-demo"] = group
		}
		before := len(cloud.groups)
		if err := destroy(t.Context(), cloud.driver(t), "Demo"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(cloud.sent) != 0 || len(cloud.groups) != before || slices.Contains(cloud.calls, "ResourceGroupsClient.CreateOrUpdate") {
			t.Errorf("%s: it called %v", name, cloud.calls)
		}
	}
}
