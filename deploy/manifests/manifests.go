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

// Cluster is the chart as YAML, for a scaler, with places in its texts that Names fills in. It
// panics if there is no such scaler.
func Cluster(scaler string) string {
	text, err := clusters.ReadFile("cluster/" + scaler + ".yaml")
	if err != nil {
		panic("manifests: there is no scaler " + scaler)
	}
	return string(text)
}

// Names fills in what all is called by, the namespace that it is in, and the image of its pods. It
// is for texts that were read from the YAML, not for that itself: there a cluster of the name on
// would be true.
func Names(name, namespace, image string) *strings.Replacer {
	return strings.NewReplacer("cluster-image:cluster-tag", image, "cluster-name", name, "cluster-space", namespace)
}
