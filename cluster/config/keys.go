package config

import (
	"reflect"
	"regexp"
	"strings"
)

// key is what there is to say of a key of the file beside its type: parser, schema,
// templates and documentation take it from here.
type key struct {
	path  string
	about string // a sentence without its end
	words words  // what it can be; nil if it is no choice
	form  form   // how a text is written
	unset string // what it is if it is not there, in words; empty for nothing
	value any    // the same as a value for the schema; nil if that depends
	least int    // of a number
}

type words []string

// form is how a text is written.
type form int

const (
	formText     form = iota
	formCPUs          // as quantity.ParseCPUs reads it
	formSize          // as quantity.ParseSize reads it
	formDuration      // as quantity.ParseDuration reads it
)

// wordsOf are the texts of a list of names.
func wordsOf[T ~string](names []T) words {
	var list words
	for _, name := range names {
		list = append(list, string(name))
	}
	return list
}

// The words of keys that have no type of their own.
const (
	SupervisorSystemd = "systemd"
	SupervisorNavvy   = "navvy"
	ScalerKEDA        = "keda"
	ScalerHPA         = "hpa"
	ComputeACI        = "aci"
	ComputeAKS        = "aks"
	// DefaultVMSize is the size of AKS nodes of which navvy knows how many workers they hold.
	DefaultVMSize = "Standard_D4s_v5"
)

// keys are all keys of the file, in its order.
var keys = []key{
	{path: "version", about: "The version of the file's form, which is 1", least: 1},
	{path: "name", about: "The cluster's name, which all that it is made of bears: 1 to 40 small letters, digits and -, a letter first"},
	{path: "provider", about: "Where the cluster is", words: wordsOf(Providers())},

	{path: "queue", about: "The pair of queues: requests come by one, their answers go by the other"},
	{path: "queue.kind", about: "What keeps the queues: navvy is a server of the cluster's own, the others are brokers, with which workers do without a server", words: wordsOf(QueueKinds())},
	{path: "queue.request", about: "The queue of the requests; with the kind navvy also that of the answers", unset: "`requests`", value: defaultRequest},
	{path: "queue.response", about: "The queue of the answers; not with the kind navvy", unset: "`responses`", value: defaultResponse},
	{path: "queue.lease", about: "How long a request stays taken without a sign of life", form: formDuration, unset: "`1m`", value: defaultLease.String()},
	{path: "queue.url", about: "The broker's URL without the name of a queue, for nats, rabbitmq and redis, and for servicebus and storage where the provider does not make them. With a password only by reference"},
	{path: "queue.sku", about: "The tier of what azure makes: of servicebus Basic, Standard or Premium, of storage such as Standard_LRS", unset: "`Standard`, `Standard_LRS`"},
	{path: "queue.attempts", about: "How many times a request is delivered before it is a dead letter", unset: "5", value: defaultAttempts, least: 1},

	{path: "share", about: "What workers find in their file systems"},
	{path: "share.from", about: "A file or directory to upload; a relative path begins at the directory of this file"},
	{path: "share.files", about: "A file share of Azure that is there already, in place of from; on azure"},
	{path: "share.files.account", about: "The storage account that it is in"},
	{path: "share.files.share", about: "Its name"},
	{path: "share.files.key", about: "The key of the account, by reference"},
	{path: "share.at", about: "Where workers find it: an absolute path on kubernetes and azure, one below the service's working directory otherwise"},

	{path: "service", about: "What answers the requests, see docs/services.md"},
	{path: "service.kind", about: "How it is written; command is a program for each request, whose answer is its standard output", words: wordsOf(ServiceKinds())},
	{path: "service.command", about: "The program with its arguments, as a shell splits them, but without a shell; not for echo"},
	{path: "service.address", about: "Where the gRPC server of grpc and grpc-any listens; without a command it runs there already"},
	{path: "service.package", about: "The directory of programs that workers deploy: NAME@VERSION, or a directory or an archive beside this file"},
	{path: "service.up_timeout", about: "How long the service may take to come up", form: formDuration, unset: "`30s`", value: defaultUpTimeout.String()},
	{path: "service.timeout", about: "How long one request may take", form: formDuration, unset: "no limit"},

	{path: "monitor", about: "What watches the cluster"},
	{path: "monitor.kind", about: "prometheus on local, ssh and kubernetes, insights on azure", words: words{string(MonitorPrometheus), string(MonitorInsights)}, unset: "none"},
	{path: "monitor.dir", about: "Where local and ssh write the configuration of Prometheus, its rules and the dashboard for Grafana", unset: "a directory of the cluster's own"},
	{path: "monitor.collector", about: "The image of the OpenTelemetry Collector that is beside each worker on azure, with the exporter azuremonitor", unset: "the published one, from GitHub's registry"},

	{path: "workers", about: "Those who answer"},
	{path: "workers.count", about: "How many there are; with autoscale how many to begin with", unset: "with autoscale its min"},
	{path: "workers.concurrency", about: "How many requests each works on at once", unset: "1", value: defaultConcurrency, least: 1},
	{path: "workers.cpus", about: "The cores that each has, such as 2 or 0.5", form: formCPUs, unset: "what the host has; on azure 1"},
	{path: "workers.memory", about: "The memory that each has, such as 512M or 1.5G", form: formSize, unset: "what the host has; on azure 1.5G"},
	{path: "workers.image", about: "The container image of the workers on kubernetes and azure: one with navvy in it"},
	{path: "workers.environment", about: "The environment of the service"},
	{path: "workers.labels", about: "Labels of the workers, see docs/placement.md"},
	{path: "workers.autoscale", about: "Bounds within which the number of workers follows the work; on kubernetes"},
	{path: "workers.autoscale.min", about: "The fewest workers"},
	{path: "workers.autoscale.max", about: "The most workers", least: 1},

	{path: "local", about: "What only the provider local wants to know"},
	{path: "local.dir", about: "Where the cluster is kept: its server's data, its workers', its logs", unset: "`navvy-clusters/NAME` in the user's directory of state"},
	{path: "local.supervisor", about: "What keeps the processes up", words: words{SupervisorSystemd, SupervisorNavvy}, unset: "`systemd` where the user has a running one, else `navvy`"},

	{path: "ssh", about: "What only the provider ssh wants to know"},
	{path: "ssh.hosts", about: "Where the workers run, in turns: [USER@]HOST[:PORT]"},
	{path: "ssh.known_hosts", about: "The file with the keys of the hosts; ~/ is your home", unset: "that of ssh"},
	{path: "ssh.identity", about: "The file with the private key; ~/ is your home", unset: "those of ssh"},
	{path: "ssh.tunnel", about: "Whether the hosts reach the server through a tunnel of ours", unset: "true without a server"},
	{path: "ssh.server", about: "The address, HOST or HOST:PORT, under which the hosts reach this machine without a tunnel"},

	{path: "kubernetes", about: "What only the provider kubernetes wants to know"},
	{path: "kubernetes.context", about: "The context of the kubeconfig", unset: "its current one"},
	{path: "kubernetes.namespace", about: "The namespace of all that the cluster is made of", unset: "the cluster's name"},
	{path: "kubernetes.scaler", about: "What scales the workers, with autoscale", words: words{ScalerKEDA, ScalerHPA}, unset: "`keda`", value: ScalerKEDA},

	{path: "azure", about: "What only the provider azure wants to know"},
	{path: "azure.subscription", about: "The id of the subscription"},
	{path: "azure.location", about: "The region, such as westeurope"},
	{path: "azure.resource_group", about: "The resource group of all that the cluster is made of", unset: "`navvy-NAME`"},
	{path: "azure.compute", about: "What runs the workers: container instances, or an AKS cluster", words: words{ComputeACI, ComputeAKS}, unset: "`aci`", value: ComputeACI},
	{path: "azure.aks", about: "The AKS cluster, with compute aks"},
	{path: "azure.aks.vm_size", about: "The size of its nodes, as az vm list-sizes tells it", unset: "`" + DefaultVMSize + "`", value: DefaultVMSize},
	{path: "azure.aks.nodes", about: "How many nodes there are; with max_nodes how many at least", unset: "with max_nodes 1, else as many as have room for the workers, with the default of vm_size", least: 1},
	{path: "azure.aks.max_nodes", about: "How many nodes Azure may make as workers want them", unset: "there are always `nodes`", least: 1},
}

var index = regexp.MustCompile(`\[\d+\]`)

// keyOf finds what there is to say of a key, whose place in a list does not matter.
func keyOf(path string) *key {
	path = index.ReplaceAllString(path, "")
	for i := range keys {
		if keys[i].path == path {
			return &keys[i]
		}
	}
	return &key{path: path}
}

// field is a field of a struct that stands for a key.
type field struct {
	name     string
	index    int
	required bool
}

// fieldsOf are the keys of a type, in their order. A key that json leaves out when it is
// empty need not be there.
func fieldsOf(t reflect.Type) []field {
	var list []field
	for i := range t.NumField() {
		name, options, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		list = append(list, field{name, i, !strings.HasPrefix(options, "omit") && name != "count"})
	}
	return list
}

// below is the path of a key in a section, which is empty for the file itself.
func below(section, name string) string {
	if section == "" {
		return name
	}
	return section + "." + name
}
