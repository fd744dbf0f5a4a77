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
	refused(t, []refusal{
		{ProviderLocal, func(c *Cluster) { c.Name = "-a" }, `name: "-a": want 1 to 40`},
		{ProviderLocal, func(c *Cluster) { c.Name = strings.Repeat("a", 41) }, "name: "},
		{ProviderLocal, func(c *Cluster) { c.Name = "1a" }, "name: "},
		{ProviderLocal, func(c *Cluster) { c.Version = 0 }, "version: 0 is too few"},
		{"aws", nil, `provider: "aws" is none of local, ssh, kubernetes, azure`},
	})
}

func TestInvalidQueue(t *testing.T) {
	t.Parallel()
	plain := func(kind QueueKind, url string) func(c *Cluster) {
		return func(c *Cluster) { c.Queue = Queue{Kind: kind, URL: &Value{Text: url}} }
	}
	refused(t, []refusal{
		{ProviderLocal, func(c *Cluster) { c.Queue.Response = "x" }, "queue.response: a queue of the kind navvy gives its answers by the name in queue.request"},
		{ProviderLocal, func(c *Cluster) { c.Queue.URL = &Value{Env: "X"} }, "queue.url: the cluster has a server of its own"},
		{ProviderLocal, func(c *Cluster) { c.Queue.Request = "redis://x" }, "queue.request: "},
		{ProviderLocal, func(c *Cluster) { c.Queue.SKU = "Basic" }, "queue.sku: only servicebus and storage have one"},
		{ProviderLocal, func(c *Cluster) { c.Queue.Lease = 1 }, "queue.lease: 1ns is too short, 1s is the least"},
		{ProviderLocal, func(c *Cluster) { c.Queue.Attempts = 1001 }, "queue.attempts: 1001 are too many"},
		{ProviderLocal, func(c *Cluster) { c.Queue.Kind = QueueRedis }, "queue.url: it is missing: where the broker is, such as redis://HOST"},
		{ProviderLocal, func(c *Cluster) { c.Queue.Kind = QueueStorage }, "queue.url: it is missing: only azure makes queues of the kind storage"},
		{ProviderLocal, plain(QueueRedis, "redis://:s3cret@h"), "queue.url: there is a password in it, and a secret is not written into this file: use {env: NAME} or {file: PATH}"},
		{ProviderLocal, plain(QueueNATS, "nats://s3cret@h"), "queue.url: there is a password in it"},
		{ProviderLocal, plain(QueueStorage, "AccountName=a;AccountKey=s3cret"), "queue.url: it is no URL such as azqueue://HOST"},
		{ProviderLocal, plain(QueueServiceBus, "Endpoint=sb://a/;SharedAccessKey=s3cret"), "queue.url: it is no URL"},
		{ProviderLocal, plain(QueueRedis, "http://h"), "queue.url: the kind redis wants a URL with redis:// or rediss://"},
		{ProviderLocal, plain(QueueRedis, "redis:///"), "queue.url: it names no host"},
		{ProviderLocal, plain(QueueNATS, "nats://h/requests"), `queue.url: it ends with the name of a queue, "requests"`},
		{ProviderLocal, plain(QueueNATS, "nats://h:x:s3cret"), "queue.url: it is no URL"},
		{ProviderLocal, func(c *Cluster) { plain(QueueNATS, "nats://h")(c); c.Queue.Request = "a b" }, `queue.request: "a b" is no name of a queue with nats`},
		{ProviderLocal, func(c *Cluster) { plain(QueueNATS, "nats://h")(c); c.Queue.Request = "responses" }, "queue.response: requests and answers want queues of their own, and both are responses"},
		{ProviderAzure, func(c *Cluster) { c.Queue.SKU = "standard" }, `queue.sku: "standard" is none of Basic, Standard, Premium; did you mean Standard?`},
		{ProviderAzure, func(c *Cluster) { c.Queue.Kind, c.Queue.SKU = QueueStorage, "Premium_LRS" }, `queue.sku: "Premium_LRS" is none of Standard_LRS`},
		{ProviderAzure, func(c *Cluster) { c.Queue.Kind, c.Queue.Request = QueueStorage, "A" }, `queue.request: "A" is no name of a queue with storage: want 3 to 58 small letters`},
		{ProviderAzure, func(c *Cluster) { c.Queue.Lease = Duration(time.Hour) }, "queue.lease: 1h is too long, 5m is the most with servicebus"},
		{ProviderAzure, func(c *Cluster) { c.Queue.Lease = Duration(4 * time.Second) }, "queue.lease: 4s is too short, 5s is the least"},
		{ProviderAzure, func(c *Cluster) { c.Queue.URL, c.Queue.SKU = &Value{Env: "X"}, "Basic" }, "queue.sku: the tier is of what azure makes"},
	})
}

func TestInvalidShares(t *testing.T) {
	t.Parallel()
	refused(t, []refusal{
		{ProviderLocal, func(c *Cluster) { c.Share = []Share{{From: "a", At: "/a"}} }, `share[0].at: "/a": want a path below the service's working directory`},
		{ProviderLocal, func(c *Cluster) { c.Share = []Share{{From: "a", At: "../a"}} }, `share[0].at: "../a": want a path without ..`},
		{ProviderLocal, func(c *Cluster) { c.Share = []Share{{From: "a", At: "."}} }, "share[0].at: "},
		{ProviderLocal, func(c *Cluster) { c.Share = []Share{{From: "a", At: "a/b"}, {From: "a", At: "a/"}} }, "share[1].at: a/ and a/b of share[0] lie in one another"},
		{ProviderLocal, func(c *Cluster) { c.Share = []Share{{At: "a"}} }, "share[0]: want either from, what to upload, or files"},
		{ProviderLocal, func(c *Cluster) { c.Share = []Share{{Files: &AzureFiles{"a", "b", &Value{Env: "X"}}, At: "a"}} }, "share[0].files: a file share of Azure is for the provider azure"},
		{ProviderAzure, func(c *Cluster) { c.Share = []Share{{Files: &AzureFiles{"a", "b", &Value{Text: "s3cret"}}, At: "/a"}} }, "share[0].files.key: a secret is not written into this file"},
		{ProviderAzure, func(c *Cluster) { c.Share = []Share{{From: "a", At: "a"}} }, `share[0].at: "a": want an absolute path, as workers are containers on azure: /a`},
	})
}

func TestInvalidService(t *testing.T) {
	t.Parallel()
	refused(t, []refusal{
		{ProviderLocal, func(c *Cluster) { c.Service.Command = "x" }, "service.command: echo has no program"},
		{ProviderLocal, func(c *Cluster) { c.Service.Package = "x" }, "service.package: echo has no program"},
		{ProviderLocal, func(c *Cluster) { c.Service.Kind = ServiceCGI }, "service.command: it is missing: the program that cgi starts"},
		{ProviderLocal, func(c *Cluster) { c.Service = Service{Kind: ServiceLines, Command: "x", Address: "y"} }, "service.address: only a gRPC server has one"},
		{ProviderLocal, func(c *Cluster) { c.Service.Kind = ServiceGRPC }, "service: grpc wants either a command"},
		{ProviderLocal, func(c *Cluster) { c.Service = Service{Kind: ServiceGRPCAny, Command: "x"} }, "service.address: it is missing"},
		{ProviderLocal, func(c *Cluster) { c.Service = Service{Kind: ServiceGRPCAny, Address: "-"} }, "service.address: - is for a server that navvy starts"},
		{ProviderLocal, func(c *Cluster) { c.Service = Service{Kind: ServiceGRPC, Address: "a b"} }, `service.address: "a b"`},
		{ProviderLocal, func(c *Cluster) { c.Service = Service{Kind: ServiceGRPC, Address: "a:1", Package: "x"} }, "service.package: a package is of programs that navvy starts"},
	})
}

func TestInvalidMonitor(t *testing.T) {
	t.Parallel()
	refused(t, []refusal{
		{ProviderLocal, func(c *Cluster) { c.Monitor.Kind = MonitorInsights }, "monitor.kind: insights is for azure; on local it is prometheus"},
		{ProviderAzure, func(c *Cluster) { c.Monitor.Kind = MonitorPrometheus }, "monitor.kind: prometheus is for local, ssh and kubernetes; on azure it is insights"},
		{ProviderLocal, func(c *Cluster) { c.Monitor.Dir = "x" }, "monitor.dir: without monitor.kind"},
		{ProviderLocal, func(c *Cluster) { c.Monitor = Monitor{Kind: MonitorPrometheus, Collector: "x"} }, "monitor.collector: it is for monitor.kind insights"},
		{ProviderKubernetes, func(c *Cluster) { c.Monitor = Monitor{Kind: MonitorPrometheus, Dir: "x"} }, "monitor.dir: only local and ssh write"},
	})
}

func TestInvalidWorkers(t *testing.T) {
	t.Parallel()
	refused(t, []refusal{
		{ProviderLocal, func(c *Cluster) { c.Workers.Count = 100_001 }, "workers.count: 100001 are too many"},
		{ProviderLocal, func(c *Cluster) { c.Workers.Concurrency = 10_001 }, "workers.concurrency: 10001 are too many"},
		{ProviderLocal, func(c *Cluster) { c.Workers.Image = "x" }, "workers.image: workers are processes on local"},
		{ProviderAzure, func(c *Cluster) { c.Workers.Image = "" }, "workers.image: it is missing: workers are containers on azure"},
		{ProviderAzure, func(c *Cluster) { c.Workers.Image = "a b" }, `workers.image: "a b" is no reference of an image`},
		{ProviderAzure, func(c *Cluster) { c.Workers.Image = "registry.example/navvy" }, "workers.image: registry.example/navvy stands for an image of yours: fill in"},
		{ProviderLocal, func(c *Cluster) { c.Workers.CPUs = "0" }, "workers.cpus: 0: want more than 0"},
		{ProviderLocal, func(c *Cluster) { c.Workers.Memory = "1" }, "workers.memory: limit memory: 1 bytes are too few"},
		{ProviderLocal, func(c *Cluster) { c.Workers.Environment = map[string]Value{"A B": {}} }, "workers.environment.A B: want letters"},
		{ProviderLocal, func(c *Cluster) { c.Workers.Environment = map[string]Value{"navvy_data": {}} }, "workers.environment.navvy_data: names with NAVVY_ are navvy's own"},
		{ProviderLocal, func(c *Cluster) { c.Workers.Environment = map[string]Value{"A": {Text: "\x00"}} }, "workers.environment.A: a variable holds no zero byte"},
		{ProviderLocal, func(c *Cluster) { c.Workers.Labels = map[string]string{"a b": "c"} }, "workers.labels: label"},
		{ProviderLocal, func(c *Cluster) { c.Workers.Autoscale = &Autoscale{0, 1} }, "workers.autoscale: only kubernetes scales by itself"},
		{ProviderKubernetes, func(c *Cluster) { c.Workers.Autoscale = &Autoscale{3, 2} }, "workers.autoscale.min: 3 is more than the max"},
		{ProviderKubernetes, func(c *Cluster) { c.Workers.Autoscale = &Autoscale{2, 3} }, "workers.count: 1 is not between the bounds of autoscale"},
	})
}

func TestInvalidProviders(t *testing.T) {
	t.Parallel()
	refused(t, []refusal{
		{ProviderLocal, func(c *Cluster) { c.SSH = &SSH{Hosts: []string{"h"}} }, "ssh: the provider is local; take this section out"},
		{ProviderSSH, func(c *Cluster) { c.SSH = nil }, "ssh.hosts: it is missing"},
		{ProviderSSH, func(c *Cluster) { c.SSH.Hosts = []string{"-oProxyCommand=x"} }, `ssh.hosts[0]: "-oProxyCommand=x": want [USER@]HOST[:PORT]`},
		{ProviderSSH, func(c *Cluster) { c.SSH.Hosts = []string{"h", "-l@h"} }, "ssh.hosts[1]: "},
		{ProviderSSH, func(c *Cluster) { c.SSH.Hosts = []string{"h:0"} }, "ssh.hosts[0]: "},
		{ProviderSSH, func(c *Cluster) { c.SSH.Hosts = []string{"h:22", "h:22"} }, "ssh.hosts[1]: h:22 is there twice"},
		{ProviderSSH, func(c *Cluster) { c.SSH.Hosts = []string{"user@worker-1.example:22"} }, "ssh.hosts[0]: user@worker-1.example:22 stands for a machine of yours: fill in"},
		{ProviderSSH, func(c *Cluster) { yes := true; c.SSH.Tunnel, c.SSH.Server = &yes, "h" }, "ssh.tunnel: with a tunnel the hosts do not use ssh.server"},
		{ProviderSSH, func(c *Cluster) { no := false; c.SSH.Tunnel = &no }, "ssh.server: it is missing"},
		{ProviderSSH, func(c *Cluster) { c.SSH.Server = "a b" }, `ssh.server: "a b"`},
		{ProviderKubernetes, func(c *Cluster) { c.Kubernetes = &Kubernetes{Namespace: "A"} }, `kubernetes.namespace: "A"`},
		{ProviderKubernetes, func(c *Cluster) { c.Kubernetes = &Kubernetes{Scaler: ScalerHPA} }, "kubernetes.scaler: it scales within the bounds"},
		{ProviderAzure, func(c *Cluster) { c.Azure = nil }, "azure: it is missing"},
		{ProviderAzure, func(c *Cluster) { c.Azure.Subscription = noSubscription }, "azure.subscription: it stands for a subscription of yours: fill in"},
		{ProviderAzure, func(c *Cluster) { c.Azure.Subscription = "mine" }, `azure.subscription: "mine": want the id`},
		{ProviderAzure, func(c *Cluster) { c.Azure.Location = "West Europe" }, `azure.location: "West Europe"`},
		{ProviderAzure, func(c *Cluster) { c.Azure.ResourceGroup = "a." }, `azure.resource_group: "a."`},
		{ProviderAzure, func(c *Cluster) { c.Azure.AKS = &AKS{} }, "azure.aks: it is for azure.compute: aks"},
		{ProviderAzure, func(c *Cluster) { aks(c, AKS{VMSize: "a b"}) }, `azure.aks.vm_size: "a b": want the name of a size`},
		{ProviderAzure, func(c *Cluster) { aks(c, AKS{Nodes: 251}) }, "azure.aks.nodes: 251 is too much"},
		{ProviderAzure, func(c *Cluster) { aks(c, AKS{Nodes: 3, MaxNodes: 2}) }, "azure.aks.max_nodes: 2 is less than nodes, 3"},
		{ProviderAzure, func(c *Cluster) { aks(c, AKS{VMSize: "Standard_D8s_v5"}) }, "azure.aks.nodes: it is missing: of a vm_size other than"},
		{ProviderAzure, func(c *Cluster) { c.Azure.Compute = "vm" }, `azure.compute: "vm" is none of aci, aks`},
	})
}

func TestForm(t *testing.T) {
	t.Parallel()
	for want, s := range map[string]Service{
		"echo": {Kind: ServiceEcho}, "cgi:a b": {Kind: ServiceCGI, Command: "a b"}, "cgi-raw:a": {Kind: ServiceCommand, Command: "a"},
		"lines:a": {Kind: ServiceLines, Command: "a"}, "lines-json:a": {Kind: ServiceLinesJSON, Command: "a"},
		"grpc:localhost:1": {Kind: ServiceGRPC, Address: "localhost:1"}, "grpc-cmd:a": {Kind: ServiceGRPC, Command: "a"},
		"grpc-any:localhost:1": {Kind: ServiceGRPCAny, Address: "localhost:1"}, "grpc-any-cmd:localhost:1 a": {Kind: ServiceGRPCAny, Address: "localhost:1", Command: "a"},
	} {
		if got := s.Form(); got != want {
			t.Errorf("%+v: got %s, want %s", s, got, want)
		}
		if err := service.Check(want); err != nil {
			t.Error(err)
		}
	}
}

func TestHosts(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"h": true, "a@h": true, "a@h.lan:22": true, "10.0.0.1": true, "[::1]": true, "a@[fe80::1]:2222": true, "H_1": true,
		"": false, "@h": false, "a@": false, "h:": false, "h:x": false, "h:65536": false, "::1": false, "-h": false, "a b": false, "a@b@c": false, "h/x": false, "[x]:1": false, "$(id)": false,
	} {
		err := Validate(on(ProviderSSH, func(c *Cluster) { c.SSH.Hosts = []string{text} }))
		if (err == nil) != want {
			t.Errorf("%q: %v", text, err)
		}
	}
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

func aks(c *Cluster, s AKS) { c.Azure.Compute, c.Azure.AKS = ComputeAKS, &s }
