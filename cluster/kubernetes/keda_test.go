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

	user := "blind-" + w.namespace
	rights, all := map[string][]string{}, []string{"get", "list", "create", "update", "patch", "delete"}
	for _, gvr := range resources {
		if gvr.Group != kedaGroup {
			rights[gvr.Group+"/"+gvr.Resource] = all
		}
	}
	rights["/pods"], rights["/events"], rights["batch/jobs"], rights["coordination.k8s.io/leases"] = all, all, all, all
	w.c.Grant(t, w.namespace, user, rights)
	blind, err := New(&Options{Kubeconfig: w.c.User(t, user), Namespace: w.namespace})
	if err != nil {
		t.Fatal(err)
	}
	blind.dial = w.dial
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
