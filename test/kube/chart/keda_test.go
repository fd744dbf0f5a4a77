package chart_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// envKEDA names the directory with KEDA's programs, which make test-keda builds.
const envKEDA = "NAVVY_TEST_KEDA"

// kedaOverlay is KEDA as its own manifests install it, but for what is not here: a registry of
// images, and a network that knows names and addresses of Services.
const kedaOverlay = `
resources: [keda/config/minimal]
patches:
- patch: |-
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: keda-operator, namespace: keda}
    spec:
      template:
        spec:
          hostAliases: [{ip: %[1]s, hostnames: [%[2]s]}]
          containers:
          - name: keda-operator
            image: local.test/keda-operator:1
            imagePullPolicy: Never
            command: [/program]
            env: [{name: KUBERNETES_SERVICE_HOST, value: %[4]s}, {name: KUBERNETES_SERVICE_PORT, value: "6443"}]
- patch: |-
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: keda-metrics-apiserver, namespace: keda}
    spec:
      replicas: %[5]d
      template:
        spec:
          hostAliases: [{ip: %[3]s, hostnames: [keda-operator.keda.svc.cluster.local]}]
          containers:
          - name: keda-metrics-apiserver
            image: local.test/keda-adapter:1
            imagePullPolicy: Never
            command: [/program]
            env: [{name: KUBERNETES_SERVICE_HOST, value: %[4]s}, {name: KUBERNETES_SERVICE_PORT, value: "6443"}]
`

// kubectlKEDA is a call in KEDA's namespace.
func kubectlKEDA(t *testing.T, c *kubetest.Cluster, args ...string) *exec.Cmd {
	t.Helper()
	return c.Admin().Kubectl(t, append([]string{"--namespace=keda"}, args...)...)
}

// startKEDA installs KEDA from the programs of a directory; it asks the release whose server
// has that address. It goes when the test ends.
func (r *release) startKEDA(programs, ip string) {
	t, c := r.t, r.cluster
	t.Helper()
	for _, name := range []string{"keda-operator", "keda-adapter"} {
		c.AddProgram(t, "local.test/"+name+":1", filepath.Join(programs, name))
	}
	dir := t.TempDir()
	if err := os.Symlink(ofKEDA(t, "."), filepath.Join(dir, "keda")); err != nil {
		t.Fatal(err)
	}
	apply := func(operator string, adapters int) {
		t.Helper()
		text := fmt.Sprintf(kedaOverlay, ip, "navvy."+r.namespace+".svc", operator, kubetest.NodeIP, adapters)
		if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, c.Admin().Kubectl(t, "apply", "--server-side", "--force-conflicts", "--kustomize="+dir))
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, args := range [][]string{{"get", "pods", "-o", "wide"}, {"get", "events"}, {"logs", "-l", "app=keda-operator", "--tail=100"}, {"logs", "-l", "app=keda-metrics-apiserver", "--tail=30"}} {
				out, err := output(kubectlKEDA(t, c, args...))
				t.Logf("-- kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
			}
		}
		run(t, c.Admin().Kubectl(t, "delete", "--ignore-not-found", "apiservice", "v1beta1.external.metrics.k8s.io"))
		run(t, c.Admin().Kubectl(t, "delete", "--ignore-not-found", "--wait=false", "namespace", "keda"))
	})
	apply(ip, 0) // where the operator is will be seen
	var operator string
	kubetest.Until(t, "KEDA's operator runs", func() bool {
		var err error
		operator, err = output(kubectlKEDA(t, c, "get", "pods", "-l", "app=keda-operator", "-o", "jsonpath={.items[*].status.podIP}"))
		return err == nil && operator != ""
	})
	apply(operator, 1)
	run(t, c.Admin().Kubectl(t, "wait", "--for=condition=Available", "--timeout="+kubetest.Patience.String(), "apiservice/v1beta1.external.metrics.k8s.io"))
}

// gone waits until there are no pods of workers.
func (r *release) gone() {
	r.t.Helper()
	r.replicas("0")
	kubetest.Until(r.t, "the workers are gone", func() bool {
		return run(r.t, r.kubectl("get", "pods", "-l", "app.kubernetes.io/component=worker", "-o", "name")) == ""
	})
}

// KEDA itself scales workers as the chart tells it: its operator from none to one when a job
// comes and to none when all is answered, an autoscaler in between, by what its own server of
// metrics tells.
func TestKEDA(t *testing.T) {
	programs := os.Getenv(envKEDA)
	if programs == "" {
		t.Skip("KEDA is not built: make test-keda")
	}
	c := open(t)
	definitions(t, c)
	values := []string{
		`scaling.by="keda"`, "scaling.tasksPerWorker=2", "scaling.maxReplicas=5", "scaling.cooldownSeconds=1", "scaling.pollingSeconds=5",
		"worker.slots=2", "worker.drainSeconds=1",
	}
	r := install(t, c, values...)
	ip := r.serverIP()
	r.known(ip, values)
	r.startKEDA(programs, ip)
	r.gone()
	id, let := r.held()
	r.replicas("3")
	r.workers(3)
	var hpa autoscaler
	r.get(&hpa, "hpa", "keda-hpa-navvy-worker")
	if hpa.Spec.MaxReplicas != 5 || hpa.Status.DesiredReplicas != 3 {
		t.Errorf("the autoscaler is %+v", hpa)
	}
	let()
	r.answers(id)
	r.gone()
	if out := run(t, r.navvy("run", "--image", kubetest.Image, "--", "echo", "again")); out != "again\n" {
		t.Errorf("with no worker at first the answer is %q", out)
	}
	r.gone()
	r.told()
}

// told checks what KEDA has told of it.
func (r *release) told() {
	r.t.Helper()
	out := run(r.t, r.kubectl("get", "events", "-o", "jsonpath={range .items[*]}{.reason} {.message}{\"\\n\"}{end}"))
	for _, reason := range []string{"KEDAScaleTargetActivated", "KEDAScaleTargetDeactivated", "SuccessfulRescale"} {
		if !strings.Contains(out, reason) {
			r.t.Errorf("nobody tells %s:\n%s", reason, out)
		}
	}
	var object struct {
		Status struct {
			Conditions []struct{ Type, Status, Reason, Message string }
		}
	}
	r.get(&object, "scaledobject", "navvy-worker")
	for _, c := range object.Status.Conditions {
		if c.Type == "Ready" && c.Status != "True" {
			r.t.Errorf("the ScaledObject is not ready: %+v", c)
		}
	}
}
