package kubernetes

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/navvy-run/navvy/cluster"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// scaled waits until the workers are to be so many.
func (l *life) scaled(n int) {
	l.t.Helper()
	w := &world{c: l.c, namespace: l.name}
	kubetest.Until(l.t, fmt.Sprintf("%d workers are wanted", n), func() bool { return w.replicas(l.t, l.name) == n })
}

// forgetKEDA has the API server not know KEDA's kinds any more, after all else of KEDA is gone.
func (l *life) forgetKEDA() {
	kubectl := func(args ...string) string {
		out, err := l.c.Admin().Kubectl(l.t, args...).CombinedOutput()
		if err != nil {
			l.t.Errorf("kubectl %s: %v: %s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	for name := range strings.FieldsSeq(kubectl("get", "crd", "-o", "name")) {
		if strings.HasSuffix(name, "keda.sh") {
			kubectl("delete", name)
		}
	}
}

// KEDA itself scales a cluster's workers from none to as many as its requests want and to none when
// all are answered. It knows KEDA's kinds then, which another test does not want: so this is not
// run beside others.
func TestLifeKEDA(t *testing.T) { //nolint:paralleltest // as said above
	programs := os.Getenv(kubetest.EnvKEDA)
	if programs == "" {
		t.Skip("KEDA is not built: make test-keda")
	}
	l := newLife(t, "life-keda")
	l.c.KEDAKinds(t)
	t.Cleanup(l.forgetKEDA)
	admin, control := l.c.Admin(), l.control()
	fixed := filledIn(t, l.name, image(t, l.c))
	fixed.Workers.Count, fixed.Workers.Concurrency = 1, 2
	l.apply(control, fixed)
	l.ready(1)
	scaled := *fixed
	scaled.Workers.Count, scaled.Workers.Autoscale = 0, &config.Autoscale{Max: 3}
	scaled.Kubernetes.Scaler = config.ScalerKEDA
	l.apply(control, &scaled)
	l.scaled(1) // nobody is there yet who scales
	var pod struct{ Status struct{ PodIP string } }
	admin.Must(t, http.MethodGet, "/api/v1/namespaces/"+l.name+"/pods/"+podName(l.name), "", &pod)
	l.c.StartKEDA(t, programs, l.name+"."+l.name+".svc", pod.Status.PodIP)
	l.scaled(0)
	kubetest.Until(t, "KEDA has made its autoscaler", func() bool { return len(l.autoscalers()) == 1 })
	if p, err := control.Plan(t.Context(), &scaled); err != nil || !p.Empty() {
		t.Errorf("with KEDA there is to do %+v, %v", p, err)
	}
	if s, err := control.Status(t.Context(), l.name); err != nil || slices.ContainsFunc(s.Resources, func(o driver.Observed) bool { return o.Kind == "horizontalpodautoscaler" }) {
		t.Errorf("its status is %+v, %v", s, err)
	}
	object := "/apis/keda.sh/v1alpha1/namespaces/" + l.name + "/scaledobjects/" + workersName(l.name)
	admin.Must(t, http.MethodPatch, object, `{spec: {cooldownPeriod: 1, pollingInterval: 5}}`, nil) // nobody waits for five minutes
	workers := "/apis/apps/v1/namespaces/" + l.name + "/deployments/" + workersName(l.name)
	admin.Must(t, http.MethodPatch, workers, `{spec: {template: {spec: {nodeSelector: {kubetest/no: such}}}}}`, nil) // what waits is to wait
	requests := []string{"1", "2", "3", "4", "5", "6"}
	l.send(requests...)
	l.scaled(3)
	admin.Must(t, http.MethodPatch, workers, `{spec: {template: {spec: {nodeSelector: null}}}}`, nil)
	if got := l.answers(len(requests)); !slices.Equal(got, requests) {
		t.Errorf("the answers are %q", got)
	}
	l.scaled(0)
	l.apply(control, fixed)
	l.scaled(1)
	l.ready(1)
	if all := l.autoscalers(); len(all) > 0 {
		t.Errorf("with a fixed number there is still %q", all)
	}
	losing := cluster.New(l.Driver, &cluster.Options{Who: "life", Lose: true})
	if _, err := losing.Destroy(t.Context(), l.name); err != nil {
		t.Error(err)
	}
	if left := left(t, l.c, l.name, l.name); len(left) > 0 {
		t.Errorf("there is left %q", left)
	}
}

// apply applies a file, after which there is nothing to do.
func (l *life) apply(control *cluster.Controller, c *config.Cluster) {
	l.t.Helper()
	if _, err := control.Apply(l.t.Context(), c); err != nil {
		l.t.Fatal(err)
	}
	if p, err := control.Plan(l.t.Context(), c); err != nil || !p.Empty() {
		l.t.Errorf("there is still to do %+v, %v", p, err)
	}
}

// autoscalers are the HorizontalPodAutoscalers of the cluster's namespace.
func (l *life) autoscalers() []string {
	l.t.Helper()
	out, err := l.c.Admin().Kubectl(l.t, "--namespace="+l.name, "get", "hpa", "-o", "name").Output()
	if err != nil {
		l.t.Error(err)
	}
	return strings.Fields(string(out))
}
