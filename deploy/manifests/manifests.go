// Package manifests has what the chart deploy/helm/navvy renders, for whoever has no Helm.
package manifests

import (
	"embed"
	"strings"
)

//go:embed cluster/*.yaml
var clusters embed.FS

// Scalers are what can scale the workers: a fixed number, KEDA, or a HorizontalPodAutoscaler.
func Scalers() []string { return []string{"none", "keda", "hpa"} }

// Cluster is the chart as YAML, for a scaler: all is called by a name, is in a namespace, and
// its pods are of an image. It panics if there is no such scaler.
func Cluster(scaler, name, namespace, image string) string {
	text, err := clusters.ReadFile("cluster/" + scaler + ".yaml")
	if err != nil {
		panic("manifests: there is no scaler " + scaler)
	}
	return strings.NewReplacer("cluster-image:cluster-tag", image, "cluster-name", name, "cluster-space", namespace).Replace(string(text))
}
