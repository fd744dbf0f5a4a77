package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// changeScaler is what has to be done before workers that had a fixed number have a scaler, or the
// other way round.
func (d *Driver) changeScaler(ctx context.Context, cluster string, u, live *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	is, there, _ := unstructured.NestedInt64(live.Object, "spec", "replicas")
	_, fixed, _ := unstructured.NestedInt64(u.Object, "spec", "replicas")
	switch {
	case fixed && !setsReplicas(live.GetAnnotations()[annotationApplied]):
		return live, d.removeScaler(ctx, cluster, u.GetNamespace())
	case fixed || !there || !owns(live, "spec", "replicas"):
		return live, nil
	}
	// A field of which nobody is the owner any more has its default again, which is one worker.
	// So another one owns it too, until the scaler changes it.
	return d.keep(ctx, live, is)
}

// keep has workers be so many until a scaler changes that.
func (d *Driver) keep(ctx context.Context, live *unstructured.Unstructured, n int64) (*unstructured.Unstructured, error) {
	keeps := &unstructured.Unstructured{Object: map[string]any{"apiVersion": live.GetAPIVersion(), "kind": live.GetKind(), "spec": map[string]any{"replicas": n}}}
	keeps.SetName(live.GetName())
	keeps.SetNamespace(live.GetNamespace())
	return d.applyAs(ctx, managerKeeps, keeps, live)
}

// owns tells whether a field of an object was applied by us.
func owns(u *unstructured.Unstructured, path ...string) bool {
	for _, entry := range u.GetManagedFields() {
		if entry.Manager != manager || entry.Subresource != "" || entry.FieldsV1 == nil {
			continue
		}
		text, err := json.Marshal(entry.FieldsV1)
		var fields map[string]any
		if err != nil || json.Unmarshal(text, &fields) != nil {
			continue
		}
		names := make([]string, len(path))
		for i := range path {
			names[i] = "f:" + path[i]
		}
		if _, is, _ := unstructured.NestedFieldNoCopy(fields, names...); is {
			return true
		}
	}
	return false
}

// scalers are the kinds of what scales workers.
var scalers = []string{"HorizontalPodAutoscaler", "ScaledObject"}

// removeScaler removes what scales the workers, before they get a fixed number: it would change
// that at once, and goes only when all is made.
func (d *Driver) removeScaler(ctx context.Context, cluster, namespace string) error {
	for _, kind := range scalers {
		if err := d.removeFirst(ctx, cluster, scaler(kind, cluster, namespace)); err != nil {
			return fmt.Errorf("%s %s, which goes before the workers have a fixed number: %w", strings.ToLower(kind), workersName(cluster), err)
		}
	}
	return nil
}

func scaler(kind, cluster, namespace string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"kind": kind}}
	u.SetName(workersName(cluster))
	u.SetNamespace(namespace)
	return u
}

// beforeScaler is what has to be done before something is put that scales the workers. What scales them
// otherwise goes first: KEDA refuses workers that an autoscaler has, and of two autoscalers none
// scales. If there are no workers, as KEDA may leave them, a HorizontalPodAutoscaler that is new would
// never change that.
func (d *Driver) beforeScaler(ctx context.Context, cluster string, u *unstructured.Unstructured) error {
	for _, kind := range scalers {
		if kind == u.GetKind() {
			continue
		}
		if err := d.removeFirst(ctx, cluster, scaler(kind, cluster, u.GetNamespace())); err != nil {
			return fmt.Errorf("%s %s, which goes first: %w", strings.ToLower(kind), workersName(cluster), err)
		}
	}
	least, there, _ := unstructured.NestedInt64(u.Object, "spec", "minReplicas")
	if !there { // it begins by itself
		return nil
	}
	if _, err := d.of(u).Get(ctx, u.GetName(), metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		return d.explain(err)
	}
	return d.begin(ctx, cluster, u.GetNamespace(), least)
}

// begin has workers of which there are none be so many.
func (d *Driver) begin(ctx context.Context, cluster, namespace string, n int64) error {
	ctx, cancel := d.untilGone(ctx)
	defer cancel()
	for pauses := looks(); ; {
		live, err := d.of(scaler("Deployment", cluster, namespace)).Get(ctx, workersName(cluster), metav1.GetOptions{})
		if err != nil {
			return d.explain(err)
		}
		if is, there, _ := unstructured.NestedInt64(live.Object, "spec", "replicas"); !there || is > 0 || live.GetLabels()[labelCluster] != cluster {
			return nil
		}
		if _, err = d.keep(ctx, live, n); !apierrors.IsConflict(err) {
			return d.explain(err)
		}
		if waited := pauses.Wait(ctx); waited != nil {
			return errors.Join(d.explain(err), waited)
		}
	}
}

// removeFirst removes what scales the workers, if it is there. One of KEDA's that nobody lets us look
// at is not, unless the cluster has something for KEDA: who has no rights on a kind is refused also
// where there is no KEDA.
func (d *Driver) removeFirst(ctx context.Context, cluster string, u *unstructured.Unstructured) error {
	live, err := d.of(u).Get(ctx, u.GetName(), metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case apierrors.IsForbidden(err) && resources[u.GetKind()].Group == kedaGroup:
		if may, e := d.mayHave(ctx, cluster, u); e != nil || !may {
			return e
		}
	}
	if err != nil {
		return d.explain(err)
	}
	return d.delete(ctx, cluster, live)
}
