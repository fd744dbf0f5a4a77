// Package monitor has what Prometheus and Grafana are told of a navvy server: what to ask, when
// to raise an alarm, and a dashboard. docs/server.md has the metrics.
package monitor

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
)

//go:embed rules.yml
var rules string

//go:embed dashboard.json
var dashboard string

// File is one of the files.
type File struct {
	Name string
	Text []byte
}

// Files are the files for one cluster, whose server serves /metrics at an address,
// HOST:PORT. prometheus.yml names navvy-rules.yml beside it.
func Files(cluster, address string) []File {
	return files(cluster, fmt.Sprintf(`    static_configs:
      - targets: [%s]
        labels:
          cluster: %s
`, quote(address), quote(cluster)))
}

// KubernetesFiles are the files for one cluster on Kubernetes. Prometheus finds the server's pod
// in its namespace, and wants the right to list and watch pods there.
func KubernetesFiles(cluster, namespace string) []File {
	return files(cluster, fmt.Sprintf(`    kubernetes_sd_configs:
      - role: pod
        namespaces:
          names: [%[2]s]
        selectors:
          - role: pod
            label: %[3]s
    relabel_configs:
      - source_labels: [__meta_kubernetes_pod_container_port_name]
        regex: health
        action: keep
      - target_label: cluster
        replacement: %[1]s
      - target_label: namespace
        replacement: %[2]s
`, quote(cluster), quote(namespace), quote("app.kubernetes.io/instance="+cluster+",app.kubernetes.io/component=server")))
}

// quote writes a text as YAML and JSON have it.
func quote(text string) string {
	quoted, _ := json.Marshal(text) // a text
	return string(quoted)
}

// files are those whose Prometheus finds the server by what is told of the job.
func files(cluster, job string) []File {
	config := `# What Prometheus asks the navvy server of the cluster. Start it with
#   prometheus --config.file=prometheus.yml --web.listen-address=127.0.0.1:9090
# or copy the job into a configuration of your own.
global:
  scrape_interval: 15s
  evaluation_interval: 15s

rule_files:
  - navvy-rules.yml

scrape_configs:
  - job_name: navvy
` + job
	return []File{
		{"prometheus.yml", []byte(config)},
		{"navvy-rules.yml", []byte(rules)},
		{"navvy-dashboard.json", []byte(strings.ReplaceAll(dashboard, "CLUSTER", cluster))},
	}
}
