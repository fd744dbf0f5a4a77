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
	quoted, _ := json.Marshal(cluster) // a text
	target, _ := json.Marshal(address)
	config := fmt.Sprintf(`# What Prometheus asks the navvy server of the cluster. Start it with
#   prometheus --config.file=prometheus.yml --web.listen-address=127.0.0.1:9090
# or copy the job into a configuration of your own.
global:
  scrape_interval: 15s
  evaluation_interval: 15s

rule_files:
  - navvy-rules.yml

scrape_configs:
  - job_name: navvy
    static_configs:
      - targets: [%s]
        labels:
          cluster: %s
`, target, quoted)
	return []File{
		{"prometheus.yml", []byte(config)},
		{"navvy-rules.yml", []byte(rules)},
		{"navvy-dashboard.json", []byte(strings.ReplaceAll(dashboard, "CLUSTER", cluster))},
	}
}
