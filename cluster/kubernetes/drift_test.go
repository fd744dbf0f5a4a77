package kubernetes

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/navvy-run/navvy/cluster"
	"github.com/navvy-run/navvy/cluster/config"
)

// Who adds to what a Service selects, or to whom a Role is given, changes what they mean: that is
// seen and mended. A claim that was enlarged stays as large as it is.
func TestByHand(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "runs")
	w.serve()
	d := w.open(t)
	c := w.described(t, "by-hand", 1)
	if _, err := controller(d).Apply(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	admin, rbac := w.c.Admin(), "/apis/rbac.authorization.k8s.io/v1/namespaces/"+w.namespace
	admin.Must(t, http.MethodPatch, "/api/v1/namespaces/"+w.namespace+"/services/by-hand", `{spec: {selector: {more: of-it}}}`, nil)
	admin.Must(t, http.MethodPatch, rbac+"/rolebindings/by-hand-server",
		`[{op: add, path: /subjects/-, value: {kind: User, name: stranger, apiGroup: rbac.authorization.k8s.io}}]`, nil)
	p, err := controller(d).Plan(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for id, where := range map[string]string{"service by-hand": "changed: spec.selector", "rolebinding by-hand-server": "changed: subjects"} {
		if !slices.ContainsFunc(p.Changes, func(c cluster.Change) bool {
			return c.ID.String() == id && len(c.Differences) == 1 && strings.Contains(c.Differences[0].Is, where)
		}) {
			t.Errorf("%s: there is to do %+v", id, p.Changes)
		}
	}
	w.same(t, d, c)
	w.enlarge(t, "by-hand")
	if p, err := controller(d).Plan(t.Context(), c); err != nil || !p.Empty() {
		t.Errorf("of a larger claim there is to do %+v, %v", p, err)
	}
	admin.Must(t, http.MethodPatch, "/api/v1/namespaces/"+w.namespace+"/persistentvolumeclaims/"+claimName("by-hand"), `{metadata: {labels: {app.kubernetes.io/part-of: mine}}}`, nil)
	w.same(t, d, c)
	if _, err := controller(d).Destroy(t.Context(), "by-hand"); err != nil {
		t.Error(err)
	}
}

// A cluster of a name that YAML has another meaning for is like any other one.
func TestCalledOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "runs")
	w.serve()
	d := w.open(t)
	w.same(t, d, w.described(t, "on", 1))
	if s, err := controller(d).Status(t.Context(), "on"); err != nil || s.Name != "on" {
		t.Errorf("its status is %+v, %v", s, err)
	}
	if _, err := controller(d).Destroy(t.Context(), "on"); err != nil {
		t.Error(err)
	}
	if l := left(t, w.c, w.namespace, "on"); len(l) > 0 {
		t.Errorf("there is left %q", l)
	}
}

// same applies a cluster, after which there is nothing to do.
func (w *world) same(t *testing.T, d *Driver, c *config.Cluster) {
	t.Helper()
	if _, err := controller(d).Apply(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if p, err := controller(d).Plan(t.Context(), c); err != nil || !p.Empty() {
		t.Errorf("there is still to do %+v, %v", p, err)
	}
}

// enlarge binds a server's claim to a volume of a class that may be enlarged, and asks for more.
func (w *world) enlarge(t *testing.T, name string) {
	t.Helper()
	admin, class := w.c.Admin(), w.namespace+"-roomy"
	const classes = "/apis/storage.k8s.io/v1/storageclasses"
	admin.Must(t, http.MethodPost, classes, "metadata: {name: "+class+"}\nprovisioner: kubernetes.io/no-provisioner\nallowVolumeExpansion: true", nil)
	t.Cleanup(func() {
		if err := admin.Do(context.Background(), http.MethodDelete, classes+"/"+class, "", nil); err != nil {
			t.Error(err)
		}
	})
	claim := "/api/v1/namespaces/" + w.namespace + "/persistentvolumeclaims/" + claimName(name)
	admin.Must(t, http.MethodPatch, claim, "{spec: {storageClassName: "+class+"}}", nil)
	w.bind(t, name, class)
	admin.Must(t, http.MethodPatch, claim, "{spec: {resources: {requests: {storage: 20Gi}}}}", nil)
}
