package kubernetes

import (
	"context"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/driver"
)

// workload is how a Deployment or a StatefulSet is.
type workload struct {
	wanted, ready int64  // ready are at least so many of what it is to be
	before        int64  // pods of what it was before
	current       bool   // whether the controller has seen what it is to be
	why           string // it is not as it should be, in the cluster's words
	kind          error
	patience      time.Duration // what may get over it by itself has more
}

// look looks at a workload and its pods.
func (d *Driver) look(ctx context.Context, u *unstructured.Unstructured) (workload, error) {
	number := func(fields ...string) int64 {
		n, _, _ := unstructured.NestedInt64(u.Object, fields...)
		return n
	}
	h := workload{wanted: number("spec", "replicas"), ready: number("status", "readyReplicas"), current: number("status", "observedGeneration") >= u.GetGeneration()}
	h.before = max(0, number("status", "replicas")-number("status", "updatedReplicas"))
	h.ready = max(0, h.ready-h.before) // which are ready nobody tells: those of before, first
	if h.ready >= h.wanted {
		return h, nil
	}
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	if c := condition(conditions, "ReplicaFailure", "True"); c != nil {
		h.because(navvy.ErrExhausted, failTime, "%s: %s", c["reason"], c["message"])
		return h, nil
	}
	component := strings.TrimPrefix(u.GetName(), u.GetLabels()[labelInstance]+"-")
	list, err := d.client.Resource(podsOf).Namespace(u.GetNamespace()).List(ctx, metav1.ListOptions{
		LabelSelector: labelInstance + "=" + u.GetLabels()[labelInstance] + "," + labelComponent + "=" + component, Limit: mostPods,
	})
	if err != nil {
		return h, err
	}
	for i := range list.Items {
		h.pod(&list.Items[i])
	}
	if len(list.Items) == 0 && u.GetKind() == "StatefulSet" { // it has no condition for that
		h.why, err = d.events(ctx, u)
		h.kind, h.patience = navvy.ErrExhausted, failTime
	}
	return h, err
}

// mostPods are how many are looked at to find out what is wrong.
const mostPods = 100

func (h *workload) because(kind error, patience time.Duration, format string, args ...any) {
	if h.why == "" || patience < h.patience {
		h.why, h.kind, h.patience = fmt.Sprintf(format, args...), kind, patience
	}
}

// condition is one of a status, if it is so.
func condition(list []any, name, status string) map[string]any {
	for _, v := range list {
		if c, _ := v.(map[string]any); c["type"] == name && c["status"] == status {
			return c
		}
	}
	return nil
}

// pod finds out why a pod is not ready.
func (h *workload) pod(u *unstructured.Unstructured) {
	if u.GetDeletionTimestamp() != nil {
		return
	}
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	if c := condition(conditions, "PodScheduled", "False"); c != nil {
		h.because(navvy.ErrExhausted, roomTime, "pod %s: %s: %s", u.GetName(), c["reason"], c["message"])
	}
	for _, field := range []string{"initContainerStatuses", "containerStatuses"} {
		statuses, _, _ := unstructured.NestedSlice(u.Object, "status", field)
		for _, v := range statuses {
			if c, _ := v.(map[string]any); c != nil {
				h.container(u.GetName(), c)
			}
		}
	}
}

// container finds out why a container waits.
func (h *workload) container(pod string, c map[string]any) {
	waiting, _, _ := unstructured.NestedMap(c, "state", "waiting")
	reason, _ := waiting["reason"].(string)
	message, _ := waiting["message"].(string)
	switch reason {
	case "", "ContainerCreating", "PodInitializing":
		return
	case "CrashLoopBackOff":
		code, _, _ := unstructured.NestedInt64(c, "lastState", "terminated", "exitCode")
		why, _, _ := unstructured.NestedString(c, "lastState", "terminated", "reason")
		h.because(navvy.ErrUnavailable, failTime, "pod %s: %s ends again and again, the last time with %s, exit code %d; kubectl logs --previous %s has its words", pod, c["name"], why, code, pod)
		return
	}
	// A pull is tried again after longer and longer: ImagePullBackOff says that it was tried,
	// and what the registry says is told between.
	h.because(navvy.ErrUnavailable, failTime, "pod %s: %s: %s", pod, reason, message)
}

// events is the last thing that the cluster has complained of about an object.
func (d *Driver) events(ctx context.Context, u *unstructured.Unstructured) (string, error) {
	list, err := d.client.Resource(core("events")).Namespace(u.GetNamespace()).List(ctx, metav1.ListOptions{
		FieldSelector: "involvedObject.uid=" + string(u.GetUID()) + ",type=Warning", Limit: mostPods,
	})
	if err != nil || len(list.Items) == 0 {
		return "", err
	}
	last := list.Items[len(list.Items)-1].Object
	return fmt.Sprintf("%v: %v", last["reason"], last["message"]), nil
}

// words are how a workload is, for people.
func (h *workload) words() string {
	switch {
	case h.why != "":
		return h.why
	case !h.current || h.ready < h.wanted:
		return fmt.Sprintf("%d of %d are ready", h.ready, h.wanted)
	}
	return fmt.Sprintf("%d ready", h.ready)
}

// observe tells how a workload is.
func (h *workload) observe(o *driver.Observed) {
	o.Detail = h.words()
	switch {
	case h.why != "" && h.patience < roomTime:
		o.Health = driver.HealthFailed
	case h.why != "", !h.current, h.ready < h.wanted:
		o.Health = driver.HealthStarting
	}
}
