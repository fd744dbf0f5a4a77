package container

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

var _ driver.Explainer = (*Driver)(nil)

// tellTime bounds the one call that Why makes.
const tellTime = time.Second

// Why implements driver.Explainer. Of a pod whose container is being made the cluster is asked
// what it said last: that it pulls an image, or lacks a volume.
func (d *Driver) Why(ctx context.Context, token string) string {
	if why := d.room.why(token); why != "" {
		return navvy.Shorten(why)
	}
	s, job := d.spaces.holding(token)
	if s == nil || job == nil {
		return ""
	}
	_, pod := s.look(job.Name)
	why := whyWaiting(pod)
	if pod != nil && beingMade(pod) {
		ctx, cancel := context.WithTimeout(ctx, tellTime)
		defer cancel()
		if told, err := s.told(ctx, pod.UID); err == nil && told != "" {
			why = told
		}
	}
	return navvy.Shorten(why)
}

// beingMade tells whether a node makes a container of a pod, and does not say how that goes.
func beingMade(pod *corev1.Pod) bool {
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range list {
			if w := list[i].State.Waiting; w != nil && (w.Reason == "ContainerCreating" || w.Reason == "PodInitializing") && w.Message == "" {
				return true
			}
		}
	}
	return pod.Spec.NodeName != "" && pod.Status.Phase == corev1.PodPending && len(pod.Status.ContainerStatuses) == 0
}
