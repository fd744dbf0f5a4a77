package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
)

// unseen are the objects of KEDA's that a cluster may have, where these kinds cannot be listed: it
// was made with KEDA, or the Secret is there that KEDA has for it, which goes after them.
func (v *view) unseen(file []byte) []driver.Observed {
	if len(v.hidden) == 0 || v.find("Secret", viewerName(v.cluster)) == nil && !byKEDA(file) {
		return nil
	}
	var list []driver.Observed
	for _, kind := range slices.Sorted(maps.Keys(v.hidden)) {
		name := workersName(v.cluster)
		if kind == "TriggerAuthentication" {
			name = viewerName(v.cluster)
		}
		u := &unstructured.Unstructured{Object: map[string]any{"kind": kind}}
		u.SetName(name)
		u.SetNamespace(v.namespace)
		why := "nobody can tell whether it is there: "
		if errors.Is(v.hidden[kind], navvy.ErrUnsupported) {
			why = "KEDA is not installed, or not any more: "
		}
		list = append(list, driver.Observed{
			ID:     driver.ID{Kind: kindOf(u), Name: name},
			Needs:  []driver.ID{{Kind: driver.KindCluster, Name: v.cluster}, {Kind: "secret", Name: viewerName(v.cluster)}},
			Health: driver.HealthUnknown, Detail: why + v.hidden[kind].Error(), Handle: u,
		})
	}
	return list
}

// byKEDA tells whether a file that was applied has workers that KEDA scales.
func byKEDA(file []byte) bool {
	c, err := config.Parse("the file that was applied", file)
	return err == nil && c.Workers.Autoscale != nil && config.Defaults(c).Kubernetes.Scaler == config.ScalerKEDA
}

// removeUnseen is before an object of KEDA's is removed that could not be listed. The error is of a
// kind that is there only in a version which is not ours. Where there is no such kind at all its
// objects went with it, but not the autoscalers that KEDA had made of them.
func (d *Driver) removeUnseen(ctx context.Context, cluster string, u *unstructured.Unstructured) error {
	kinds, unknown, err := d.namespaced(ctx)
	if err != nil {
		return err
	}
	ours, there := resources[u.GetKind()], false
	for _, gvr := range kinds {
		if gvr.Group == ours.Group && gvr.Resource == ours.Resource {
			if there = true; gvr.Version == ours.Version {
				return nil
			}
		}
	}
	switch {
	case there:
		return fmt.Errorf("KEDA is there, but not its version %s: kubectl --namespace %s delete %s %s, then try again: %w", ours.Version, u.GetNamespace(), ours.GroupResource(), u.GetName(), navvy.ErrUnsupported)
	case unknown != "":
		return fmt.Errorf("nobody can tell whether it is there: %s: %w", unknown, navvy.ErrUnavailable)
	}
	d.o.Logger.Warn("KEDA is not installed any more, and what it had went with it", "kind", ours.Resource, "name", u.GetName(), "namespace", u.GetNamespace())
	made, err := d.client.Resource(resources["HorizontalPodAutoscaler"]).Namespace(u.GetNamespace()).List(ctx, metav1.ListOptions{LabelSelector: selector(cluster)})
	if err != nil {
		return d.explain(err)
	}
	for i := range made.Items {
		one := &made.Items[i]
		if of := metav1.GetControllerOf(one); of == nil || of.Kind != u.GetKind() {
			continue
		}
		one.SetKind("HorizontalPodAutoscaler")
		if err := d.delete(ctx, cluster, one); err != nil {
			return err
		}
	}
	return nil
}
