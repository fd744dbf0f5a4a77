package kubernetes

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/navvy-run/navvy/deploy/manifests"
	"github.com/navvy-run/navvy/quantity"
)

// order is that in which the chart's objects are made.
var order = []string{
	"ServiceAccount", "Secret", "Role", "RoleBinding", "ConfigMap", "Service", "PersistentVolumeClaim",
	"StatefulSet", "Deployment", "TriggerAuthentication", "ScaledObject", "HorizontalPodAutoscaler",
}

// render is the chart for a cluster. Without a server there are only the workers and their
// account, which has no rights: they run no containers.
func (k *compiler) render() ([]*unstructured.Unstructured, error) {
	scaler := "none"
	if k.c.Workers.Autoscale != nil {
		scaler = k.c.Kubernetes.Scaler
	}
	if !slices.Contains(manifests.Scalers(), scaler) {
		return nil, unsupported("kubernetes.scaler", "%q: want keda or hpa", scaler)
	}
	var list []*unstructured.Unstructured
	names := manifests.Names(k.c.Name, k.c.Kubernetes.Namespace, k.c.Workers.Image)
	for doc := range strings.SplitSeq(manifests.Cluster(scaler), "\n---\n") {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(doc), &u.Object); err != nil {
			return nil, fmt.Errorf("the chart: %w", err)
		}
		if u.Object = withoutNull(u.Object, names); len(u.Object) == 0 {
			continue
		}
		if k.c.Queue.Kind.Server() || u.GetKind() == "Deployment" || u.GetKind() == "ServiceAccount" && u.GetName() == k.c.Name {
			list = append(list, u)
		}
	}
	if k.c.Queue.Kind.Server() {
		list = append(list, k.object("PersistentVolumeClaim", claimName(k.c.Name)))
	}
	slices.SortStableFunc(list, func(a, b *unstructured.Unstructured) int {
		return slices.Index(order, a.GetKind()) - slices.Index(order, b.GetKind())
	})
	return list, k.claim(list)
}

// withoutNull takes out what is null, has numbers as the API's JSON has them, and fills in names.
func withoutNull(m map[string]any, names *strings.Replacer) map[string]any {
	for key, v := range m {
		if m[key] = plainJSON(v, names); v == nil {
			delete(m, key)
		}
	}
	return m
}

func plainJSON(v any, names *strings.Replacer) any {
	switch v := v.(type) {
	case map[string]any:
		return withoutNull(v, names)
	case []any:
		for i := range v {
			v[i] = plainJSON(v[i], names)
		}
	case float64:
		if v == float64(int64(v)) {
			return int64(v)
		}
	case string:
		return names.Replace(v)
	}
	return v
}

// claim makes the claim of the server's pod an object of its own, so that it bears the mark and
// goes with the cluster.
func (k *compiler) claim(list []*unstructured.Unstructured) error {
	at := func(kind string) int {
		return slices.IndexFunc(list, func(u *unstructured.Unstructured) bool { return u.GetKind() == kind })
	}
	if at("StatefulSet") < 0 {
		return nil
	}
	server, claim := list[at("StatefulSet")], list[at("PersistentVolumeClaim")]
	templates, _, err := unstructured.NestedSlice(server.Object, "spec", "volumeClaimTemplates")
	if err != nil || len(templates) != 1 {
		return fmt.Errorf("the chart: the server has %d volume claims, %w", len(templates), err)
	}
	claim.Object["spec"] = templates[0].(map[string]any)["spec"]
	unstructured.RemoveNestedField(server.Object, "spec", "volumeClaimTemplates")
	return changePod(server, func(pod, _ map[string]any) {
		pod["volumes"] = append(pod["volumes"].([]any), map[string]any{"name": "data", "persistentVolumeClaim": map[string]any{"claimName": claim.GetName()}})
	})
}

// changePod changes the pod template of a workload, and its first container.
func changePod(u *unstructured.Unstructured, change func(pod, container map[string]any)) error {
	pod, ok, err := unstructured.NestedMap(u.Object, "spec", "template", "spec")
	if err != nil || !ok {
		return fmt.Errorf("the chart: %s %s has no pod: %w", u.GetKind(), u.GetName(), err)
	}
	containers, _ := pod["containers"].([]any)
	if len(containers) == 0 {
		return fmt.Errorf("the chart: %s %s has no container", u.GetKind(), u.GetName()) //nolint:err113 // a mistake of ours
	}
	change(pod, containers[0].(map[string]any))
	return unstructured.SetNestedMap(u.Object, pod, "spec", "template", "spec")
}

// server has nothing that a file says.
func (k *compiler) server(u *unstructured.Unstructured) error {
	return setPodLabels(u, k.c.Name, "server")
}

// setPodLabels has pods found by the cluster, too. They are no resources, and bear no mark.
func setPodLabels(u *unstructured.Unstructured, cluster, component string) error {
	for key, want := range map[string]string{labelInstance: cluster, labelComponent: component} {
		if is, _, _ := unstructured.NestedString(u.Object, "spec", "template", "metadata", "labels", key); is != want {
			return fmt.Errorf("the chart: pods of the %s have the label %s=%s", component, key, is) //nolint:err113 // a mistake of ours
		}
	}
	return nil
}

// podChange is what the pods of workers have that is not in the chart.
type podChange struct {
	volumes, mounts []any
	args, envFrom   []any
	beside          []any           // containers
	notes           strings.Builder // what they are to be replaced for, if it changes
}

func (p *podChange) note(text string) { p.notes.WriteString(text + "\n") }

func (p *podChange) mount(volume, mount map[string]any) {
	p.volumes, p.mounts = append(p.volumes, volume), append(p.mounts, mount)
}

// drain is what a worker has after SIGTERM: what runs may end, and is ended.
const drain = 30 * time.Second

func (k *compiler) workers(u *unstructured.Unstructured) error {
	if err := setPodLabels(u, k.c.Name, "worker"); err != nil {
		return err
	}
	if k.c.Workers.Autoscale == nil {
		if err := unstructured.SetNestedField(u.Object, int64(k.c.Workers.Count), "spec", "replicas"); err != nil {
			return err
		}
	}
	if k.pods.notes.Len() > 0 {
		notes := map[string]any{"navvy.run/contents": shortSum([]byte(k.pods.notes.String()))}
		if err := unstructured.SetNestedMap(u.Object, notes, "spec", "template", "metadata", "annotations"); err != nil {
			return err
		}
	}
	limits, err := k.limits()
	if err != nil {
		return err
	}
	return changePod(u, func(pod, container map[string]any) {
		ownDir(container)
		if limits != nil {
			container["resources"] = limits
		}
		if k.c.Queue.Kind.Server() {
			k.joining(container)
		} else {
			k.answering(pod, container)
		}
		pod["volumes"] = append(pod["volumes"].([]any), k.pods.volumes...)
		container["volumeMounts"] = append(container["volumeMounts"].([]any), k.pods.mounts...)
		for _, c := range k.pods.beside {
			c.(map[string]any)["securityContext"] = container["securityContext"]
		}
		pod["containers"] = append(pod["containers"].([]any), k.pods.beside...)
	})
}

// ownPaths are where a worker has its own files. In the chart one of them is /data, which a
// cluster's file may well want for what it shares.
var ownPaths = []string{"/var/lib/navvy", "/tmp", "/run/navvy"}

// ownDir has a worker keep its own files in the first of ownPaths.
func ownDir(container map[string]any) {
	for _, v := range container["volumeMounts"].([]any) {
		if m := v.(map[string]any); m["name"] == "data" {
			m["mountPath"] = ownPaths[0]
		}
	}
	for i, arg := range container["args"].([]any) {
		if strings.HasPrefix(arg.(string), "--data=") {
			container["args"].([]any)[i] = "--data=" + ownPaths[0] + "/worker"
		}
	}
}

// limits are what a worker's container may have; nil for what the chart says.
func (k *compiler) limits() (map[string]any, error) {
	is := map[string]any{}
	if text := k.c.Workers.CPUs; text != "" {
		n, err := quantity.ParseCPUs(text)
		if err != nil {
			return nil, fmt.Errorf("workers.cpus: %w", err)
		}
		is["cpu"] = resource.NewMilliQuantity(n, resource.DecimalSI).String()
	}
	if text := k.c.Workers.Memory; text != "" {
		n, err := quantity.ParseSize(text)
		if err != nil {
			return nil, fmt.Errorf("workers.memory: %w", err)
		}
		is["memory"] = resource.NewQuantity(n, resource.BinarySI).String()
	}
	if len(is) == 0 {
		return nil, nil //nolint:nilnil // the file says nothing
	}
	return map[string]any{"requests": is, "limits": is}, nil
}

// joining is a worker of the server.
func (k *compiler) joining(container map[string]any) {
	args := container["args"].([]any)
	for i, arg := range args {
		if strings.HasPrefix(arg.(string), "--jobs=") {
			args[i] = fmt.Sprintf("--jobs=%d", k.concurrency())
		}
	}
	for _, label := range labelPairs(k.c.Workers.Labels) {
		args = append(args, "--label="+label)
	}
	container["args"] = args
}

func labelPairs(labels map[string]string) []string {
	var list []string
	for name, value := range labels {
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	return list
}

func (k *compiler) concurrency() int { return max(1, k.c.Workers.Concurrency) }

// answering is a worker without a server, which has its queues' URLs from a Secret.
func (k *compiler) answering(pod, container map[string]any) {
	const at = "/run/navvy/queue/"
	args := []any{
		"worker", "start", "--data=" + ownPaths[0] + "/worker", "--requests-file=" + at + "requests", "--responses-file=" + at + "responses",
		fmt.Sprintf("--jobs=%d", k.concurrency()), "--drain-timeout=" + drain.String(), "--log-format=json",
		"--service=" + k.c.Service.Form(), "--attempts=" + strconv.Itoa(k.c.Queue.Attempts),
	}
	if d := k.c.Queue.Lease; d != 0 {
		args = append(args, "--lease="+time.Duration(d).String())
	}
	if d := k.c.Service.Timeout; d != 0 {
		args = append(args, "--timeout="+time.Duration(d).String())
	}
	container["args"] = append(args, k.pods.args...)
	pod["automountServiceAccountToken"] = false
	delete(container, "env")
	container["envFrom"] = append([]any{map[string]any{"secretRef": map[string]any{"name": variablesName(k.c.Name)}}}, k.pods.envFrom...)
	byName := func(name string) func(any) bool {
		return func(v any) bool { return v.(map[string]any)["name"] == name }
	}
	pod["volumes"] = slices.DeleteFunc(pod["volumes"].([]any), byName("join"))
	container["volumeMounts"] = slices.DeleteFunc(container["volumeMounts"].([]any), byName("join"))
	k.pods.mount(
		map[string]any{"name": "queue", "secret": map[string]any{"secretName": queueSecret(k.c.Name), "defaultMode": int64(0o440)}},
		map[string]any{"name": "queue", "mountPath": strings.TrimSuffix(at, "/"), "readOnly": true},
	)
}

// scaling bounds what scales the workers: by the service's requests, where the chart counts
// containers.
func (k *compiler) scaling(u *unstructured.Unstructured) error {
	a := k.c.Workers.Autoscale
	tasks := resource.NewQuantity(int64(k.concurrency()), resource.DecimalSI).String()
	spec := u.Object["spec"].(map[string]any)
	if u.GetKind() == "HorizontalPodAutoscaler" {
		spec["minReplicas"], spec["maxReplicas"] = int64(a.Min), int64(max(1, a.Max))
		external := spec["metrics"].([]any)[0].(map[string]any)["external"].(map[string]any)
		external["target"].(map[string]any)["averageValue"] = tasks
		labels := map[string]any{"kind": "service", "queue": k.c.Queue.Request}
		return unstructured.SetNestedMap(external, labels, "metric", "selector", "matchLabels")
	}
	spec["minReplicaCount"], spec["maxReplicaCount"] = int64(a.Min), int64(max(1, a.Max))
	m := spec["triggers"].([]any)[0].(map[string]any)["metadata"].(map[string]any)
	m["kind"], m["queue"], m["tasksPerWorker"] = "service", k.c.Queue.Request, strconv.Itoa(k.concurrency())
	if labels := labelPairs(k.c.Workers.Labels); len(labels) > 0 {
		if slices.ContainsFunc(labels, func(l string) bool { return strings.Contains(l, ",") }) {
			return unsupported("workers.labels", "with kubernetes.scaler keda no value has a comma")
		}
		m["labels"] = strings.Join(labels, ",")
	}
	return nil
}
