package container

import (
	"fmt"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// verdict is how an attempt ended.
type verdict struct {
	end driver.End
	// away says that the attempt has come to nothing by the cluster's doing, and why.
	away string
}

func refused(reason navvy.Reason, format string, args ...any) *verdict {
	return &verdict{end: driver.End{Refusal: &driver.Refusal{Reason: reason, Message: navvy.Shorten(fmt.Sprintf(format, args...))}}}
}

// patience says how long an attempt may wait for what it needs.
type patience struct {
	image   time.Duration // for an image that cannot be pulled, or be made a container of
	pending time.Duration // for a node; 0: for ever
}

// judge tells how an attempt ended from what the cluster says of its Job and pod, either of
// which may be nil; nil if it has not ended. again is how long that stays so if nothing
// changes; 0 if for ever.
func judge(job *batchv1.Job, pod *corev1.Pod, p patience, now time.Time) (v *verdict, again time.Duration) {
	if pod != nil {
		if v := disrupted(pod); v != nil {
			return v, 0
		}
		if s := status(pod); s != nil && s.State.Terminated != nil {
			return exited(s.State.Terminated), 0
		}
		if pod.Status.Phase == corev1.PodFailed {
			return refused(navvy.ReasonStart, "its pod failed: %s", words(pod.Status.Reason, pod.Status.Message)), 0
		}
	}
	if job != nil {
		if v := failed(job); v != nil {
			return v, 0
		}
	}
	if pod == nil {
		return nil, 0
	}
	return waiting(pod, p, now)
}

// status is that of the main container; nil if there is none yet.
func status(pod *corev1.Pod) *corev1.ContainerStatus {
	for i := range pod.Status.ContainerStatuses {
		if s := &pod.Status.ContainerStatuses[i]; s.Name == mainContainer {
			return s
		}
	}
	return nil
}

// started tells whether the main container runs, or has run: it has a log.
func started(pod *corev1.Pod) bool {
	s := status(pod)
	return s != nil && (s.State.Running != nil || s.State.Terminated != nil && s.State.Terminated.ContainerID != "")
}

// terminated tells whether the main container has ended.
func terminated(pod *corev1.Pod) bool {
	s := status(pod)
	return s != nil && s.State.Terminated != nil
}

// The exit codes of container runtimes for a program that cannot be started.
const (
	codeNotExecutable = 126
	codeNotFound      = 127
	codeStart         = 128
	lastSignal        = 64
)

// exited tells what the end of a container means.
func exited(t *corev1.ContainerStateTerminated) *verdict {
	switch t.Reason {
	case "OOMKilled":
		v := &verdict{end: driver.End{Exit: exit(t)}}
		v.end.Usage.OOMKills = 1
		return v
	case "StartError", "ContainerCannotRun":
		reason := navvy.ReasonStart
		switch {
		case strings.Contains(t.Message, "no such file or directory"), strings.Contains(t.Message, "executable file not found"):
			reason = navvy.ReasonNotFound
		case strings.Contains(t.Message, "permission denied"):
			reason = navvy.ReasonPermission
		}
		return refused(reason, "its container cannot be started: %s", words(t.Reason, t.Message))
	case "ContainerStatusUnknown":
		return &verdict{away: "its node was lost: " + words(t.Reason, t.Message)}
	}
	return &verdict{end: driver.End{Exit: exit(t)}}
}

// exit is how the program ended. A runtime tells a signal by 128 and its number.
func exit(t *corev1.ContainerStateTerminated) navvy.Exit {
	switch code := int(t.ExitCode); {
	case t.Signal > 0:
		return navvy.Exit{Signal: int(t.Signal)}
	case code > codeStart && code <= codeStart+lastSignal:
		return navvy.Exit{Signal: code - codeStart}
	default:
		return navvy.Exit{Code: code & 0xff}
	}
}

// disrupted tells whether the cluster has ended a pod for reasons of its own.
func disrupted(pod *corev1.Pod) *verdict {
	if terminatedByItself(pod) {
		return nil
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue {
			return &verdict{away: "the cluster ended its pod: " + words(c.Reason, c.Message)}
		}
	}
	switch pod.Status.Reason {
	case "Evicted":
		// Of the evictions that no condition explains a limit of its own is the cause.
		return refused(navvy.ReasonStart, "its pod was evicted: %s", pod.Status.Message)
	case "NodeLost", "NodeShutdown", "Terminated", "Shutdown", "UnexpectedAdmissionError", "NodeAffinity", "Preempting":
		return &verdict{away: "the cluster ended its pod: " + words(pod.Status.Reason, pod.Status.Message)}
	}
	return nil
}

// terminatedByItself tells whether the main container had succeeded before anything else
// became of its pod.
func terminatedByItself(pod *corev1.Pod) bool {
	s := status(pod)
	return s != nil && s.State.Terminated != nil && s.State.Terminated.ExitCode == 0 && s.State.Terminated.Reason == "Completed"
}

// failed tells why a Job has failed whose pod says nothing.
func failed(job *batchv1.Job) *verdict {
	for _, c := range job.Status.Conditions {
		if c.Status != corev1.ConditionTrue {
			continue
		}
		switch {
		case c.Type == batchv1.JobFailed && c.Reason == batchv1.JobReasonDeadlineExceeded:
			return refused(navvy.ReasonTimeout, "ran longer than %ds", *job.Spec.ActiveDeadlineSeconds)
		case c.Type == batchv1.JobFailed:
			return &verdict{away: "its pod is gone: " + words(c.Reason, c.Message)}
		case c.Type == batchv1.JobComplete:
			return &verdict{away: "its pod is gone, and with it what it wrote"}
		}
	}
	return nil
}

// waiting tells how long a pod may go on to wait for what it waits for.
func waiting(pod *corev1.Pod, p patience, now time.Time) (*verdict, time.Duration) {
	if s := status(pod); s != nil && s.State.Waiting != nil {
		return stuck(s.State.Waiting, pod, p, now)
	}
	for _, c := range pod.Status.Conditions {
		if c.Type != corev1.PodScheduled || c.Status != corev1.ConditionFalse || c.Reason != corev1.PodReasonUnschedulable {
			continue
		}
		if p.pending == 0 {
			return nil, 0
		}
		left := pod.CreationTimestamp.Add(p.pending).Sub(now)
		if left > 0 {
			return nil, left
		}
		return refused(navvy.ReasonPending, "no node had room for it within %s: %s", p.pending, c.Message), 0
	}
	return nil, 0
}

// stuck tells whether a container that waits will ever run.
func stuck(w *corev1.ContainerStateWaiting, pod *corev1.Pod, p patience, now time.Time) (*verdict, time.Duration) {
	switch w.Reason {
	case "InvalidImageName", "ErrImageNeverPull":
		return refused(navvy.ReasonImage, "image %s: %s", status(pod).Image, words(w.Reason, w.Message)), 0
	case "ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError", "SignatureValidationFailed":
		left := scheduled(pod).Add(p.image).Sub(now)
		if left > 0 {
			return nil, left
		}
		return refused(navvy.ReasonImage, "image %s: %s", status(pod).Image, words(w.Reason, w.Message)), 0
	case "CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CrashLoopBackOff":
		left := scheduled(pod).Add(p.image).Sub(now)
		if left > 0 {
			return nil, left
		}
		return refused(navvy.ReasonStart, "its container cannot be made: %s", words(w.Reason, w.Message)), 0
	}
	return nil, 0
}

// scheduled is when a pod was given to a node.
func scheduled(pod *corev1.Pod) time.Time {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionTrue {
			return c.LastTransitionTime.Time
		}
	}
	return pod.CreationTimestamp.Time
}

// whyWaiting says in words what a pod waits for; empty if for nothing.
func whyWaiting(pod *corev1.Pod) string {
	if pod == nil {
		return "its pod is being made"
	}
	if s := status(pod); s != nil && s.State.Waiting != nil {
		return words(s.State.Waiting.Reason, s.State.Waiting.Message)
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return words(c.Reason, c.Message)
		}
	}
	return ""
}

// words are a reason and what is said about it.
func words(reason, message string) string {
	switch {
	case message == "":
		return reason
	case reason == "" || strings.HasPrefix(message, reason):
		return message
	}
	return reason + ": " + message
}
