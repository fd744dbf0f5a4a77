package azure

import (
	"cmp"
	_ "embed" // the collector's configuration
	"fmt"
	"slices"
	"strings"

	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/kubernetes"
)

// Application Insights take OTLP from a collector: each worker has one beside it, in its
// container group, which hands on what navvy traces (worker/answer). Azure's own endpoints
// for OTLP, a preview, would take the right to assign roles to whoever applies.
const (
	// DefaultCollector is the image of the collector, unless monitor.collector names another.
	DefaultCollector = "ghcr.io/open-telemetry/opentelemetry-collector-releases/opentelemetry-collector-contrib:0.161.0"

	collectorName   = "collector"
	collectorCPUs   = "0.25"
	collectorMemory = "0.5" // GiB; its configuration bounds what it keeps to 256 MiB
	varCollector    = "NAVVY_COLLECTOR"
	varEndpoint     = "OTEL_EXPORTER_OTLP_ENDPOINT"
	varName         = "OTEL_SERVICE_NAME"
	varAttributes   = "OTEL_RESOURCE_ATTRIBUTES"
	varProtocol     = "OTEL_EXPORTER_OTLP_PROTOCOL"
	varGoMemory     = "GOMEMLIMIT"
	goMemory        = "400MiB"                // with the rest that Go has
	endpoint        = "http://127.0.0.1:4318" // as the configuration has it
)

// led are the variables that lead traces, with which the file would lead them elsewhere.
var led = []string{
	varEndpoint, varProtocol, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
}

// collectorConfig is the configuration of a collector.
//
//go:embed templates/collector.yaml
var collectorConfig string

// container is one of a container group, as the template takes it.
type container struct {
	Name        string        `json:"name"`
	Image       string        `json:"image"`
	Command     []string      `json:"command"`
	CPUs        string        `json:"cpus"`
	Memory      string        `json:"memory"`
	Environment []variable    `json:"environment"`
	Mounts      []volumeMount `json:"mounts"`
}

// volumeMount is where a container has a volume.
type volumeMount struct {
	Name     string `json:"name"`
	Path     string `json:"mountPath"`
	ReadOnly bool   `json:"readOnly"`
}

// volumeMounts are those of a worker.
func volumeMounts(all []mount) []volumeMount {
	list := make([]volumeMount, len(all))
	for i, m := range all {
		list[i] = volumeMount{Name: m.Name, Path: m.Path, ReadOnly: true}
	}
	return list
}

// watched tells whether workers have a collector beside them.
func watched(c *config.Cluster) bool { return c.Monitor.Kind == config.MonitorInsights }

// collector is the container beside a worker, and how it is told; none without a monitor.
func (k *compilation) collector() (list []container, told string) {
	if !watched(k.c) {
		return nil, ""
	}
	c := container{
		Name: collectorName, Image: k.collectorImage(), Command: collectorCommand(),
		CPUs: collectorCPUs, Memory: collectorMemory, Mounts: []volumeMount{},
		Environment: []variable{{Name: varCollector, Value: collectorConfig}, {Name: varGoMemory, Value: goMemory}},
	}
	return []container{c}, toldCollector(&c)
}

// toldCollector is a collector as a property has it: its image, and a digest of the rest.
func toldCollector(c *container) string {
	return c.Image + " " + hash(strings.Join([]string{fmt.Sprintf("%q", c.Command), c.CPUs, c.Memory, told(c.Environment)}, "\n"))
}

func (k *compilation) collectorImage() string { return cmp.Or(k.c.Monitor.Collector, DefaultCollector) }

func collectorCommand() []string { return []string{"/otelcol-contrib", "--config=env:" + varCollector} }

// What a collector is sure of on an AKS cluster, in thousandths of cores and bytes; it may have
// about as much as in a container group.
const (
	collectorPodCPUs   = 50
	collectorPodMemory = 128 << 20
)

// collectorPod is the container beside a worker on an AKS cluster; none without a monitor.
func (k *compilation) collectorPod() []map[string]any {
	if !watched(k.c) {
		return nil
	}
	command := []any{}
	for _, word := range collectorCommand() {
		command = append(command, word)
	}
	key := map[string]any{"secretKeyRef": map[string]any{"name": kubernetes.GuestSecretName(k.c.Name, secretKeys), "key": varInsights}}
	return []map[string]any{{
		"name": collectorName, "image": k.collectorImage(), "command": command,
		"env": []any{
			map[string]any{"name": varCollector, "value": collectorConfig},
			map[string]any{"name": varGoMemory, "value": goMemory},
			map[string]any{"name": varInsights, "valueFrom": key},
		},
		"resources": map[string]any{
			"requests": map[string]any{"cpu": fmt.Sprintf("%dm", collectorPodCPUs), "memory": fmt.Sprintf("%dMi", collectorPodMemory>>20)},
			"limits":   map[string]any{"cpu": "250m", "memory": "512Mi"},
		},
	}}
}

// traced are the variables that lead what the worker of a name traces to its collector. What
// the file says of its name goes first.
func (k *compilation) traced(worker string) []variable {
	if !watched(k.c) {
		return nil
	}
	ours := []variable{{Name: varEndpoint, Value: endpoint}, {Name: varProtocol, Value: "http/protobuf"}, {Name: varName, Value: k.c.Name}}
	if worker != "" {
		ours = append(ours, variable{Name: varAttributes, Value: "service.instance.id=" + worker})
	}
	return slices.DeleteFunc(ours, func(v variable) bool {
		_, given := k.c.Workers.Environment[v.Name]
		return given
	})
}
