package config

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/service"
)

// on is the least cluster of each provider, changed by a function.
func on(p Provider, change func(c *Cluster)) *Cluster {
	c := &Cluster{
		Version: 1, Name: "a", Provider: p, Queue: Queue{Kind: QueueNavvy}, Service: Service{Kind: ServiceEcho}, Workers: Workers{Count: 1},
	}
	switch p {
	case ProviderLocal:
	case ProviderSSH:
		c.SSH = &SSH{Hosts: []string{"h"}}
	case ProviderKubernetes:
		c.Workers.Image = "navvy:1"
	case ProviderAzure:
		c.Workers.Image, c.Queue.Kind = "navvy:1", QueueServiceBus
		c.Azure = &Azure{Subscription: "9fda6ae5-1210-43b9-a2da-703f0cdc253e", Location: "westeurope"}
	}
	if change != nil {
		change(c)
	}
	return c
}

func TestValid(t *testing.T) {
	t.Parallel()
	url := func(text string) *Value { return &Value{Text: text} }
	for _, p := range Providers() {
		for i, change := range []func(c *Cluster){
			nil,
			func(c *Cluster) { c.Name = "a-" + strings.Repeat("b", 38) },
			func(c *Cluster) { c.Queue = Queue{Kind: QueueNATS, URL: url("tls://nats.lan:4222")} },
			func(c *Cluster) {
				c.Queue = Queue{Kind: QueueRabbitMQ, URL: url("amqp://me@host/?vhost=v"), Request: "a.b"}
			},
			func(c *Cluster) {
				c.Queue = Queue{Kind: QueueRedis, URL: &Value{File: "secret"}, Lease: Duration(time.Hour)}
			},
			func(c *Cluster) {
				c.Queue = Queue{Kind: QueueServiceBus, URL: url("azservicebus://ns"), Request: "a/b"}
			},
			func(c *Cluster) { c.Queue = Queue{Kind: QueueStorage, URL: url("azqueue:///")} },
			func(c *Cluster) { c.Service = Service{Kind: ServiceGRPC, Command: "./s", Package: "a@1"} },
			func(c *Cluster) { c.Service = Service{Kind: ServiceGRPC, Address: "unix:/run/s"} },
			func(c *Cluster) { c.Service = Service{Kind: ServiceGRPCAny, Address: "-", Command: "./s"} },
			func(c *Cluster) { c.Workers.Count = 0 },
			func(c *Cluster) {
				c.Workers.Environment = map[string]Value{"PASSWORD": {Text: "free"}, "Queues__X": {Env: "Y"}}
			},
		} {
			c := on(p, change)
			if err := Validate(c); err != nil {
				t.Errorf("%s %d: %v", p, i, err)
			}
			whole := Defaults(c)
			if err := Validate(whole); err != nil {
				t.Errorf("%s %d with its defaults: %v", p, i, err)
			}
			if again := Defaults(whole); !cmp.Equal(whole, again) {
				t.Errorf("%s %d: defaults change what is whole: %s", p, i, cmp.Diff(whole, again))
			}
			if c.Service.Kind != ServiceEcho {
				if err := service.Check(c.Service.Form()); err != nil {
					t.Errorf("%s: %v", c.Service.Form(), err)
				}
			}
		}
	}
}

// refusal is a mistake, and what is said about it.
type refusal struct {
	on     Provider
	change func(c *Cluster)
	want   string
}

// refused wants each to be told alone, and no secret with it.
func refused(t *testing.T, list []refusal) {
	t.Helper()
	for _, r := range list {
		err := Validate(on(r.on, r.change))
		if !errors.Is(err, navvy.ErrInvalid) || !strings.HasPrefix(err.Error(), r.want) || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v\nwant %s", err, r.want)
		}
	}
}

func TestInvalidNames(t *testing.T) {
	t.Parallel()
	refused(t, []refusal{})
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c := on(ProviderSSH, func(c *Cluster) { c.Service = Service{Kind: ServiceLines, Command: "x"} })
	before := Encode(c)
	d := Defaults(c)
	if string(Encode(c)) != string(before) {
		t.Error("what was given was changed")
	}
	yes := true
	want := on(ProviderSSH, func(c *Cluster) {
		c.Queue = Queue{Kind: QueueNavvy, Request: "requests", Lease: Duration(time.Minute), Attempts: 5}
		c.Service = Service{Kind: ServiceLines, Command: "x", UpTimeout: Duration(30 * time.Second)}
		c.Workers.Concurrency, c.SSH.Tunnel = 1, &yes
	})
	if diff := cmp.Diff(want, d); diff != "" {
		t.Error(diff)
	}
	d = Defaults(on(ProviderAzure, nil))
	want = on(ProviderAzure, func(c *Cluster) {
		c.Queue = Queue{Kind: QueueServiceBus, Request: "requests", Response: "responses", Lease: Duration(time.Minute), Attempts: 5, SKU: "Standard"}
		c.Workers.Concurrency, c.Workers.CPUs, c.Workers.Memory = 1, "1", "1.5G"
		c.Azure.ResourceGroup, c.Azure.Compute = "navvy-a", "aci"
	})
	if diff := cmp.Diff(want, d); diff != "" {
		t.Error(diff)
	}
	d = Defaults(on(ProviderKubernetes, func(c *Cluster) { c.Workers.Count, c.Workers.Autoscale = 0, &Autoscale{2, 3} }))
	if diff := cmp.Diff(&Kubernetes{Namespace: "a", Scaler: "keda"}, d.Kubernetes); diff != "" || d.Workers.Count != 2 {
		t.Error(diff, d.Workers.Count)
	}
	if d = Defaults(on(ProviderLocal, nil)); d.Local == nil || d.SSH != nil || d.Azure != nil || d.Kubernetes != nil {
		t.Errorf("%+v", d)
	}
}
