package chart_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// The Role of the workers is what rights.yaml says, which docs/containers.md shows.
func TestRights(t *testing.T) {
	t.Parallel()
	want := rights(t)
	for _, namespace := range []string{"space", "other"} {
		list := render(t, "--set", "worker.namespaces={other}")
		i := slices.IndexFunc(list, func(o object) bool {
			return o.Kind == "Role" && o.Metadata.Name == "navvy-worker" && o.Metadata.Namespace == namespace
		})
		if i < 0 || !reflect.DeepEqual(list[i].Rules, want) {
			t.Errorf("in namespace %s the Role is %+v", namespace, list)
		}
	}
	docs, err := os.ReadFile(root + "/docs/containers.md")
	if err != nil {
		t.Fatal(err)
	}
	_, shown, _ := strings.Cut(string(docs), "```yaml\nrules:\n")
	shown, _, _ = strings.Cut(shown, "```")
	var documented []rule
	if err := yaml.Unmarshal([]byte(shown), &documented); err != nil || !reflect.DeepEqual(documented, want) {
		t.Errorf("docs/containers.md shows %+v (%v), and deploy/helm/navvy/rights.yaml says %+v", documented, err, want)
	}
	server := find(t, render(t), "Role", "navvy-server")
	if want := []rule{{APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: []string{"navvy-join"}, Verbs: []string{"patch"}}}; !reflect.DeepEqual(server.Rules, want) {
		t.Errorf("the server may %+v", server.Rules)
	}
}

// What the older chart's values are called means what it meant.
func TestContract(t *testing.T) {
	t.Parallel()
	list := render(t, "--set", "app.replicaCount=3,app.name=work,app.account=mstc,app.queue.host=mq,app.queue.port=5673,app.queue.user=u,app.queue.pass=secret-word,"+
		"app.image.pullPolicy=Always,app.image.tag=7,app.ports.rest=8081,mstc.enabled=true,storage.host=s3,storage.user=a,storage.pass=other-word")
	worker := find(t, list, "Deployment", "work-worker").text
	server := find(t, list, "StatefulSet", "work-server").text
	for _, c := range []struct{ in, what string }{
		{worker, "replicas: 3\n"}, {worker, "serviceAccountName: mstc\n"}, {worker, `image: "navvy:7"`}, {worker, "imagePullPolicy: Always"},
		{worker, `{name: MINIO_SERVICE_HOST, value: "s3"}`}, {server, `{name: WORK_QUEUE_HOST, value: "mq"}`}, {server, `{name: WORK_QUEUE_PORT, value: "5673"}`},
		{server, "- --mstc"}, {server, "containerPort: 8081"}, {find(t, list, "Service", "work").text, "port: 8081"},
		{find(t, list, "Secret", "work-queue").text, `pass: "secret-word"`}, {find(t, list, "Secret", "work-storage").text, `pass: "other-word"`},
	} {
		if !strings.Contains(c.in, c.what) {
			t.Errorf("there is no %s in\n%s", c.what, c.in)
		}
	}
	find(t, list, "ServiceAccount", "mstc")
	for _, o := range list {
		if o.Kind != "Secret" && (strings.Contains(o.text, "secret-word") || strings.Contains(o.text, "other-word")) {
			t.Errorf("a password is in %s %s", o.Kind, o.Metadata.Name)
		}
	}
}

// A password that is another one makes the pods anew that use it, and none else; a file's end
// of line is no part of it.
func TestContractPassword(t *testing.T) {
	t.Parallel()
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "pass")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pods := func(queue, storage string) (server, worker string, list []object) {
		list = render(t, "--set", "mstc.enabled=true,app.queue.host=mq,app.queue.user=u,storage.host=s3,storage.user=a",
			"--set-file", "app.queue.pass="+file(queue)+",storage.pass="+file(storage))
		return find(t, list, "StatefulSet", "navvy-server").text, find(t, list, "Deployment", "navvy-worker").text, list
	}
	server, worker, _ := pods("one", "two")
	for _, c := range []struct {
		queue, storage string
		server, worker bool // are replaced
	}{
		{"one\n", "two\r\n", false, false}, {"other", "two", true, false}, {"one", "other", true, true},
	} {
		s, w, list := pods(c.queue, c.storage)
		if (s != server) != c.server || (w != worker) != c.worker {
			t.Errorf("with the passwords %q and %q:\n%s\n%s", c.queue, c.storage, s, w)
		}
		for name, pass := range map[string]string{"navvy-queue": c.queue, "navvy-storage": c.storage} {
			if text := find(t, list, "Secret", name).text + "\n"; !strings.Contains(text, fmt.Sprintf("pass: %q\n", strings.TrimSpace(pass))) {
				t.Errorf("with %q the Secret is\n%s", pass, text)
			}
		}
	}
	for _, beside := range []string{"rabbitmq", "minio"} {
		list := render(t, "--set", beside+".enabled=true", "--set-file", beside+".auth.pass="+file("three\n"))
		if text := find(t, list, "Secret", "navvy-"+beside).text; !strings.Contains(text, "pass: \"three\"") {
			t.Errorf("beside it is\n%s", text)
		}
	}
}

// A server whose pod never becomes ready is replaced by an upgrade that mends it.
func TestContractUpgrade(t *testing.T) {
	t.Parallel()
	var set struct {
		Spec struct{ PodManagementPolicy string }
	}
	if err := yaml.Unmarshal([]byte(find(t, render(t), "StatefulSet", "navvy-server").text), &set); err != nil || set.Spec.PodManagementPolicy != "Parallel" {
		t.Errorf("the StatefulSet says %+v, %v", set, err)
	}
}

// variants are values of all kinds.
var variants = map[string][]string{
	"as it is":        nil,
	"the older names": {"app.name=work,app.account=mstc,app.replicaCount=2,app.image.tag=7"},
	"mstc":            {"mstc.enabled=true,app.queue.host=mq,app.queue.user=u,app.queue.pass=p,storage.host=s3,storage.user=a,storage.pass=b"},
	"S3 by URL":       {"storage.url=https://s3.example,storage.podSecret=pods,storage.user=a,storage.pass=b"},
	"mstc by URL":     {"mstc.enabled=true,mstc.urlSecret=url"},
	"mstc for some":   {"mstc.enabled=true,mstc.urlSecret=url,mstc.rest.open=true,mstc.rest.from[0].podSelector.matchLabels.app=clients"},
	"all beside it":   {"mstc.enabled=true,rabbitmq.enabled=true,rabbitmq.auth.pass=x,minio.enabled=true,minio.auth.pass=y"},
	"an HPA":          {"scaling.by=hpa,scaling.queue=fast,scaling.cooldownSeconds=7200"},
	"KEDA":            {"scaling.by=keda,scaling.queue=fast,scaling.cooldownSeconds=7200,worker.labels.gpu=a100"},
	"much": {"worker.singleOwner=ann,worker.labels.zone=a,worker.drainSeconds=600,server.service.type=NodePort,server.persistence.enabled=false," +
		"server.hosts={a.example,10.0.0.1},imagePullSecrets[0].name=pull,server.persistence.storageClass=disk"},
}

// paths are where the API has kinds.
var paths = map[string]string{
	"ServiceAccount": "/api/v1/namespaces/%s/serviceaccounts", "Secret": "/api/v1/namespaces/%s/secrets",
	"Service": "/api/v1/namespaces/%s/services", "ConfigMap": "/api/v1/namespaces/%s/configmaps",
	"Role":        "/apis/rbac.authorization.k8s.io/v1/namespaces/%s/roles",
	"RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/%s/rolebindings",
	"StatefulSet": "/apis/apps/v1/namespaces/%s/statefulsets", "Deployment": "/apis/apps/v1/namespaces/%s/deployments",
	"NetworkPolicy":           "/apis/networking.k8s.io/v1/namespaces/%s/networkpolicies",
	"HorizontalPodAutoscaler": "/apis/autoscaling/v2/namespaces/%s/horizontalpodautoscalers",
	"ScaledObject":            "/apis/keda.sh/v1alpha1/namespaces/%s/scaledobjects",
	"TriggerAuthentication":   "/apis/keda.sh/v1alpha1/namespaces/%s/triggerauthentications",
}

// A real API server takes all that the chart renders, in a namespace that lets in restricted
// pods alone, and warns of nothing. Of KEDA it knows what KEDA itself defines.
func TestAccepted(t *testing.T) {
	t.Parallel()
	c := kubetest.Open(t)
	c.KEDAKinds(t)
	namespace := c.Namespace(t)
	c.Admin().Must(t, http.MethodPatch, "/api/v1/namespaces/"+namespace, `{metadata: {labels: {pod-security.kubernetes.io/enforce: restricted}}}`, nil)
	for name, values := range variants {
		args := []string{"--namespace", namespace, "--set-string", "server.policy=users: {},worker.podTemplate=spec: {}"}
		for _, v := range values {
			args = append(args, "--set", v)
		}
		for _, o := range render(t, args...) {
			accepted(t, c, namespace, name, &o)
		}
	}
	text, err := os.ReadFile(root + "/deploy/manifests/navvy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects(t, strings.ReplaceAll(string(text), "namespace: navvy\n", "namespace: "+namespace+"\n")) {
		accepted(t, c, namespace, "the manifests", &o)
	}
}

// accepted checks that the API server takes an object, and would take its pods.
func accepted(t *testing.T, c *kubetest.Cluster, namespace, name string, o *object) {
	t.Helper()
	path, known := paths[o.Kind]
	if !known {
		t.Errorf("%s: where does a %s belong?", name, o.Kind)
		return
	}
	const dry = "?dryRun=All&fieldValidation=Strict"
	if err := c.Admin().Do(t.Context(), http.MethodPost, fmt.Sprintf(path, namespace)+dry, o.text, nil); err != nil {
		t.Errorf("%s: %s %s: %v", name, o.Kind, o.Metadata.Name, err)
	}
	var with struct {
		Spec struct{ Template map[string]any }
	}
	if err := yaml.Unmarshal([]byte(o.text), &with); err != nil || with.Spec.Template == nil {
		return
	}
	pod := with.Spec.Template
	pod["metadata"] = map[string]any{"name": "pod"}
	spec := pod["spec"].(map[string]any)
	delete(spec, "serviceAccountName") // which a dry run has not made
	text, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Admin().Do(t.Context(), http.MethodPost, "/api/v1/namespaces/"+namespace+"/pods"+dry, string(text), nil); err != nil {
		// The volume of a claim comes with the set.
		if !strings.Contains(err.Error(), `volumeMounts[0].name: Not found: \"data\"`) || strings.Contains(err.Error(), "PodSecurity") {
			t.Errorf("%s: a pod of %s %s: %v", name, o.Kind, o.Metadata.Name, err)
		}
	}
}
