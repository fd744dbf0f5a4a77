// Package config is the file that describes a cluster of navvy: a pair of queues, files that
// workers find, the service that answers, what watches it, and the workers. It is YAML or
// JSON. Load and Read read it strictly, and configurations of CloudWorker, too; Defaults
// fills in what it leaves open; Encode writes it; Schema describes it for editors and
// programs. docs/cluster.md is for who writes one.
package config

import "time"

// Version is the version of the file that this navvy writes and reads.
const Version = 1

// Cluster is what a file asks for.
type Cluster struct {
	Version  int      `json:"version"`
	Name     string   `json:"name"`
	Provider Provider `json:"provider"`
	Queue    Queue    `json:"queue"`
	// Share lists what workers find in their file systems.
	Share   []Share `json:"share,omitempty"`
	Service Service `json:"service"`
	Monitor Monitor `json:"monitor,omitzero"`
	Workers Workers `json:"workers"`

	// What a provider alone wants to know; of the others there is none.
	Local      *Local      `json:"local,omitempty"`
	SSH        *SSH        `json:"ssh,omitempty"`
	Kubernetes *Kubernetes `json:"kubernetes,omitempty"`
	Azure      *Azure      `json:"azure,omitempty"`

	// Dir is the directory of the file, from which paths in it begin. It is not of the file.
	Dir string `json:"-"`
}

// Provider is where a cluster is.
type Provider string

// The providers.
const (
	ProviderLocal      Provider = "local"
	ProviderSSH        Provider = "ssh"
	ProviderKubernetes Provider = "kubernetes"
	ProviderAzure      Provider = "azure"
)

// Providers lists them.
func Providers() []Provider {
	return []Provider{ProviderLocal, ProviderSSH, ProviderKubernetes, ProviderAzure}
}

// Queue is the pair of queues: requests come by one, their answers go by the other.
type Queue struct {
	Kind QueueKind `json:"kind"`
	// Request is the name of the queue of requests. With the kind navvy the answers are
	// received by this name, too. Defaults to "requests".
	Request string `json:"request,omitempty"`
	// Response is the name of the queue of answers; not for the kind navvy. Defaults to
	// "responses".
	Response string `json:"response,omitempty"`
	// Lease is how long a request stays taken without a sign of life. Defaults to a minute.
	Lease Duration `json:"lease,omitempty"`
	// URL is the broker's, without the name of a queue: for nats, rabbitmq and redis, and for
	// servicebus and storage if they are not the provider's to make. It often holds a
	// password, so that it is a Value.
	URL *Value `json:"url,omitempty"`
	// SKU is the tier of what the provider makes: for servicebus Basic, Standard or Premium,
	// for storage such as Standard_LRS.
	SKU string `json:"sku,omitempty"`
	// Attempts is how many times a request is delivered before it is a dead letter. Defaults
	// to 5.
	Attempts int `json:"attempts,omitempty"`
}

// QueueKind is what keeps queues.
type QueueKind string

// The kinds of queues. QueueNavvy is a queue of the cluster's own navvy server; the others are
// brokers, with whose queues the workers do without a server.
const (
	QueueNavvy      QueueKind = "navvy"
	QueueNATS       QueueKind = "nats"
	QueueRabbitMQ   QueueKind = "rabbitmq"
	QueueRedis      QueueKind = "redis"
	QueueServiceBus QueueKind = "servicebus"
	QueueStorage    QueueKind = "storage"
)

// QueueKinds lists them.
func QueueKinds() []QueueKind {
	return []QueueKind{QueueNavvy, QueueNATS, QueueRabbitMQ, QueueRedis, QueueServiceBus, QueueStorage}
}

// Server tells whether the kind wants a navvy server.
func (k QueueKind) Server() bool { return k == QueueNavvy }

// Share is a directory or file that workers find.
type Share struct {
	// From is what is uploaded: a file or directory beside the cluster's file. Either it or
	// Files is there.
	From string `json:"from,omitempty"`
	// Files is a file share of Azure that is there already, on azure.
	Files *AzureFiles `json:"files,omitempty"`
	// At is where workers find it: an absolute path in a container (kubernetes, azure), a
	// path below the working directory of the service otherwise. It is not in another one.
	At string `json:"at"`
}

// AzureFiles is a file share in a storage account that the cluster does not make.
type AzureFiles struct {
	Account string `json:"account"`
	Share   string `json:"share"`
	// Key is the account's, by reference.
	Key *Value `json:"key"`
}

// Service is what answers requests: the forms of docs/services.md.
type Service struct {
	Kind ServiceKind `json:"kind"`
	// Command is the program with its arguments, as docs/services.md says of CMD; not for
	// echo.
	Command string `json:"command,omitempty"`
	// Address is where the gRPC server of grpc and grpc-any listens.
	Address string `json:"address,omitempty"`
	// Package is a service package, NAME@VERSION, or a directory or archive beside the
	// cluster's file which is made one.
	Package string `json:"package,omitempty"`
	// UpTimeout is how long it may take to come up. Defaults to 30 s.
	UpTimeout Duration `json:"up_timeout,omitempty"`
	// Timeout is how long one request may take. Defaults to none.
	Timeout Duration `json:"timeout,omitempty"`
}

// ServiceKind is how a service is written.
type ServiceKind string

// The kinds of services.
const (
	ServiceEcho      ServiceKind = "echo"
	ServiceCGI       ServiceKind = "cgi"
	ServiceCommand   ServiceKind = "command" // cgi-raw: the answer is its standard output
	ServiceLines     ServiceKind = "lines"
	ServiceLinesJSON ServiceKind = "lines-json"
	ServiceGRPC      ServiceKind = "grpc"     // a server with navvy's own schema
	ServiceGRPCAny   ServiceKind = "grpc-any" // any server; requests name the method
)

// ServiceKinds lists them.
func ServiceKinds() []ServiceKind {
	return []ServiceKind{ServiceEcho, ServiceCGI, ServiceCommand, ServiceLines, ServiceLinesJSON, ServiceGRPC, ServiceGRPCAny}
}

// Monitor is what watches a cluster.
type Monitor struct {
	// Kind is prometheus (local, ssh, kubernetes) or insights (azure); empty for none.
	Kind MonitorKind `json:"kind,omitempty"`
	// Dir is where local and ssh write the configuration for Prometheus, its rules and the
	// dashboard for Grafana. Defaults to a directory of the cluster's own.
	Dir string `json:"dir,omitempty"`
	// Collector is the image of the OpenTelemetry Collector that is beside each worker with
	// insights. Defaults to the one that is published, from GitHub's registry.
	Collector string `json:"collector,omitempty"`
}

// MonitorKind is a kind of monitor.
type MonitorKind string

// The kinds of monitors.
const (
	MonitorNone       MonitorKind = ""
	MonitorPrometheus MonitorKind = "prometheus"
	MonitorInsights   MonitorKind = "insights"
)

// Workers are those who answer.
type Workers struct {
	// Count is how many there are, unless Autoscale says so.
	Count int `json:"count"`
	// Concurrency is how many requests each works on at once. Defaults to 1.
	Concurrency int `json:"concurrency,omitempty"`
	// CPUs and Memory are what each has: as --cpus and --memory write them. Defaults to what
	// the host has; on azure to 1 and 1.5G.
	CPUs   string `json:"cpus,omitempty"`
	Memory string `json:"memory,omitempty"`
	// Image is the container image of kubernetes and azure.
	Image string `json:"image,omitempty"`
	// Environment is that of the service.
	Environment map[string]Value  `json:"environment,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Autoscale   *Autoscale        `json:"autoscale,omitempty"` // kubernetes
}

// Autoscale are the bounds of what scales by itself.
type Autoscale struct {
	Min int `json:"min"`
	Max int `json:"max"`
}

// Local is what the provider local wants to know.
type Local struct {
	// Dir keeps the cluster: its server's data, its workers', its logs. Defaults to
	// navvy-clusters/NAME in the user's directory of state.
	Dir string `json:"dir,omitempty"`
	// Supervisor keeps the processes up: systemd or navvy. Defaults to systemd where the
	// user has a running one.
	Supervisor string `json:"supervisor,omitempty"`
}

// SSH is what the provider ssh wants to know.
type SSH struct {
	// Hosts are where workers run, [USER@]HOST[:PORT], in turns.
	Hosts []string `json:"hosts"`
	// KnownHosts and Identity are files of OpenSSH. They default to those of ssh.
	KnownHosts string `json:"known_hosts,omitempty"`
	Identity   string `json:"identity,omitempty"`
	// Tunnel says that hosts reach the server through a tunnel of ours. Defaults to true
	// if Server is empty.
	Tunnel *bool `json:"tunnel,omitempty"`
	// Server is the address under which the hosts reach this machine without a tunnel.
	Server string `json:"server,omitempty"`
}

// Kubernetes is what the provider kubernetes wants to know.
type Kubernetes struct {
	Context   string `json:"context,omitempty"`   // of the kubeconfig. Defaults to its current one
	Namespace string `json:"namespace,omitempty"` // Defaults to the cluster's name
	Scaler    string `json:"scaler,omitempty"`    // keda or hpa, with autoscale. Defaults to keda
}

// Azure is what the provider azure wants to know.
type Azure struct {
	Subscription  string `json:"subscription"`
	Location      string `json:"location"`
	ResourceGroup string `json:"resource_group,omitempty"` // Defaults to navvy-NAME
	Compute       string `json:"compute,omitempty"`        // aci or aks. Defaults to aci
	AKS           *AKS   `json:"aks,omitempty"`            // with compute aks
}

// AKS is the cluster of Azure Kubernetes Service that is made with compute aks.
type AKS struct {
	VMSize string `json:"vm_size,omitempty"` // of its nodes. Defaults to Standard_D4s_v5
	// Nodes is how many there are; with MaxNodes how many at least. Defaults to as many as
	// have room for the workers, which navvy knows of the default size; with MaxNodes to 1.
	Nodes    int `json:"nodes,omitempty"`
	MaxNodes int `json:"max_nodes,omitempty"` // Azure makes nodes up to so many as workers want them
}

// Value is a text, or where it comes from when the file is applied: a secret is never in the
// file.
type Value struct {
	Text string // if the others are empty
	Env  string // name of a variable of whoever applies the file
	File string // a file beside the cluster's
}

// Duration is written as 60s or 5m.
type Duration time.Duration
