package azure

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armdeployments"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
)

// Each call in turn fails, in two of six ways, before or after it did its work; then whoever
// applies, or destroys, does it once more, and all is as it should be.
func TestFaultsEverywhere(t *testing.T) {
	t.Parallel()
	kinds := map[string]fault{
		"throttled":           {status: 429, code: "TooManyRequests"},
		"a server that errs":  {status: 500, code: "InternalServerError"},
		"a broken connection": {err: &net.OpError{Op: "read", Err: errors.New("reset")}},
		"an answer is lost":   {err: &net.OpError{Op: "read", Err: errors.New("reset")}, late: true},
		"under way":           {status: 409, code: "DeploymentActive"},
		"denied":              {status: 403, code: "AuthorizationFailed"},
	}
	// Of three calls each kind has one, and each call two kinds.
	first := map[string]int{"throttled": 0, "a server that errs": 1, "a broken connection": 2, "an answer is lost": 0, "under way": 1, "denied": 2}
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := example(t)
			c.Workers.Count = 1
			for _, do := range []string{"apply", "destroy"} {
				for i := 1 + first[name]; ; i += 3 {
					if !faultAt(t, c, do, kind, i) {
						t.Logf("%s: %d calls", do, i)
						break
					}
				}
			}
		})
	}
}

// faultAt tells whether there was an i-th call.
func faultAt(t *testing.T, c *config.Cluster, do string, kind fault, i int) bool {
	t.Helper()
	cloud := newCloud()
	d := cloud.driver(t)
	run := func() error { return apply(t.Context(), d, c) }
	if do == "destroy" {
		if err := run(); err != nil {
			t.Fatal(err)
		}
		cloud.calls = nil
		run = func() error { return destroy(t.Context(), d, c.Name) }
	}
	reached, where := false, ""
	cloud.fault = func(call string, n int) *fault {
		if n == i {
			reached, where = true, call
			return &kind
		}
		return nil
	}
	err := run()
	passing := kind.err != nil || kind.status == 429 || kind.status == 500
	if err != nil && passing && !kind.late {
		t.Errorf("%s: call %d, %s: what passes was not waited for: %v", do, i, where, err)
	}
	if err != nil && strings.Contains(err.Error(), testKey) {
		t.Errorf("%s: call %d, %s: the error has a key in it: %v", do, i, where, err)
	}
	cloud.fault = nil
	cloud.expire() // of somebody who died
	if err := run(); err != nil {
		t.Errorf("%s: call %d, %s: once more: %v", do, i, where, err)
	}
	if do == "apply" {
		if diff := difference(t, d, c); diff != "" {
			t.Errorf("call %d, %s: once more leaves a difference: %s", i, where, diff)
		}
	} else if len(cloud.groups)+len(cloud.resources) != 0 {
		t.Errorf("call %d, %s: left: %v", i, where, cloud.resources)
	}
	return reached
}

// Whoever applies dies at any call: he is cancelled, and what he began goes on without him.
func TestDeathAnywhere(t *testing.T) {
	t.Parallel()
	c := example(t)
	c.Workers.Count = 1
	for i := 1; ; i++ {
		cloud := newCloud()
		cloud.slow = 3
		d := cloud.driver(t)
		ctx, kill := context.WithCancel(t.Context())
		var reached atomic.Bool // files are uploaded several at once
		cloud.fault = func(_ string, n int) *fault {
			if n >= i {
				reached.Store(true)
				kill()
				return &fault{err: context.Canceled, late: n == i}
			}
			return nil
		}
		err := apply(ctx, d, c)
		kill()
		if !reached.Load() {
			break
		}
		if err == nil && i < 20 {
			t.Errorf("call %d: no error", i)
		}
		cloud.fault = nil
		cloud.expire()
		if err := apply(t.Context(), d, c); err != nil {
			t.Fatalf("call %d: once more: %v", i, err)
		}
		if diff := difference(t, d, c); diff != "" {
			t.Errorf("call %d: %s", i, diff)
		}
	}
}

// A deployment that is under way, of one who died, is waited for; the same is not sent again.
func TestGoesOn(t *testing.T) {
	t.Parallel()
	cloud, d, c := applied(t)
	all, err := d.Compile(t.Context(), c, salt)
	if err != nil {
		t.Fatal(err)
	}
	worker := &all[len(all)-1]
	name := d.names("Demo", "navvy-Demo").deployment(worker.ID)
	for _, same := range []bool{true, false} {
		r := cloud.deployments[key("navvy-Demo", name)]
		r.left, cloud.calls = 5, nil
		if !same {
			r.e.Tags[tagDigest] = new("other")
		}
		if err := d.Put(t.Context(), c.Name, worker); err != nil {
			t.Fatal(err)
		}
		puts := strings.Count(strings.Join(cloud.calls, " "), "BeginCreateOrUpdate")
		if want := map[bool]int{true: 0, false: 1}[same]; puts != want {
			t.Errorf("the same %v: sent %d times: %v", same, puts, cloud.calls)
		}
	}
}

// What Azure refuses is told with the resource's name, and with what to do.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		code, message string
		is            error
		says          string
	}{
		{"InaccessibleImage", "The image 'ghcr.io/example/scorer:1' in container group is not accessible.", navvy.ErrInvalid, "workers.image"},
		{"ContainerGroupQuotaReached", "Resource type container group quota exceeded in region 'westeurope'.", navvy.ErrExhausted, "workers.count"},
		{"SomethingNew", "The requested Quota of StandardCores is exceeded", navvy.ErrExhausted, "Quotas"},
		{"ServiceUnavailable", "The requested resource is not available in the location", navvy.ErrUnavailable, "another location"},
		{"StorageAccountAlreadyTaken", "The storage account named x is already taken.", navvy.ErrExists, "another one"},
		{"SkuNotAvailable", "The requested SKU is not there", navvy.ErrInvalid, "queue.sku"},
		{"Conflict", `{"status":"Failed","error":{"code":"ResourceDeploymentFailure","message":"x","details":[{"code":"LocationNotAvailableForResourceType","message":"no"}]}}`, navvy.ErrInvalid, "azure.location"},
		{"Odd", "AccountKey=" + testKey + ";x", navvy.ErrInvalid, "AccountKey=…"},
	} {
		cloud, c := newCloud(), example(t)
		cloud.refuse = func(id string) *armdeployments.ErrorResponse {
			if strings.Contains(id, typeGroup) {
				return &armdeployments.ErrorResponse{Code: new(test.code), Message: new(test.message)}
			}
			return nil
		}
		d := cloud.driver(t)
		err := apply(t.Context(), d, c)
		if !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), "worker navvy-demo-") {
			t.Errorf("%s: got %v", test.code, err)
		}
		if strings.Contains(err.Error(), testKey) {
			t.Errorf("%s: it tells a key: %v", test.code, err)
		}
		cloud.refuse = nil
		if err := apply(t.Context(), d, c); err != nil || difference(t, d, c) != "" {
			t.Errorf("%s: once more: %v", test.code, err)
		}
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		f    fault
		is   error
		says string
	}{
		{fault{status: 404, code: "SubscriptionNotFound"}, navvy.ErrNotFound, "azure.subscription"},
		{fault{status: 401, code: "InvalidAuthenticationToken"}, navvy.ErrDenied, "az login"},
		{fault{status: 401, code: "InvalidAuthenticationTokenTenant"}, navvy.ErrDenied, "tenant"},
		{fault{status: 403, code: "AuthorizationFailed"}, navvy.ErrDenied, "Contributor"},
		{fault{status: 503, code: "ServerBusy"}, navvy.ErrUnavailable, "later"},
		{fault{status: 429, code: "TooManyRequests"}, navvy.ErrUnavailable, "later"},
		{fault{err: errors.New("no route to host")}, navvy.ErrUnavailable, "on line"},
		{fault{err: errors.New("DefaultAzureCredential: failed to acquire a token.\nAttempted credentials: …")}, navvy.ErrDenied, "AZURE_CLIENT_ID"},
	} {
		cloud := newCloud()
		cloud.fault = func(string, int) *fault { return &test.f }
		d := cloud.driver(t)
		_, err := d.Clusters(t.Context())
		if !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%v: got %v", test.f, err)
		}
		w, err := d.Observe(t.Context(), "Demo")
		if !errors.Is(err, test.is) {
			t.Errorf("%v: got %v and %v", test.f, w, err)
		}
	}
	d := newCloud().driver(t)
	d.o.Credential = token{}
	if err := d.failed("x", "y", &azidentity.AuthenticationFailedError{}); !errors.Is(err, navvy.ErrDenied) {
		t.Errorf("got %v", err)
	}
	if _, err := New("no id", nil); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

// One that cannot be looked at is unknown, as is what it holds, and hides no other.
func TestUnknown(t *testing.T) {
	t.Parallel()
	cloud, d, c := applied(t)
	cloud.fault = func(call string, _ int) *fault {
		if call == "GET requests" {
			return &fault{status: http.StatusForbidden, code: "AuthorizationFailed"}
		}
		return nil
	}
	w, err := d.Observe(t.Context(), c.Name)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range w.Resources {
		want := driver.HealthOK
		if r.Name == "requests" {
			want = driver.HealthUnknown
		}
		if r.Health != want || (r.Holds != "") != (want == driver.HealthUnknown) {
			t.Errorf("%s is %s and holds %q: %s", r.ID, r.Health, r.Holds, r.Detail)
		}
	}
}

func TestWorkerHealth(t *testing.T) {
	t.Parallel()
	event := func(name, kind, message string) map[string]any {
		return map[string]any{"name": name, "type": kind, "message": message}
	}
	for _, test := range []struct {
		state  map[string]any
		events []any
		want   driver.Health
		says   string
	}{
		{map[string]any{"state": "Running"}, nil, driver.HealthOK, ""},
		{map[string]any{"state": "Waiting"}, nil, driver.HealthStarting, "Waiting"},
		{map[string]any{"state": "Waiting", "detailStatus": "CrashLoopBackOff", "exitCode": 69.0}, nil, driver.HealthFailed, "69"},
		{map[string]any{"state": "Waiting"}, []any{event("Failed", "Warning", `Failed to pull image "x": denied`)}, driver.HealthFailed, "denied"},
		{map[string]any{"state": "Running"}, []any{event("Failed", "Warning", "Failed to pull image"), event("Pulled", "Normal", "ok")}, driver.HealthOK, ""},
		{map[string]any{"state": "Terminated", "exitCode": 2.0}, nil, driver.HealthFailed, "exit code 2"},
	} {
		cloud, d, c := applied(t)
		view := at(cloud.find(t, "-1").properties, "containers", 0, "properties", "instanceView").(map[string]any)
		view["currentState"], view["events"] = test.state, test.events
		w, err := d.Observe(t.Context(), c.Name)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range w.Resources {
			if strings.HasSuffix(r.Name, "-1") && (r.Health != test.want || !strings.Contains(r.Detail, test.says)) {
				t.Errorf("%v: got %s, %s", test, r.Health, r.Detail)
			}
		}
	}
}

// The collector beside a worker is told of: one that cannot be pulled keeps the worker from
// starting, and one that ends does not keep it from working.
func TestCollectorHealth(t *testing.T) {
	t.Parallel()
	cloud, d, c := applied(t)
	own := cloud.find(t, "-1").properties
	worker, beside := at(own, "containers", 0, "properties", "instanceView").(map[string]any), map[string]any{}
	at(own, "containers", 1, "properties").(map[string]any)["instanceView"] = beside
	pull := []any{map[string]any{"name": "Failed", "type": "Warning", "message": `Failed to pull image "` + DefaultCollector + `": denied`}}
	for _, test := range []struct {
		worker, beside string
		events         []any
		want           driver.Health
		says           string
	}{
		{"Running", "Running", nil, driver.HealthOK, ""},
		{"Running", "Terminated", nil, driver.HealthOK, "nobody takes its traces"},
		{"Waiting", "Waiting", pull, driver.HealthFailed, "the collector: its image cannot be pulled: " + pull[0].(map[string]any)["message"].(string)},
		{"Terminated", "Terminated", nil, driver.HealthFailed, "--container-name worker"},
	} {
		worker["currentState"], worker["events"] = map[string]any{"state": test.worker}, nil
		beside["currentState"] = map[string]any{"state": test.beside}
		own["instanceView"] = map[string]any{"events": test.events}
		w, err := d.Observe(t.Context(), c.Name)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range w.Resources {
			if strings.HasSuffix(r.Name, "-1") && (r.Health != test.want || !strings.Contains(r.Detail, test.says)) {
				t.Errorf("%v: got %s, %s", test, r.Health, r.Detail)
			}
		}
	}
}

func TestPreview(t *testing.T) {
	t.Parallel()
	cloud, d, c := applied(t)
	all, err := d.Compile(t.Context(), c, salt)
	if err != nil {
		t.Fatal(err)
	}
	modify, create, same, array := armdeployments.ChangeTypeModify, armdeployments.ChangeTypeCreate, armdeployments.ChangeTypeNoChange, armdeployments.PropertyChangeTypeArray
	base := "/subscriptions/s/resourceGroups/g/providers/"
	cloud.whatIf = func(string) *armdeployments.WhatIfOperationResult {
		return &armdeployments.WhatIfOperationResult{Status: new("Succeeded"), Properties: &armdeployments.WhatIfOperationProperties{Changes: []*armdeployments.WhatIfChange{
			{ChangeType: &same, ResourceID: new(base + "a/b/same")},
			{ChangeType: &create, ResourceID: new(base + "a/b/new")},
			{ChangeType: &modify, ResourceID: new(base + "a/b/old"), Delta: []*armdeployments.WhatIfPropertyChange{
				{Path: new("properties.containers"), PropertyChangeType: &array, Children: []*armdeployments.WhatIfPropertyChange{
					{Path: new("0.image"), PropertyChangeType: new(armdeployments.PropertyChangeTypeModify), Before: "x", After: "y"},
					{Path: new("0.environmentVariables"), PropertyChangeType: new(armdeployments.PropertyChangeTypeModify), Before: "geheim", After: "z"},
					{Path: new("0.noise"), PropertyChangeType: new(armdeployments.PropertyChangeTypeNoEffect)},
				}},
			}},
		}}}
	}
	lines, err := d.Preview(t.Context(), c.Name, &all[len(all)-1])
	want := "create a/b/new|modify a/b/old|  properties.containers.0.image: x → y|  properties.containers.0.environmentVariables"
	if got := strings.Join(lines, "|"); err != nil || got != want {
		t.Errorf("got %q, %v", got, err)
	}
	c.Workers.Image += "-2" // a plan asks of each that is changed
	if plan, err := cluster.New(d, nil).Plan(t.Context(), c); err != nil {
		t.Error(err)
	} else if list, _ := cluster.New(d, nil).Preview(t.Context(), plan); len(list) < 2 || list[0].Kind != driver.KindCluster || list[0].Lines != nil || strings.Join(list[len(list)-1].Lines, "|") != want {
		t.Errorf("of %+v it says %+v", plan.Changes, list)
	}
	cloud.whatIf = func(string) *armdeployments.WhatIfOperationResult {
		return &armdeployments.WhatIfOperationResult{Error: &armdeployments.ErrorResponse{Code: new("QuotaExceeded"), Message: new("x")}}
	}
	if _, err := d.Preview(t.Context(), c.Name, &all[len(all)-1]); !errors.Is(err, navvy.ErrExhausted) {
		t.Errorf("got %v", err)
	}
	if lines, err := newCloud().driver(t).Preview(t.Context(), c.Name, &all[len(all)-1]); lines != nil || err != nil {
		t.Errorf("of a cluster that is not there: %v, %v", lines, err)
	}
}

func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	for says, change := range map[string]func(*config.Cluster){
		"azure is missing":        func(c *config.Cluster) { c.Azure = nil },
		"azure.subscription":      func(c *config.Cluster) { c.Azure.Subscription = "00000000-0000-0000-0000-000000000000" },
		"azure.location":          func(c *config.Cluster) { c.Azure.Location = "West Europe" },
		"azure.resource_group":    func(c *config.Cluster) { c.Azure.ResourceGroup = "a/b" },
		"azure.compute is \"vm\"": func(c *config.Cluster) { c.Azure.Compute = "vm" },
		"queue.kind is navvy":     func(c *config.Cluster) { c.Queue.Kind = config.QueueNavvy },
		"queue.url is missing":    func(c *config.Cluster) { c.Queue.Kind = config.QueueNATS },
		"queue.url holds": func(c *config.Cluster) {
			c.Queue.Kind, c.Queue.URL = config.QueueNATS, &config.Value{Text: "nats://a:b@c"}
		},
		"variable NOWHERE":        func(c *config.Cluster) { c.Queue.URL = &config.Value{Env: "NOWHERE"} },
		"queue.sku":               func(c *config.Cluster) { c.Queue.SKU = "Gold" },
		"queue.sku is for queues": func(c *config.Cluster) { c.Queue.SKU, c.Queue.URL = "Basic", &config.Value{Env: "SECRET"} },
		"queue.lease":             func(c *config.Cluster) { c.Queue.Lease = config.Duration(10 * time.Minute) },
		"queue.request":           func(c *config.Cluster) { c.Queue.Request = "-x" },
		"want two names":          func(c *config.Cluster) { c.Queue.Response = c.Queue.Request },
		"whose dead letters": func(c *config.Cluster) {
			c.Queue = config.Queue{Kind: config.QueueStorage, Request: "abc", Response: "abc-dead"}
		},
		"queue.attempts":          func(c *config.Cluster) { c.Queue.Attempts = 5000 },
		"share[0].at":             func(c *config.Cluster) { c.Share[0].At = "data" },
		"which is in share[0].at": func(c *config.Cluster) { c.Share = append(c.Share, config.Share{From: "data", At: "/data/x"}) },
		"service.kind":            func(c *config.Cluster) { c.Service.Kind = "odd" },
		"service.package":         func(c *config.Cluster) { c.Service.Package = "a@1" },
		"service.up_timeout":      func(c *config.Cluster) { c.Service.UpTimeout = config.Duration(time.Hour) },
		"monitor.kind":            func(c *config.Cluster) { c.Monitor.Kind = config.MonitorPrometheus },
		"monitor.collector":       func(c *config.Cluster) { c.Monitor.Collector = "two words" },
		"workers.environment.OTEL_EXPORTER_OTLP_ENDPOINT": func(c *config.Cluster) {
			c.Workers.Environment = map[string]config.Value{varEndpoint: {Text: "http://x:4318"}}
		},
		"workers.image":            func(c *config.Cluster) { c.Workers.Image = "" },
		"workers.cpus":             func(c *config.Cluster) { c.Workers.CPUs = "lots" },
		"workers.memory":           func(c *config.Cluster) { c.Workers.Memory = "0" },
		"workers.count":            func(c *config.Cluster) { c.Workers.Count = 5000 },
		"workers.autoscale":        func(c *config.Cluster) { c.Workers.Autoscale = &config.Autoscale{} },
		"that variable is navvy's": func(c *config.Cluster) { c.Workers.Environment = map[string]config.Value{varRequests: {}} },
		"workers.environment.A-B":  func(c *config.Cluster) { c.Workers.Environment = map[string]config.Value{"A-B": {}} },
		"workers.labels.a/b":       func(c *config.Cluster) { c.Workers.Labels = map[string]string{"a/b": ""} },
		"256 at most":              func(c *config.Cluster) { c.Workers.Labels = map[string]string{"a": strings.Repeat("x", 300)} },
	} {
		c := example(t)
		change(c)
		_, err := newCloud().driver(t).Compile(t.Context(), c, salt)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v", says, err)
		}
		if !errors.Is(err, navvy.ErrInvalid) && !errors.Is(err, navvy.ErrUnsupported) && !errors.Is(err, navvy.ErrNotFound) {
			t.Errorf("%s: %v is none of ours", says, err)
		}
	}
}

// Errors of Azure come from elsewhere and can be anything.
func FuzzCause(f *testing.F) {
	for _, seed := range []string{"", "{}", `{"error":{"code":"a","message":"{\"error\":{\"code\":\"QuotaExceeded\"}}"}}`, `{"details":[{"details":[{}]}]}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		err := explain("worker x", "deploy", nested(cause{message: text, code: "DeploymentFailed"}))
		if got := err.Error(); !strings.Contains(got, "worker x") || len(got) > 3000 || strings.ContainsAny(got, "\n\x1b\x00") {
			t.Errorf("got %q", got)
		}
	})
}
