package chart_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// release is navvy, installed.
type release struct {
	t         *testing.T
	cluster   *kubetest.Cluster
	namespace string
}

// install installs the chart with values, and waits for nothing.
func install(t *testing.T, c *kubetest.Cluster, values ...string) *release {
	t.Helper()
	r := &release{t: t, cluster: c, namespace: c.Namespace(t)}
	r.volume()
	r.helm("install", values...)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(r.words())
		}
	})
	return r
}

// helm installs or upgrades. No Service has an address here: pods find the API server, and
// workers their server, by what the values say.
func (r *release) helm(verb string, values ...string) {
	r.t.Helper()
	args := []string{
		verb, "navvy", chart, "--kubeconfig", r.cluster.Admin().Kubeconfig, "--namespace", r.namespace,
		"--set", "app.image.repository=" + image + ",app.image.tag=" + tag + ",app.image.pullPolicy=Never",
		"--set-json", fmt.Sprintf(`server.extraEnv=[{"name":"KUBERNETES_SERVICE_HOST","value":%q},{"name":"KUBERNETES_SERVICE_PORT","value":"6443"}]`, kubetest.NodeIP),
		"--set-json", fmt.Sprintf(`worker.extraEnv=[{"name":"KUBERNETES_SERVICE_HOST","value":%q},{"name":"KUBERNETES_SERVICE_PORT","value":"6443"}]`, kubetest.NodeIP),
		"--set", "server.persistence.size=1Gi",
	}
	for _, v := range values {
		args = append(args, "--set-json", v)
	}
	helm(r.t, args...)
}

// volume makes a volume for the server's claim: there is nobody here who does.
func (r *release) volume() {
	dir := r.t.TempDir()
	for _, path := range []string{dir, filepath.Dir(dir)} { // the pod is not root
		if err := os.Chmod(path, 0o777); err != nil {
			r.t.Fatal(err)
		}
	}
	name := "volume-" + r.namespace
	r.cluster.Admin().Must(r.t, http.MethodPost, "/api/v1/persistentvolumes", fmt.Sprintf(`
metadata: {name: %s}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  claimRef: {apiVersion: v1, kind: PersistentVolumeClaim, namespace: %s, name: data-navvy-server-0}
  hostPath: {path: %s, type: Directory}
`, name, r.namespace, dir), nil)
}

// kubectl is a call in the release's namespace.
func (r *release) kubectl(args ...string) *exec.Cmd {
	return r.cluster.Admin().Kubectl(r.t, append([]string{"--namespace=" + r.namespace}, args...)...)
}

// navvy is a command in the server's pod.
func (r *release) navvy(args ...string) *exec.Cmd {
	return r.kubectl(append([]string{"exec", "navvy-server-0", "--container=server", "--", "navvy"}, args...)...)
}

// words are what the pods have said.
func (r *release) words() string {
	var b strings.Builder
	for _, args := range [][]string{
		{"get", "pods,jobs,secrets,pvc", "-o", "wide"}, {"get", "events"}, {"logs", "navvy-server-0", "--all-containers", "--tail=30"},
		{"logs", "-l", "app.kubernetes.io/component=worker", "--tail=30"},
	} {
		out, err := output(r.kubectl(args...))
		fmt.Fprintf(&b, "-- kubectl %s: %v\n%s\n", strings.Join(args, " "), err, out)
	}
	return b.String()
}

// serverIP waits until the server is ready, and tells its address.
func (r *release) serverIP() string {
	r.t.Helper()
	var ip string
	kubetest.Until(r.t, "the server is ready", func() bool {
		out, err := output(r.kubectl("get", "pod", "navvy-server-0", "-o",
			`jsonpath={.status.podIP} {.status.conditions[?(@.type=="Ready")].status}`))
		var ready bool
		ip, ready = strings.CutSuffix(out, " True")
		return err == nil && ready && ip != ""
	})
	return ip
}

// upgrade starts so many workers, which know the server by its name.
func (r *release) upgrade(workers int, values ...string) {
	r.t.Helper()
	alias := fmt.Sprintf(`worker.hostAliases=[{"ip":%q,"hostnames":["navvy.%s.svc"]}]`, r.serverIP(), r.namespace)
	r.helm("upgrade", append([]string{alias, fmt.Sprintf("worker.replicas=%d", workers)}, values...)...)
}

// workers waits until so many have joined.
func (r *release) workers(n int) {
	r.t.Helper()
	kubetest.Until(r.t, fmt.Sprintf("%d workers have joined", n), func() bool {
		out, err := output(r.navvy("worker", "ls", "-o", "jsonl"))
		return err == nil && strings.Count(out, `"state":"ready"`) == n
	})
}

// What the chart installs serves: the server is ready, workers join it, a container runs, its
// log comes. The workers' account makes no call that its Role does not allow, and the server's
// writes its one Secret and nothing else.
func TestInstall(t *testing.T) {
	t.Parallel()
	c := open(t)
	r := install(t, c, "worker.replicas=0")
	r.upgrade(1)
	r.workers(1)
	if out := run(t, r.navvy("run", "--image", kubetest.Image, "--", "echo", "hello")); out != "hello\n" {
		t.Errorf("the container wrote %q", out)
	}
	if out, err := output(r.navvy("run", "--image", kubetest.Image, "-S", "exit 3")); err == nil || !strings.Contains(err.Error(), "exit code 3") {
		t.Errorf("it ended with %v and wrote %q", err, out)
	}
	account := "system:serviceaccount:" + r.namespace + ":"
	allowed := map[string]bool{}
	for _, rule := range rights(t) {
		for _, resource := range rule.Resources {
			for _, verb := range rule.Verbs {
				allowed[verb+" "+resource] = true
			}
		}
	}
	calls := c.Calls(t, account+"navvy")
	if calls["create jobs"] != 2 {
		t.Errorf("two containers cost %v", calls)
	}
	for call := range calls {
		if !allowed[call] {
			t.Errorf("a worker calls %s, which its Role does not allow", call)
		}
	}
	if calls := c.Calls(t, account+"navvy-server"); len(calls) != 1 || calls["patch secrets"] == 0 {
		t.Errorf("the server's pod makes the calls %v", calls)
	}
	if calls := c.Calls(t, account+"default"); len(calls) != 0 {
		t.Errorf("pods of tasks make the calls %v", calls)
	}
}
