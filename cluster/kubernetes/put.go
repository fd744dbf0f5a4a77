package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/dynamic"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/work"
	"github.com/navvy-run/navvy/internal/pause"
)

// of are the objects of a kind in a namespace.
func (d *Driver) of(u *unstructured.Unstructured) dynamic.ResourceInterface {
	return d.client.Resource(resources[u.GetKind()]).Namespace(u.GetNamespace())
}

// looks are the pauses between two looks at what somebody else does.
func looks() *pause.Series {
	return &pause.Series{First: 50 * time.Millisecond, Longest: time.Second}
}

// Put implements driver.Driver.
func (d *Driver) Put(ctx context.Context, cluster string, r *driver.Resource) error {
	p, ok := r.Spec.(*part)
	if !ok {
		return fmt.Errorf("%s: it was not compiled by this provider: %w", r.ID, navvy.ErrInvalid)
	}
	return named(r.ID, d.put(ctx, cluster, p, r.ID))
}

func (d *Driver) put(ctx context.Context, cluster string, p *part, id driver.ID) error {
	if id.Kind == driver.KindCluster { // it may be lost since the lock was taken
		if err := d.makeNamespace(ctx, cluster, p.object.GetNamespace()); err != nil {
			return err
		}
	}
	if slices.Contains(scalers, p.object.GetKind()) {
		if err := d.beforeScaler(ctx, cluster, p.object); err != nil {
			return err
		}
	}
	if err := d.apply(ctx, cluster, p); err != nil {
		return err
	}
	switch {
	case id.Kind == kindQueue:
		return d.changeServer(ctx, p.object.GetNamespace(), cluster, func(ctx context.Context, c *client.Client) error {
			return work.PutQueue(ctx, c, id.Name, p.queue)
		})
	case p.object.GetKind() == "PersistentVolumeClaim":
		return d.checkClaim(ctx, cluster, p.object)
	case p.object.GetKind() == "StatefulSet":
		return d.awaitServer(ctx, p.object)
	case p.object.GetKind() == "Deployment":
		return d.awaitBegun(ctx, p.object)
	}
	return nil
}

// checkClaim is the error of a claim whose volume was removed: only who knows of that volume can
// tell whether it comes back, and what there is in its place has nothing in it.
func (d *Driver) checkClaim(ctx context.Context, cluster string, u *unstructured.Unstructured) error {
	live, err := d.of(u).Get(ctx, u.GetName(), metav1.GetOptions{})
	if err != nil {
		return d.explain(err)
	}
	if phase, _, _ := unstructured.NestedString(live.Object, "status", "phase"); phase == phaseLost {
		return fmt.Errorf("%s: bring that back; or, if what is in the server's queues is not to be had again, kubectl --namespace %s delete --wait=false pvc/%s pod/%s, then apply again: %w",
			lostVolume(live), u.GetNamespace(), u.GetName(), podName(cluster), navvy.ErrUnavailable)
	}
	return nil
}

// Patience with pods.
const (
	goneTime   = 3 * time.Minute  // of what is being removed: pods may have 30 s, and volumes take time
	changeTime = 2 * time.Minute  // of a change at the server
	readyTime  = 10 * time.Minute // of a server that is not ready, and not failing
	failTime   = 10 * time.Second // of what fails, and may get over it
	beginTime  = 30 * time.Second // of workers: then they are about to begin
	roomTime   = 2 * time.Minute  // of pods without a node: a cluster may have to make one
	lookLength = 10 * time.Second // of asking the server for all that it has
)

// awaitServer waits until the server is ready; the error has the reason of one that fails.
func (d *Driver) awaitServer(ctx context.Context, u *unstructured.Unstructured) error {
	ctx, cancel := context.WithTimeoutCause(ctx, d.ready, fmt.Errorf("it is not ready after %s: %w", d.ready, navvy.ErrUnavailable))
	defer cancel()
	return d.await(ctx, u, func(h workload) bool { return h.ready >= h.wanted })
}

// awaitBegun waits a while for the first worker, so that it is told why there will be none.
func (d *Driver) awaitBegun(ctx context.Context, u *unstructured.Unstructured) error {
	begun := errors.New("they are about to begin")
	bounded, cancel := context.WithTimeoutCause(ctx, beginTime, begun)
	defer cancel()
	err := d.await(bounded, u, func(h workload) bool { return h.ready > 0 || h.wanted == 0 })
	if errors.Is(err, begun) || errors.Is(context.Cause(bounded), begun) {
		return nil
	}
	return err
}

// await waits until a workload is as it should be; the error is why it will not be.
func (d *Driver) await(ctx context.Context, u *unstructured.Unstructured, is func(workload) bool) error {
	var failed time.Time
	last := "nobody has told how it is"
	for pauses := looks(); ; {
		h, err := d.lookAt(ctx, u)
		if err != nil {
			return waited(ctx, d.explain(err), last)
		}
		last = h.words()
		switch {
		case h.current && is(h):
			return nil
		case !h.current || h.why == "":
			failed = time.Time{}
		case failed.IsZero():
			failed = time.Now()
		case time.Since(failed) > min(h.patience, d.patience):
			return fmt.Errorf("%s: %w", h.why, h.kind)
		}
		if err := pauses.Wait(ctx); err != nil {
			return waited(ctx, err, last)
		}
	}
}

// lookAt looks at a workload as it is now.
func (d *Driver) lookAt(ctx context.Context, u *unstructured.Unstructured) (workload, error) {
	live, err := d.of(u).Get(ctx, u.GetName(), metav1.GetOptions{})
	if err != nil {
		return workload{}, err
	}
	return d.look(ctx, live)
}

// waited is the error of a wait: if its time is over, that and what was seen last, for the error of
// a call that was cut short by it says neither.
func waited(ctx context.Context, err error, last string) error {
	cause := context.Cause(ctx)
	switch {
	case cause == nil:
		return err
	case errors.Is(err, cause) || errors.Is(err, ctx.Err()):
		return fmt.Errorf("%w; seen last: %s", cause, last)
	}
	return fmt.Errorf("%w; seen last: %s: %w", cause, last, err)
}

// Remove implements driver.Driver.
func (d *Driver) Remove(ctx context.Context, cluster string, o *driver.Observed) error {
	u, ok := o.Handle.(*unstructured.Unstructured)
	if !ok {
		return fmt.Errorf("%s: it was not observed by this provider: %w", o.ID, navvy.ErrInvalid)
	}
	return named(o.ID, d.remove(ctx, cluster, u, o.ID))
}

func (d *Driver) remove(ctx context.Context, cluster string, u *unstructured.Unstructured, id driver.ID) error {
	switch {
	case id.Kind == kindQueue:
		there, err := d.removeQueue(ctx, cluster, u, id.Name)
		if err != nil || there {
			return err
		}
	case id.Kind == kindFiles:
		if err := d.awaitUnused(ctx, cluster, u); err != nil {
			return fmt.Errorf("workers of before may use it still, so it stays until an apply that finds them replaced: %w", err)
		}
	case id.Kind == driver.KindCluster, u.GetKind() == "PersistentVolumeClaim":
		if err := d.removeRecords(ctx, cluster, u.GetNamespace()); err != nil {
			return err
		}
	case resources[u.GetKind()].Group == kedaGroup && u.GetUID() == "":
		return d.removeUnseen(ctx, cluster, u)
	}
	if id.Kind == driver.KindCluster { // the workers may have been removed by hand
		if err := d.removeTasks(ctx, cluster, u.GetNamespace()); err != nil {
			return err
		}
	}
	if err := d.delete(ctx, cluster, u); err != nil || u.GetKind() != "Deployment" {
		return err
	}
	return d.removeTasks(ctx, cluster, u.GetNamespace())
}

// removeTasks removes the Jobs of tasks, which outlive their workers, so that other workers could go on
// with them: there are none any more. Who may not look at Jobs has not given workers the right to
// make some.
func (d *Driver) removeTasks(ctx context.Context, cluster, namespace string) error {
	all := labels.Set{labelManaged: managed, labelInstance: cluster}.String()
	list, err := d.client.Resource(jobs).Namespace(namespace).List(ctx, metav1.ListOptions{LabelSelector: all})
	if apierrors.IsForbidden(err) {
		return nil
	} else if err != nil {
		return d.explain(err)
	}
	policy := metav1.DeletePropagationBackground
	for i := range list.Items {
		u := &list.Items[i]
		if u.GetLabels()[labelJob] == "" {
			continue
		}
		uid := u.GetUID()
		err := d.client.Resource(jobs).Namespace(namespace).Delete(ctx, u.GetName(), metav1.DeleteOptions{PropagationPolicy: &policy, Preconditions: &metav1.Preconditions{UID: &uid}})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return fmt.Errorf("job %s of a task: %w", u.GetName(), d.explain(err))
		}
	}
	return nil
}

// errUsed says why files stay.
var errUsed = errors.New("the deployment has them mounted")

// awaitUnused waits until the workers that may use files are replaced; the error is why they
// will not be.
func (d *Driver) awaitUnused(ctx context.Context, cluster string, files *unstructured.Unstructured) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTime, fmt.Errorf("they are not replaced after %s: %w", readyTime, navvy.ErrUnavailable))
	defer cancel()
	workers := &unstructured.Unstructured{Object: map[string]any{"kind": "Deployment"}}
	workers.SetName(workersName(cluster))
	workers.SetNamespace(files.GetNamespace())
	live, err := d.of(workers).Get(ctx, workers.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && live.GetLabels()[labelCluster] != cluster {
		return nil
	} else if err != nil {
		return d.explain(err)
	}
	if mounts(live, files.GetName()) { // it could not be changed
		return errUsed
	}
	return d.await(ctx, live, func(h workload) bool { return h.before == 0 })
}

// mounts tells whether pods of a workload have a ConfigMap of a share.
func mounts(u *unstructured.Unstructured, name string) bool {
	volumes, _, _ := unstructured.NestedSlice(u.Object, "spec", "template", "spec", "volumes")
	for _, v := range volumes {
		volume, _ := v.(map[string]any)
		sources, _, _ := unstructured.NestedSlice(volume, "projected", "sources")
		for _, s := range sources {
			source, _ := s.(map[string]any)
			if is, _, _ := unstructured.NestedString(source, "configMap", "name"); is == name {
				return true
			}
		}
	}
	return false
}

// removeRecords removes what says what the server had, once it has nothing any more.
func (d *Driver) removeRecords(ctx context.Context, cluster, namespace string) error {
	list, err := d.client.Resource(configMaps).Namespace(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector(cluster) + "," + labelKind + "=" + kindQueue})
	if err != nil {
		return d.explain(err)
	}
	for i := range list.Items {
		if err := d.delete(ctx, cluster, &list.Items[i]); err != nil {
			return err
		}
	}
	return nil
}

// delete removes an object that bears the mark still, with its pods, and returns when it is gone.
func (d *Driver) delete(ctx context.Context, cluster string, u *unstructured.Unstructured) error {
	policy := metav1.DeletePropagationForeground
	uid := u.GetUID() // none of one that could not be looked at
	ctx, cancel := d.untilGone(ctx)
	defer cancel()
	for pauses := looks(); ; {
		live, err := d.of(u).Get(ctx, u.GetName(), metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err), err == nil && uid != "" && live.GetUID() != uid, err == nil && live.GetLabels()[labelCluster] != cluster:
			return nil
		case err != nil:
			return d.explain(err)
		case live.GetDeletionTimestamp() == nil:
			uid = live.GetUID()
			err := d.of(u).Delete(ctx, u.GetName(), metav1.DeleteOptions{PropagationPolicy: &policy, Preconditions: &metav1.Preconditions{UID: &uid}})
			if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
				return d.explain(err)
			}
			continue
		}
		if err := pauses.Wait(ctx); err != nil {
			return d.stuck(cluster, live, err)
		}
	}
}
