package kubernetes

import (
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/navvy-run/navvy/cluster/driver"
)

func core(resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: resource}
}

func group(name, version, resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: name, Version: version, Resource: resource}
}

var (
	configMaps = core("configmaps")
	namespaces = core("namespaces")
	podsOf     = core("pods")
	jobs       = group("batch", "v1", "jobs")
	leases     = group("coordination.k8s.io", "v1", "leases")
)

const kedaGroup = "keda.sh"

// resources are the kinds of objects that a cluster consists of.
var resources = map[string]schema.GroupVersionResource{
	"ConfigMap":               configMaps,
	"Secret":                  core("secrets"),
	"Service":                 core("services"),
	"ServiceAccount":          core("serviceaccounts"),
	"PersistentVolumeClaim":   core("persistentvolumeclaims"),
	"Role":                    group("rbac.authorization.k8s.io", "v1", "roles"),
	"RoleBinding":             group("rbac.authorization.k8s.io", "v1", "rolebindings"),
	"Deployment":              group("apps", "v1", "deployments"),
	"StatefulSet":             group("apps", "v1", "statefulsets"),
	"HorizontalPodAutoscaler": group("autoscaling", "v2", "horizontalpodautoscalers"),
	"ScaledObject":            group(kedaGroup, "v1alpha1", "scaledobjects"),
	"TriggerAuthentication":   group(kedaGroup, "v1alpha1", "triggerauthentications"),
}

// The kinds of resources of the plan that are no objects' own: a queue is a ConfigMap that
// says what its server has, a monitor and files are one that holds them.
const (
	kindQueue   = "queue"
	kindMonitor = "monitor"
	kindFiles   = "files"
)

// Labels and annotations.
const (
	labelCluster   = "navvy.run/cluster" // the mark of each object
	labelKind      = "navvy.run/kind"    // of the resource of the plan
	labelLock      = "navvy.run/lock"    // of a lease
	labelJob       = "navvy.run/job"     // of a Job of a task
	labelManaged   = "app.kubernetes.io/managed-by"
	labelInstance  = "app.kubernetes.io/instance"
	labelComponent = "app.kubernetes.io/component"

	annotationName    = "navvy.run/name"    // of the resource of the plan
	annotationNeeds   = "navvy.run/needs"   // as JSON
	annotationApplied = "navvy.run/applied" // what it was made as, see sanitize
	annotationHolder  = "navvy.run/holder"  // who has the lock
	// Of a queue: the names of its service's variables, and which of them are no secrets.
	annotationVariables = "navvy.run/variables"
	annotationPlain     = "navvy.run/plain"

	// Of a Guest's: what of a Secret is given late, its digest, and what it is of.
	annotationLate = "navvy.run/late"
	annotationKeys = "navvy.run/keys"
	annotationOf   = "navvy.run/keys-of"

	manager = "navvy-cluster" // of fields
	// managerKeeps owns the number of workers from when it is no longer fixed until a scaler
	// changes it.
	managerKeeps = "navvy-cluster-keeps"
	managed      = "navvy"
)

// selector finds all that bears a cluster's mark.
func selector(cluster string) string { return labelCluster + "=" + cluster }

// kindOf is the kind of a resource that is just an object.
func kindOf(u *unstructured.Unstructured) string { return strings.ToLower(u.GetKind()) }

// idOf is what the plan calls an object.
func idOf(u *unstructured.Unstructured) driver.ID {
	id := driver.ID{Kind: u.GetLabels()[labelKind], Name: u.GetAnnotations()[annotationName]}
	if id.Kind == "" || id.Name == "" {
		id = driver.ID{Kind: kindOf(u), Name: u.GetName()}
	}
	return id
}

// Names of what a cluster has, beside those that the chart gives.
func markName(cluster string) string      { return cluster + "-cluster" }
func claimName(cluster string) string     { return cluster + "-data" }
func serverName(cluster string) string    { return cluster + "-server" }
func workersName(cluster string) string   { return cluster + "-worker" }
func podName(cluster string) string       { return serverName(cluster) + "-0" }
func queueSecret(cluster string) string   { return cluster + "-queue" }
func variablesName(cluster string) string { return cluster + "-environment" }
func viewerName(cluster string) string    { return cluster + "-viewer" }
func monitorName(cluster string) string   { return cluster + "-monitor" }
func leaseName(cluster string) string     { return cluster + "-lock" }
