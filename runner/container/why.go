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

// Why implements driver.Explainer. Of a Job without a pod, and of a pod whose container is being
// made, the cluster is asked what it said last: that a quota is used up, that it pulls an image,
// or lacks a volume.
func (d *Driver) Why(ctx context.Context, token string) string {
	return navvy.Shorten(d.why(ctx, token))
}

func (d *Driver) why(ctx context.Context, token string) string {
	coming, maker, tried := d.delays.of(token)
	if why := d.room.why(maker); why != "" {
		return why
	}
	s, job := d.spaces.holding(token)
	if s == nil {
		s = coming
	}
	if s == nil {
		return ""
	}
	if why := s.watch.reach.words(); why != "" {
		return why // what is known of the Job is old
	}
	switch {
	case tried != "":
		return "its Job is not made yet, and that is tried again: " + tried
	case job == nil:
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, tellTime)
	defer cancel()
	_, pod := s.look(job.Name)
	if pod == nil {
		return s.whyUnmade(ctx, job)
	}
	if beingMade(pod) {
		if told, err := s.told(ctx, pod.UID); err == nil && told != "" {
			return told
		}
	}
	return whyWaiting(pod)
}

// beingMade tells whether a node makes a container of a pod, and does not say how that goes.
func beingMade(pod *corev1.Pod) bool {
	if reason, _ := stuck(pod); reason != "" || whyStaging(pod) != "" {
		return false
	}
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range list {
			if w := list[i].State.Waiting; w != nil && (w.Reason == "ContainerCreating" || w.Reason == "PodInitializing") && w.Message == "" {
				return true
			}
		}
	}
	return pod.Spec.NodeName != "" && pod.Status.Phase == corev1.PodPending && len(pod.Status.ContainerStatuses) == 0
}
