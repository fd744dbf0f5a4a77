package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/util/csaupgrade"

	"github.com/navvy-run/navvy"
)

// apply applies an object, unless something of its name is there that is somebody else's. What is
// not there is created: server-side apply would take for ours what has appeared meanwhile.
func (d *Driver) apply(ctx context.Context, cluster string, p *part) error {
	ctx, cancel := d.untilGone(ctx)
	defer cancel()
	for pauses := looks(); ; {
		live, err := d.of(p.object).Get(ctx, p.object.GetName(), metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			err = d.create(ctx, p)
		case err != nil:
			return d.explain(err)
		case live.GetLabels()[labelCluster] != cluster:
			return taken(live)
		case live.GetDeletionTimestamp() != nil: // somebody has removed it
			if err := pauses.Wait(ctx); err != nil {
				return d.stuck(cluster, live, err)
			}
			continue
		default:
			err = d.patch(ctx, cluster, p, live)
		}
		if noKind(err) && resources[p.object.GetKind()].Group == kedaGroup {
			return fmt.Errorf("the cluster has no KEDA, of which kubernetes.scaler: keda is: install it (keda.sh), or write kubernetes.scaler: hpa: %w", navvy.ErrUnsupported)
		}
		// It is not what it was when it was looked at: another one, another's, or changed.
		if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
			return d.explain(err)
		}
		if waited := pauses.Wait(ctx); waited != nil {
			if errors.Is(waited, errStuck) {
				return d.explain(err)
			}
			return waited
		}
	}
}

// taken is the error of a name that something has that bears no mark of the cluster.
func taken(live *unstructured.Unstructured) error {
	whose := "bears no mark of navvy's"
	if other := live.GetLabels()[labelCluster]; other != "" {
		whose = "is the cluster " + other + "'s"
	}
	return fmt.Errorf("%s %s is in the namespace %s, and %s: %w", kindOf(live), live.GetName(), live.GetNamespace(), whose, navvy.ErrExists)
}

// create makes an object that is not there; it fails if there is one by now.
func (d *Driver) create(ctx context.Context, p *part) error {
	u := p.object.DeepCopy()
	setAnnotations(u, map[string]string{annotationApplied: p.applied})
	made, err := d.of(u).Create(ctx, u, metav1.CreateOptions{FieldManager: manager})
	if err != nil {
		return err
	}
	_, err = d.asApplied(ctx, made)
	return err
}

// asApplied has the fields with which an object was created be as those that were applied, so that
// they go if a later apply leaves them out.
func (d *Driver) asApplied(ctx context.Context, live *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	body, err := csaupgrade.UpgradeManagedFieldsPatch(live, sets.New(manager), manager)
	if err != nil || body == nil {
		return live, err
	}
	return d.of(live).Patch(ctx, live.GetName(), types.JSONPatchType, body, metav1.PatchOptions{FieldManager: manager})
}

// patch is server-side apply of an object that bears the mark, if it is still as it was looked at.
// Where others have our fields they are ours again.
func (d *Driver) patch(ctx context.Context, cluster string, p *part, live *unstructured.Unstructured) error {
	live, err := d.asApplied(ctx, live)
	if err != nil {
		return err
	}
	if p.object.GetKind() == "Deployment" {
		if live, err = d.changeScaler(ctx, cluster, p.object, live); err != nil {
			return err
		}
	}
	u := p.object.DeepCopy()
	setAnnotations(u, map[string]string{annotationApplied: p.applied})
	if u.GetKind() == "PersistentVolumeClaim" {
		keepRoom(u.Object, live)
	}
	_, err = d.applyAs(ctx, manager, u, live)
	return err
}

// applyAs is server-side apply of an object that is as it was looked at.
func (d *Driver) applyAs(ctx context.Context, who string, u, live *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	u.SetUID(live.GetUID())
	u.SetResourceVersion(live.GetResourceVersion())
	body, err := json.Marshal(u)
	if err != nil {
		return nil, err
	}
	return d.of(u).Patch(ctx, u.GetName(), types.ApplyPatchType, body, metav1.PatchOptions{FieldManager: who, Force: new(true)})
}
