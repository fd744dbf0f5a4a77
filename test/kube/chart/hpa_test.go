package chart_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// metricsPath is where the API server has the metrics of others.
const metricsPath = "/apis/external.metrics.k8s.io/v1beta1"

// metricsManifest has the API server ask a server of the test for them, and lets autoscalers ask.
const metricsManifest = `
apiVersion: v1
kind: Service
metadata: {name: metrics, namespace: %[1]s}
spec: {ports: [{name: https, port: 443, targetPort: %[3]s}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: metrics, namespace: %[1]s, labels: {kubernetes.io/service-name: metrics}}
addressType: IPv4
endpoints: [{addresses: [%[2]s], conditions: {ready: true}}]
ports: [{name: https, port: %[3]s, protocol: TCP}]
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1beta1.external.metrics.k8s.io}
spec:
  service: {name: metrics, namespace: %[1]s}
  group: external.metrics.k8s.io
  version: v1beta1
  insecureSkipTLSVerify: true
  groupPriorityMinimum: 100
  versionPriority: 100
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: metrics}
rules: [{apiGroups: [external.metrics.k8s.io], resources: ["*"], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: metrics}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: metrics}
subjects: [{kind: ServiceAccount, name: horizontal-pod-autoscaler, namespace: kube-system}]
`

// adapter gives autoscalers what the server of a release measures, as adapters of Prometheus do:
// the values of a metric whose labels are as asked, and an error of none where there are none.
type adapter struct {
	cluster *kubetest.Cluster
	server  string // where its metrics are
}

// sample is a line of /metrics.
var sample = regexp.MustCompile(`^(\w+)\{(.*)\} (\S+)$`)

func (a *adapter) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if q.URL.Path == metricsPath {
		_, _ = io.WriteString(w, `{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "external.metrics.k8s.io/v1beta1", "resources": []}`)
		return
	}
	name := filepath.Base(q.URL.Path)
	text, err := a.read(q)
	if err != nil || !strings.HasPrefix(q.URL.Path, metricsPath+"/namespaces/") {
		http.NotFound(w, q)
		return
	}
	items := []any{}
	for line := range strings.Lines(text) {
		found := sample.FindStringSubmatch(strings.TrimSpace(line))
		if found == nil || found[1] != name {
			continue
		}
		labels := map[string]string{}
		for pair := range strings.SplitSeq(found[2], ",") {
			label, value, _ := strings.Cut(pair, "=")
			labels[label] = strings.Trim(value, `"`)
		}
		if selected(labels, q.URL.Query().Get("labelSelector")) {
			items = append(items, map[string]any{"metricName": name, "metricLabels": labels, "value": found[3], "timestamp": time.Now().UTC().Format(time.RFC3339)})
		}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"kind": "ExternalMetricValueList", "apiVersion": "external.metrics.k8s.io/v1beta1", "metadata": map[string]any{}, "items": items})
}

// selected tells whether labels are as a selector of pairs asks.
func selected(labels map[string]string, selector string) bool {
	for pair := range strings.SplitSeq(selector, ",") {
		if label, value, _ := strings.Cut(pair, "="); pair != "" && labels[label] != value {
			return false
		}
	}
	return true
}

// read reads what the server measures.
func (a *adapter) read(q *http.Request) (string, error) {
	transport := &http.Transport{DialContext: a.cluster.Dial, DisableKeepAlives: true}
	request, err := http.NewRequestWithContext(q.Context(), http.MethodGet, "http://"+a.server+"/metrics", nil)
	if err != nil {
		return "", err
	}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	return string(text), err
}

// startAdapter has autoscalers know what the server with that address measures. Whoever asks
// the adapter shows that it is the API server.
func (r *release) startAdapter(ip string) {
	t, c := r.t, r.cluster
	t.Helper()
	text, err := os.ReadFile(c.Path("front-ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	server := httptest.NewUnstartedServer(&adapter{c, net.JoinHostPort(ip, "7481")})
	server.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	host, port, err := net.SplitHostPort(c.Expose(t, server.Listener.Addr().String()))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "metrics.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, metricsManifest, r.namespace, host, port), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			out, err := output(r.kubectl("describe", "hpa"))
			t.Logf("the autoscaler: %s, %v", out, err)
		}
		run(t, c.Admin().Kubectl(t, "delete", "--wait=false", "--filename="+path))
	})
	run(t, c.Admin().Kubectl(t, "apply", "--server-side", "--filename="+path))
	run(t, c.Admin().Kubectl(t, "wait", "--for=condition=Available", "--timeout="+kubetest.Patience.String(), "apiservice/v1beta1.external.metrics.k8s.io"))
}

// autoscaler is a HorizontalPodAutoscaler.
type autoscaler struct {
	Spec   struct{ MaxReplicas int }
	Status struct {
		DesiredReplicas int
		CurrentMetrics  []any
		Conditions      []struct{ Type, Status string }
	}
}

// condition is the state of a condition; empty if nothing is known of it.
func (a *autoscaler) condition(name string) string {
	for _, c := range a.Status.Conditions {
		if c.Type == name {
			return c.Status
		}
	}
	return ""
}

// replicas waits until there are to be so many workers.
func (r *release) replicas(want string) {
	r.t.Helper()
	kubetest.Until(r.t, want+" workers are wanted", func() bool {
		return run(r.t, r.kubectl("get", "deployment", "navvy-worker", "-o", "jsonpath={.spec.replicas}")) == want
	})
}

// held maps six containers that do not end before the test lets them.
func (r *release) held(flags ...string) (id string, let func()) {
	t := r.t
	t.Helper()
	gate := make(chan struct{})
	let = sync.OnceFunc(func() { close(gate) })
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		select {
		case <-gate:
			_, _ = fmt.Fprintln(w, q.URL.Path[1:])
		case <-q.Context().Done():
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(let)
	at := r.cluster.Expose(t, server.Listener.Addr().String())
	args := append([]string{"map", "-d", "-j", "6", "--image", kubetest.Image}, flags...)
	args = append(args, "--", "wget", "-q", "-O", "-", "http://"+at+"/{}", ":::", "a", "b", "c", "d", "e", "f")
	return strings.TrimSpace(run(t, r.navvy(args...))), let
}

// answers waits for the answers of what was held.
func (r *release) answers(id string) {
	r.t.Helper()
	run(r.t, r.navvy("wait", id))
	if out := run(r.t, r.navvy("results", id)); out != "a\nb\nc\nd\ne\nf\n" {
		r.t.Errorf("the answers are %q", out)
	}
}

// known has workers know their server, which has that address, by its name.
func (r *release) known(ip string, values []string) {
	r.t.Helper()
	alias := fmt.Sprintf(`worker.hostAliases=[{"ip":%q,"hostnames":["navvy.%s.svc"]}]`, ip, r.namespace)
	r.helm("upgrade", append(slices.Clone(values), alias)...)
}

// Kubernetes' own autoscaler scales workers as the chart tells it, by the server's metric: to as
// many as there is work for in a queue, and to one, which is its least, when there is none.
func TestAutoscaler(t *testing.T) {
	c := open(t)
	values := []string{
		`scaling.by="hpa"`, `scaling.queue="fast"`, "scaling.tasksPerWorker=2", "scaling.maxReplicas=5", "scaling.cooldownSeconds=0",
		"worker.slots=2", "worker.drainSeconds=1",
	}
	r := install(t, c, values...)
	ip := r.serverIP()
	r.known(ip, values)
	run(t, r.navvy("queue", "create", "fast"))
	r.startAdapter(ip)
	var hpa autoscaler
	kubetest.Until(t, "the autoscaler knows that there is nothing to do", func() bool {
		r.get(&hpa, "hpa", "navvy-worker")
		return hpa.condition("ScalingActive") == "True" && len(hpa.Status.CurrentMetrics) == 1
	})
	id, let := r.held("--queue=fast")
	r.replicas("3")
	r.workers(3)
	let()
	r.answers(id)
	r.replicas("1")
	r.get(&hpa, "hpa", "navvy-worker")
	if hpa.condition("ScalingActive") != "True" {
		t.Errorf("with nothing to do again the autoscaler knows nothing: %+v", hpa.Status)
	}
}
