package chart_test

import (
	"os"
	"strings"
	"testing"

	"github.com/navvy-run/navvy/test/kube/kubetest"
)

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
	programs := os.Getenv(kubetest.EnvKEDA)
	if programs == "" {
		t.Skip("KEDA is not built: make test-keda")
	}
	c := open(t)
	c.KEDAKinds(t)
	values := []string{
		`scaling.by="keda"`, "scaling.tasksPerWorker=2", "scaling.maxReplicas=5", "scaling.cooldownSeconds=1", "scaling.pollingSeconds=5",
		"worker.slots=2", "worker.drainSeconds=1",
	}
	r := install(t, c, values...)
	ip := r.serverIP()
	r.known(ip, values)
	c.StartKEDA(t, programs, "navvy."+r.namespace+".svc", ip)
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
