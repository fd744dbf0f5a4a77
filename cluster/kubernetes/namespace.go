package kubernetes

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// namespaceThere tells whether there is a namespace, as far as we may know.
func (d *Driver) namespaceThere(ctx context.Context, name string) (bool, error) {
	_, err := d.client.Resource(namespaces).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case apierrors.IsForbidden(err): // who has rights in it alone
		return true, nil
	}
	return true, d.explain(err)
}

// makeNamespace makes a namespace that is missing, with the mark of the cluster that it is for.
// One that is being removed is waited for.
func (d *Driver) makeNamespace(ctx context.Context, cluster, name string) error {
	ctx, cancel := d.untilGone(ctx)
	defer cancel()
	for pauses := looks(); ; {
		u, err := d.client.Resource(namespaces).Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsForbidden(err):
			return nil // it is there, or the next call says so
		case apierrors.IsNotFound(err):
			u = &unstructured.Unstructured{Object: map[string]any{"kind": "Namespace"}}
			u.SetName(name)
			err = d.createNamespace(ctx, cluster, name)
			if !apierrors.IsAlreadyExists(err) {
				return d.explain(err)
			}
		case err != nil:
			return d.explain(err)
		case u.GetDeletionTimestamp() == nil:
			return nil
		}
		if err := pauses.Wait(ctx); err != nil {
			return d.stuckNamespace(u, err)
		}
	}
}

func (d *Driver) createNamespace(ctx context.Context, cluster, name string) error {
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace"}}
	u.SetName(name)
	u.SetLabels(map[string]string{labelManaged: managed, labelCluster: cluster})
	_, err := d.client.Resource(namespaces).Create(ctx, u, metav1.CreateOptions{FieldManager: manager})
	return err
}

// removeNamespace removes a namespace that was made for a cluster of which there is nothing any
// more. If there is anything of somebody else's in it, it stays, without the mark.
func (d *Driver) removeNamespace(ctx context.Context, cluster, name string) error {
	u, err := d.client.Resource(namespaces).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
		return nil
	} else if err != nil {
		return d.explain(err)
	}
	if u.GetLabels()[labelCluster] != cluster || u.GetDeletionTimestamp() != nil {
		return nil
	}
	v := &view{Driver: d, cluster: cluster, namespace: name}
	if err := v.list(ctx); err != nil || len(v.objects) > 0 {
		return err
	}
	other, err := d.others(ctx, cluster, name)
	if err != nil {
		return err
	}
	if other != "" {
		d.o.Logger.Warn("the namespace stays, since there is something of somebody else's in it", "namespace", name, "it", other)
		body := []byte(`{"metadata":{"labels":{"` + labelCluster + `":null,"` + labelManaged + `":null}}}`)
		_, err := d.client.Resource(namespaces).Patch(ctx, name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: manager})
		return d.explain(err)
	}
	return d.deleteNamespace(ctx, name, u.GetUID())
}

// deleteNamespace deletes a namespace and returns when it is gone.
func (d *Driver) deleteNamespace(ctx context.Context, name string, uid types.UID) error {
	ctx, cancel := d.untilGone(ctx)
	defer cancel()
	err := d.client.Resource(namespaces).Delete(ctx, name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return d.explain(err)
	}
	for pauses := looks(); ; {
		now, err := d.client.Resource(namespaces).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && now.GetUID() != uid {
			return nil
		} else if err != nil {
			return d.explain(err)
		}
		if err := pauses.Wait(ctx); err != nil {
			return d.stuckNamespace(now, err)
		}
	}
}

// stuckNamespace is stuck of a namespace, whose status tells what is left in it.
func (d *Driver) stuckNamespace(u *unstructured.Unstructured, err error) error {
	err = d.stuck("", u, err)
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, v := range conditions {
		if c, _ := v.(map[string]any); c["status"] == "True" {
			err = fmt.Errorf("%v: %w", c["message"], err)
		}
	}
	return err
}
