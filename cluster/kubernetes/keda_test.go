package kubernetes

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// kedaKinds makes the API server know KEDA's kinds, with whatever is in them, until the test ends
// or they are removed.
func kedaKinds(t *testing.T, c *kubetest.Cluster) (remove func()) {
	t.Helper()
	const definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
	admin, kinds := c.Admin(), map[string]string{"scaledobjects": "ScaledObject", "triggerauthentications": "TriggerAuthentication"}
	for plural, kind := range kinds {
		admin.Must(t, http.MethodPost, definitions, fmt.Sprintf(`
metadata: {name: %[1]s.keda.sh}
spec:
  group: keda.sh
  scope: Namespaced
  names: {plural: %[1]s, singular: %[2]s, kind: %[3]s}
  versions: [{name: v1alpha1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]`,
			plural, strings.ToLower(kind), kind), nil)
	}
	const path = "/apis/keda.sh/v1alpha1/"
	known := func(ctx context.Context, plural string) bool {
		return admin.Do(ctx, http.MethodGet, path+plural, "", nil) == nil
	}
	for plural := range kinds {
		kubetest.Until(t, "the kinds are known", func() bool { return known(t.Context(), plural) })
	}
	remove = func() {
		ctx := context.Background() // also at the test's end
		for plural := range kinds {
			if err := admin.Do(ctx, http.MethodDelete, definitions+"/"+plural+".keda.sh", "", nil); err != nil && !strings.Contains(err.Error(), "404") {
				t.Error(err)
			}
			kubetest.Until(t, "the kinds are unknown", func() bool { return !known(ctx, plural) })
		}
		kubetest.Until(t, "the group is unknown", func() bool { return admin.Do(ctx, http.MethodGet, "/apis/keda.sh", "", nil) != nil })
	}
	t.Cleanup(remove)
	return remove
}

// What KEDA has of a cluster is not left behind by somebody who may not look at it, which is told;
// what KEDA makes of it is not taken for the cluster's. Another test wants that there is no KEDA:
// so this is not run beside others.
func TestKEDAUnseen(t *testing.T) { //nolint:paralleltest // as said above
	w := newWorld(t, "runs")
	w.serve()
	remove := kedaKinds(t, w.c)
	d, admin := w.open(t), w.c.Admin()
	c := w.described(t, "unseen", 0)
	c.Workers.Autoscale = &config.Autoscale{Max: 3}
	c = parsed(t, c)
	w.same(t, d, c)
	w.kedaMakes(t, "unseen")
	if s, err := controller(d).Status(t.Context(), "unseen"); err != nil {
		t.Error(err)
	} else if n := len(s.Resources); n != len(slices.CompactFunc(s.Resources, func(a, b driver.Observed) bool { return a.ID == b.ID })) || slices.ContainsFunc(s.Resources, func(o driver.Observed) bool { return o.Kind == "horizontalpodautoscaler" }) {
		t.Errorf("there are %+v", s.Resources)
	}
	w.same(t, d, c)

	blind, fixed := w.blind(t), w.described(t, "unseen", 1)
	_, err := controller(blind).Apply(t.Context(), fixed)
	wantError(t, "who may not look", err, navvy.ErrDenied, "scaledobject unseen-worker", "scaledobjects.keda.sh")
	w.same(t, d, c)
	w.withoutKEDA(t, blind, "never") // KEDA has nothing of it
	_, err = controller(blind).Destroy(t.Context(), "unseen")
	wantError(t, "who may not look", err, navvy.ErrDenied, "scaledobject unseen-worker", "triggerauthentication unseen-viewer", "scaledobjects.keda.sh")
	if err := blind.Close(); err != nil {
		t.Error(err)
	}
	const kinds = "/apis/keda.sh/v1alpha1/namespaces/"
	admin.Must(t, http.MethodGet, kinds+w.namespace+"/scaledobjects/unseen-worker", "", nil)
	if list, err := d.Clusters(t.Context()); err != nil || !slices.Contains(list, "unseen") {
		t.Errorf("there are %q, %v", list, err)
	}
	remove()
	w.away(t)
	p, err := controller(d).Destroy(t.Context(), "unseen")
	if err != nil || !slices.ContainsFunc(p.Changes, func(c cluster.Change) bool {
		return c.Kind == "scaledobject" && c.Action == cluster.Remove && strings.Contains(c.Why, "not any more")
	}) {
		t.Errorf("without KEDA it did %+v, %v", p, err)
	}
	if l := left(t, w.c, w.namespace, "unseen"); len(l) > 0 {
		t.Errorf("there is left %q", l)
	}
}

// away has the API server have a group whose own server is not there, as metrics have, until the test
// ends.
func (w *world) away(t *testing.T) {
	t.Helper()
	const services, version = "/apis/apiregistration.k8s.io/v1/apiservices", "/apis/away.navvy.test/v1"
	admin := w.c.Admin()
	says := func(code string) func() bool {
		return func() bool {
			err := admin.Do(context.Background(), http.MethodGet, version, "", nil) // also at the test's end
			return err != nil && strings.Contains(err.Error(), code)
		}
	}
	admin.Must(t, http.MethodPost, services, `
metadata: {name: v1.away.navvy.test}
spec:
  {group: away.navvy.test, version: v1, service: {namespace: default, name: nobody}, insecureSkipTLSVerify: true, groupPriorityMinimum: 1, versionPriority: 1}`, nil)
	t.Cleanup(func() {
		if err := admin.Do(context.Background(), http.MethodDelete, services+"/v1.away.navvy.test", "", nil); err != nil {
			t.Error(err)
		}
		kubetest.Until(t, "the group is unknown", says("404"))
	})
	kubetest.Until(t, "the group is away", says("503"))
}

// withoutKEDA is a cluster that a HorizontalPodAutoscaler scales, and then nobody; the autoscaler is
// gone already, as after somebody who was killed then.
func (w *world) withoutKEDA(t *testing.T, d *Driver, name string) {
	t.Helper()
	c := w.described(t, name, 0)
	c.Workers.Autoscale, c.Kubernetes.Scaler = &config.Autoscale{Min: 1, Max: 3}, config.ScalerHPA
	w.same(t, d, parsed(t, c))
	w.c.Admin().Must(t, http.MethodDelete, "/apis/autoscaling/v2/namespaces/"+w.namespace+"/horizontalpodautoscalers/"+workersName(name), "", nil)
	w.same(t, d, w.described(t, name, 2))
	if n := w.replicas(t, name); n != 2 {
		t.Errorf("of 2 there are %d", n)
	}
	w.gone(t, d, name)
}

// gone destroys a cluster, of which there is nothing then.
func (w *world) gone(t *testing.T, d *Driver, name string) {
	t.Helper()
	if _, err := controller(d).Destroy(t.Context(), name); err != nil {
		t.Error(err)
	}
	if l := left(t, w.c, w.namespace, name); len(l) > 0 {
		t.Errorf("there is left %q", l)
	}
}

// From one scaler to the other the first is gone before the second is there: KEDA refuses workers
// that an autoscaler has, and two autoscalers scale nothing. KEDA may leave none, and from that a
// HorizontalPodAutoscaler never scales. This is not run beside others, as above.
func TestScalers(t *testing.T) { //nolint:paralleltest // as said above
	w := newWorld(t, "runs")
	w.serve()
	kedaKinds(t, w.c)
	const name = "changes"
	at := map[string]string{config.ScalerKEDA: "/apis/keda.sh/v1alpha1/namespaces/" + w.namespace + "/scaledobjects", config.ScalerHPA: "/apis/autoscaling/v2/namespaces/" + w.namespace + "/horizontalpodautoscalers"}
	made := map[string]int{}
	d := w.open(t, func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			for scaler, other := range map[string]string{config.ScalerKEDA: config.ScalerHPA, config.ScalerHPA: config.ScalerKEDA} {
				if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, at[scaler]) {
					continue
				}
				made[scaler]++
				if w.c.Admin().Do(r.Context(), http.MethodGet, at[other]+"/"+workersName(name), "", nil) == nil {
					t.Errorf("%s is made while %s is there", scaler, other)
				}
			}
			return next.RoundTrip(r)
		})
	})
	scaled := func(scaler string) *config.Cluster {
		c := w.described(t, name, 0)
		c.Workers.Autoscale, c.Kubernetes.Scaler = &config.Autoscale{Min: 2, Max: 5}, scaler
		return parsed(t, c)
	}
	w.same(t, d, w.described(t, name, 0))
	w.same(t, d, scaled(config.ScalerHPA))
	if n := w.replicas(t, name); n != 2 {
		t.Errorf("of none, with an autoscaler of at least 2, there are %d", n)
	}
	w.scale(t, name, 3)
	w.same(t, d, scaled(config.ScalerKEDA))
	if n := w.replicas(t, name); n != 3 {
		t.Errorf("of 3, with KEDA there are %d", n)
	}
	w.scale(t, name, 0)
	w.same(t, d, scaled(config.ScalerHPA))
	if n := w.replicas(t, name); n != 2 {
		t.Errorf("of none that KEDA has left, with an autoscaler of at least 2, there are %d", n)
	}
	if made[config.ScalerHPA] != 2 || made[config.ScalerKEDA] != 1 {
		t.Errorf("made were %v", made)
	}
	w.gone(t, d, name)
}

// Who has no rights on KEDA's kinds is refused them also where KEDA was never installed. Whoever has
// asked for it by mistake can have another scaler, a fixed number, or nothing.
func TestKEDADenied(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "runs")
	w.serve()
	blind := w.blind(t)
	scaled, other := w.described(t, "denied", 0), w.described(t, "denied", 0)
	scaled.Workers.Autoscale = &config.Autoscale{Max: 3}
	other.Workers.Autoscale, other.Kubernetes.Scaler = &config.Autoscale{Min: 1, Max: 3}, config.ScalerHPA
	scaled, other = parsed(t, scaled), parsed(t, other)
	mistake := func() {
		t.Helper()
		_, err := controller(blind).Apply(t.Context(), scaled)
		wantError(t, "KEDA's kinds", err, navvy.ErrDenied, "triggerauthentication denied-viewer")
	}
	mistake()
	w.same(t, blind, w.described(t, "denied", 4))
	mistake()
	w.same(t, blind, other)
	mistake()
	w.gone(t, blind, "denied")
	w.withoutKEDA(t, blind, "denied")
}

// kedaMakes makes the HorizontalPodAutoscaler that KEDA makes of a ScaledObject, with its labels and
// annotations.
func (w *world) kedaMakes(t *testing.T, name string) {
	t.Helper()
	var of struct {
		Metadata struct{ UID string }
	}
	admin, space := w.c.Admin(), "/namespaces/"+w.namespace
	admin.Must(t, http.MethodGet, "/apis/keda.sh/v1alpha1"+space+"/scaledobjects/"+workersName(name), "", &of)
	admin.Must(t, http.MethodPost, "/apis/autoscaling/v2"+space+"/horizontalpodautoscalers", fmt.Sprintf(`
metadata:
  name: keda-hpa-%[1]s-worker
  labels: {navvy.run/cluster: %[1]s, navvy.run/kind: scaledobject, app.kubernetes.io/managed-by: keda-operator}
  annotations: {navvy.run/name: %[1]s-worker}
  ownerReferences: [{apiVersion: keda.sh/v1alpha1, kind: ScaledObject, name: %[1]s-worker, uid: %[2]s, controller: true, blockOwnerDeletion: true}]
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: %[1]s-worker}
  maxReplicas: 3`, name, of.Metadata.UID), nil)
}
