package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
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

// hasKind tells whether the API server has the kind of an object of KEDA's. It says so also to those
// who have no rights on the kind, and only of KEDA's own group: servers of others may be away. The
// error is of a kind that is there only in a version which is not ours, or of what nobody can tell.
func (d *Driver) hasKind(ctx context.Context, u *unstructured.Unstructured) (bool, error) {
	const unsure = "nobody can tell whether it is there"
	var group metav1.APIGroup
	if err := d.get(ctx, "/apis/"+kedaGroup, &group); apierrors.IsNotFound(err) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("%s: %w", unsure, err)
	}
	ours, there := resources[u.GetKind()], false
	for _, version := range group.Versions {
		var list metav1.APIResourceList
		if err := d.get(ctx, versionPath(version.GroupVersion), &list); apierrors.IsNotFound(err) {
			return false, fmt.Errorf("%s: what %s has comes or goes just now: try again: %w", unsure, version.GroupVersion, navvy.ErrUnavailable)
		} else if err != nil {
			return false, fmt.Errorf("%s: %w", unsure, err)
		}
		if slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == ours.Resource }) {
			if there = true; version.Version == ours.Version {
				return true, nil
			}
		}
	}
	if there {
		return true, fmt.Errorf("KEDA is there, but not its version %s: kubectl --namespace %s delete %s %s, then try again: %w", ours.Version, u.GetNamespace(), ours.GroupResource(), u.GetName(), navvy.ErrUnsupported)
	}
	return false, nil
}

// mayHave tells whether a cluster may have an object of KEDA's that nobody lets us look at: it has the
// Secret for KEDA, which is made before and goes after, and there is such a kind.
func (d *Driver) mayHave(ctx context.Context, cluster string, u *unstructured.Unstructured) (bool, error) {
	secret := &unstructured.Unstructured{Object: map[string]any{"kind": "Secret"}}
	secret.SetNamespace(u.GetNamespace())
	live, err := d.of(secret).Get(ctx, viewerName(cluster), metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && live.GetLabels()[labelCluster] != cluster {
		return false, nil
	} else if err != nil {
		return false, d.explain(err)
	}
	return d.hasKind(ctx, u)
}

// removeUnseen removes an object of KEDA's that could not be listed. Where there is no such kind at all
// it went with that, but not the autoscalers that KEDA had made of it; and it is not looked for: who
// has no rights on a kind is refused also what does not exist.
func (d *Driver) removeUnseen(ctx context.Context, cluster string, u *unstructured.Unstructured) error {
	if there, err := d.hasKind(ctx, u); err != nil {
		return err
	} else if there {
		return d.delete(ctx, cluster, u)
	}
	d.o.Logger.Warn("KEDA is not installed, or not any more, and what it had went with it", "kind", resources[u.GetKind()].Resource, "name", u.GetName(), "namespace", u.GetNamespace())
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
