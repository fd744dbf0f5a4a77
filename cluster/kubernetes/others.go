package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/navvy-run/navvy"
)

// others is something in a namespace that is neither the cluster's nor made by Kubernetes for
// each namespace; empty for nothing. What may not be looked at may be something.
func (d *Driver) others(ctx context.Context, cluster, namespace string) (string, error) {
	kinds, unknown, err := d.namespaced(ctx)
	if err != nil || unknown != "" {
		return unknown, err
	}
	o := &owners{Driver: d, namespace: namespace, live: map[types.UID]bool{}}
	for _, gvr := range kinds {
		list, err := d.client.Resource(gvr).Namespace(namespace).List(ctx, metav1.ListOptions{})
		switch {
		case apierrors.IsNotFound(err), apierrors.IsMethodNotSupported(err):
			continue
		case apierrors.IsForbidden(err):
			return gvr.Resource + ", which you may not list", nil
		case apierrors.IsServiceUnavailable(err): // nobody is there who serves the kind
			return gvr.Resource + " of " + gvr.Group + ", which cannot be listed", nil
		case err != nil:
			return "", d.explain(err)
		}
		for i := range list.Items {
			u := &list.Items[i]
			if automatic(u, cluster) {
				continue
			}
			if goes, err := o.gone(ctx, u); err != nil {
				return "", err
			} else if !goes {
				return gvr.Resource + " " + u.GetName(), nil
			}
		}
	}
	return "", nil
}

// automatic tells what is in each namespace, is being removed, or is the lock.
func automatic(u *unstructured.Unstructured, cluster string) bool {
	name := u.GetKind() + " " + u.GetName()
	return u.GetLabels()[labelLock] == cluster || u.GetKind() == "Event" || u.GetDeletionTimestamp() != nil ||
		name == "ServiceAccount default" || name == "ConfigMap kube-root-ca.crt" || strings.HasSuffix(name, "Metrics "+u.GetName())
}

// owners are what things in a namespace belong to.
type owners struct {
	*Driver
	namespace string
	live      map[types.UID]bool // of those that were looked at
}

// gone tells whether all is gone that something belongs to, so that it goes as well; false for what
// belongs to nothing. Of a cluster there is nothing any more: whatever is left has something to do
// with somebody else.
func (o *owners) gone(ctx context.Context, u *unstructured.Unstructured) (bool, error) {
	list := u.GetOwnerReferences()
	for i := range list {
		live, known := o.live[list[i].UID]
		if !known {
			var err error
			if live, err = o.look(ctx, &list[i]); err != nil {
				return false, err
			}
			o.live[list[i].UID] = live
		}
		if live {
			return false, nil
		}
	}
	return len(list) > 0, nil
}

// look tells whether an owner is there and stays, as far as anybody can tell.
func (o *owners) look(ctx context.Context, of *metav1.OwnerReference) (bool, error) {
	gv, err := schema.ParseGroupVersion(of.APIVersion)
	if err != nil {
		return true, nil //nolint:nilerr // whatever that is
	}
	var kinds metav1.APIResourceList
	if err := o.get(ctx, versionPath(of.APIVersion), &kinds); err != nil {
		return true, nil //nolint:nilerr // nobody can tell
	}
	i := slices.IndexFunc(kinds.APIResources, func(r metav1.APIResource) bool {
		return r.Kind == of.Kind && !strings.Contains(r.Name, "/")
	})
	if i < 0 {
		return true, nil
	}
	client := o.client.Resource(gv.WithResource(kinds.APIResources[i].Name))
	var live *unstructured.Unstructured
	if kinds.APIResources[i].Namespaced {
		live, err = client.Namespace(o.namespace).Get(ctx, of.Name, metav1.GetOptions{})
	} else {
		live, err = client.Get(ctx, of.Name, metav1.GetOptions{})
	}
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case apierrors.IsForbidden(err):
		return true, nil
	case err != nil:
		return true, o.explain(err)
	}
	goes := live.GetDeletionTimestamp() != nil && !slices.Contains(live.GetFinalizers(), metav1.FinalizerOrphanDependents)
	return live.GetUID() == of.UID && !goes, nil
}

func versionPath(version string) string {
	if version == "v1" {
		return "/api/v1"
	}
	return "/apis/" + version
}

// namespaced are the kinds of objects that can be in a namespace, each in the version that the
// API server prefers; unknown is of what nobody can tell, as its server is away.
func (d *Driver) namespaced(ctx context.Context) (all []schema.GroupVersionResource, unknown string, err error) {
	var groups metav1.APIGroupList
	if err := d.get(ctx, "/apis", &groups); err != nil {
		return nil, "", err
	}
	versions := []string{"v1"}
	for _, g := range groups.Groups {
		versions = append(versions, g.PreferredVersion.GroupVersion)
	}
	for _, version := range versions {
		gv, err := schema.ParseGroupVersion(version)
		if err != nil {
			return nil, "", fmt.Errorf("the API server has the version %q: %w", version, navvy.ErrUnsupported)
		}
		var list metav1.APIResourceList
		if err := d.get(ctx, versionPath(version), &list); apierrors.IsServiceUnavailable(err) || apierrors.IsNotFound(err) {
			return nil, "what " + version + " has, which cannot be listed", nil
		} else if err != nil {
			return nil, "", err
		}
		for _, r := range list.APIResources {
			if r.Namespaced && slices.Contains(r.Verbs, "list") && !strings.Contains(r.Name, "/") {
				all = append(all, gv.WithResource(r.Name))
			}
		}
	}
	return all, "", nil
}

func (d *Driver) get(ctx context.Context, path string, v any) error {
	text, err := d.raw.Get().AbsPath(path).DoRaw(ctx)
	if err != nil {
		return d.explain(err)
	}
	return json.Unmarshal(text, v)
}
