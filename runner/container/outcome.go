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
	// alive says that its pod may go on, or yet begin.
	alive bool
}

// alive is a refusal of an attempt whose pod is there.
func alive(reason navvy.Reason, format string, args ...any) *verdict {
	v := refused(reason, format, args...)
	v.alive = true
	return v
}

func refused(reason navvy.Reason, format string, args ...any) *verdict {
	return &verdict{end: driver.End{Refusal: &driver.Refusal{Reason: reason, Message: navvy.Shorten(fmt.Sprintf(format, args...))}}}
}

// view is what is known of an attempt beside its Job and pod.
type view struct {
	image   time.Duration // how long it may wait for an image or a container that cannot be had
	pending time.Duration // how long it may wait for a node; 0: for ever
	stopped bool          // we have deleted it
	gone    bool          // its pod is not there any more; what is given is the last that was seen of it
	failing time.Time     // since when its container cannot be made; zero if it can
	now     time.Time
}

// lostAfter is how long after the end of its grace a pod that the cluster ends may take to
// say that it has. Then its node is lost.
const lostAfter = 30 * time.Second

// judge tells how an attempt ended from what the cluster says of its Job and pod, either of
// which may be nil; nil if it has not ended. again is how long that stays so if nothing
// changes; 0 if for ever.
func judge(job *batchv1.Job, pod *corev1.Pod, w *view) (v *verdict, again time.Duration) {
	if pod == nil {
		return without(job), 0
	}
	name, t := finished(pod)
	switch {
	case t != nil && w.stopped && t.Reason == reasonUnknown:
		return refused(navvy.ReasonStopped, "stopped"), 0 // before its container was there
	case t != nil && (w.stopped || byItself(pod, t)):
		return concluded(name, t, w.stopped), 0
	case w.stopped:
		return nil, 0 // its pod is on its way out, as we asked
	}
	if v := ended(job, pod); v != nil {
		return leaving(v, pod, t != nil || w.gone || over(pod), w.now)
	}
	switch {
	case t != nil:
		return concluded(name, t, false), 0
	case pod.Status.Phase == corev1.PodFailed:
		return refused(navvy.ReasonStart, "its pod failed: %s", whyFailed(pod)), 0
	case w.gone:
		return without(job), 0
	}
	return waiting(pod, w)
}

// leaving is what comes of a pod that somebody ends, once nothing of it runs; or once its node
// has been silent for so long that it is lost.
func leaving(v *verdict, pod *corev1.Pod, over bool, now time.Time) (*verdict, time.Duration) {
	if over {
		return v, 0
	}
	if v.away == "" {
		return nil, 0
	}
	if left := requested(pod).Add(grace(pod) + lostAfter).Sub(now); left > 0 {
		return nil, left
	}
	return v, 0
}

// over tells whether nothing of a pod runs any more.
func over(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded
}

// ended tells why the cluster, or somebody in it, ends a pod; nil if nobody does.
func ended(job *batchv1.Job, pod *corev1.Pod) *verdict {
	if job != nil && late(job, pod) {
		return refused(navvy.ReasonTimeout, "ran longer than %ds", *job.Spec.ActiveDeadlineSeconds)
	}
	if v := disrupted(pod); v != nil {
		return v
	}
	if pod.DeletionTimestamp != nil {
		return refused(navvy.ReasonDeleted, "somebody else deleted its Job or its pod %s", pod.Name)
	}
	return nil
}

// late tells whether the Job's deadline is what ends its pod. The Job says so, perhaps after
// the pod does: that one was deleted at the deadline or later.
func late(job *batchv1.Job, pod *corev1.Pod) bool {
	if job.Spec.ActiveDeadlineSeconds == nil {
		return false
	}
	for _, c := range job.Status.Conditions {
		if c.Status == corev1.ConditionTrue && (c.Type == batchv1.JobFailed || c.Type == batchv1.JobFailureTarget) {
			return c.Reason == batchv1.JobReasonDeadlineExceeded
		}
	}
	if pod.DeletionTimestamp == nil || job.Status.StartTime == nil {
		return false
	}
	deadline := job.Status.StartTime.Add(time.Duration(*job.Spec.ActiveDeadlineSeconds) * time.Second)
	return !requested(pod).Before(deadline)
}

// requested is when the cluster began to end a pod; zero if it does not.
func requested(pod *corev1.Pod) time.Time {
	var at time.Time
	if d := pod.DeletionTimestamp; d != nil {
		at = d.Add(-grace(pod))
	}
	if c := disruption(pod); c != nil && (at.IsZero() || c.LastTransitionTime.Time.Before(at)) {
		at = c.LastTransitionTime.Time
	}
	return at
}

// grace is how long a pod that is deleted has.
func grace(pod *corev1.Pod) time.Duration {
	if g := pod.DeletionGracePeriodSeconds; g != nil {
		return time.Duration(*g) * time.Second
	}
	return 0
}

// byItself tells whether a container ended before anybody ended it. What is asked to end may
// end with any code, 0 among them. The times are of several clocks, in seconds.
func byItself(pod *corev1.Pod, t *corev1.ContainerStateTerminated) bool {
	at := requested(pod)
	if at.IsZero() {
		return t.Reason != reasonUnknown
	}
	const killed, asked = codeStart + 9, codeStart + 15
	return t.ExitCode != killed && t.ExitCode != asked && t.FinishedAt.Time.Before(at)
}

// status is that of the main container; nil if there is none yet.
func status(pod *corev1.Pod) *corev1.ContainerStatus { return find(pod, mainContainer) }

// started tells whether the main container runs, or has run: it has a log.
func started(pod *corev1.Pod) bool {
	s := status(pod)
	return s != nil && (s.State.Running != nil || s.State.Terminated != nil && s.State.Terminated.ContainerID != "")
}

// terminated is how the main container has ended; nil if it has not.
func terminated(pod *corev1.Pod) *corev1.ContainerStateTerminated {
	if s := status(pod); s != nil {
		return s.State.Terminated
	}
	return nil
}

// reasonUnknown is what a node says of a container of which it knows nothing any more.
const reasonUnknown = "ContainerStatusUnknown"

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
	case reasonUnknown:
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

// disruption is the condition that says that the cluster ends a pod for reasons of its own.
func disruption(pod *corev1.Pod) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue {
			return c
		}
	}
	return nil
}

// disrupted tells whether the cluster ends a pod for reasons of its own.
func disrupted(pod *corev1.Pod) *verdict {
	if c := disruption(pod); c != nil {
		return &verdict{away: "the cluster ended its pod: " + words(c.Reason, c.Message)}
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

// without tells why a Job has ended whose pod is not there.
func without(job *batchv1.Job) *verdict {
	if job == nil {
		return nil
	}
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
func waiting(pod *corev1.Pod, w *view) (*verdict, time.Duration) {
	if reason, message := stuck(pod); reason != "" {
		since := w.failing
		if since.IsZero() {
			since = w.now
		}
		if left := since.Add(w.image).Sub(w.now); left > 0 && !hopeless(pod) {
			return nil, left
		}
		return alive(reason, "%s", message), 0
	}
	c := unscheduled(pod)
	if c == nil || w.pending == 0 {
		return nil, 0
	}
	if left := pod.CreationTimestamp.Add(w.pending).Sub(w.now); left > 0 {
		return nil, left
	}
	return alive(navvy.ReasonPending, "no node had room for it within %s: %s", w.pending, c.Message), 0
}

// unscheduled is the condition that says that no node has room for a pod.
func unscheduled(pod *corev1.Pod) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
			return c
		}
	}
	return nil
}

// stuck tells why a container of a pod cannot be made, as it seems; no reason if all can.
// Containers that come before the main one, or run beside it, may be stuck, too.
func stuck(pod *corev1.Pod) (navvy.Reason, string) {
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range list {
			if reason, message := stuckIn(&list[i]); reason != "" {
				return reason, message
			}
		}
	}
	return "", ""
}

// stuckIn tells why one container cannot be made. It names it unless it is the main one, of
// which the user knows.
func stuckIn(s *corev1.ContainerStatus) (navvy.Reason, string) {
	w := s.State.Waiting
	if w == nil {
		return "", ""
	}
	switch w.Reason {
	case "InvalidImageName", "ErrImageNeverPull", "ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError", "SignatureValidationFailed":
		of := ""
		if s.Name != mainContainer {
			of = " of container " + s.Name
		}
		return navvy.ReasonImage, fmt.Sprintf("image %s%s: %s", s.Image, of, words(w.Reason, w.Message))
	case "CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CrashLoopBackOff":
		which := "its container"
		if s.Name != mainContainer {
			which += " " + s.Name
		}
		return navvy.ReasonStart, which + " cannot be made: " + words(w.Reason, w.Message)
	}
	return "", ""
}

// hopeless tells whether waiting cannot mend what a pod is stuck in.
func hopeless(pod *corev1.Pod) bool {
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range list {
			if w := list[i].State.Waiting; w != nil && (w.Reason == "InvalidImageName" || w.Reason == "ErrImageNeverPull") {
				return true
			}
		}
	}
	return false
}

// whyWaiting says in words what a pod waits for; empty if for nothing.
func whyWaiting(pod *corev1.Pod) string {
	if _, why := stuck(pod); why != "" {
		return why
	}
	if why := whyStaging(pod); why != "" {
		return why
	}
	if s := status(pod); s != nil && s.State.Waiting != nil {
		return words(s.State.Waiting.Reason, s.State.Waiting.Message)
	}
	if c := unscheduled(pod); c != nil {
		return words(c.Reason, c.Message)
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

// whyFailed says in words why a pod failed whose main container did not end: one that comes
// before it may have.
func whyFailed(pod *corev1.Pod) string {
	for i := range pod.Status.InitContainerStatuses {
		s := &pod.Status.InitContainerStatuses[i]
		if t := s.State.Terminated; t != nil && t.ExitCode != 0 {
			return fmt.Sprintf("%s, before it began: %s", s.Name, words(t.Reason, strings.TrimSpace(t.Message)))
		}
	}
	return words(pod.Status.Reason, pod.Status.Message)
}
