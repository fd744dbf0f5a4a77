package container

import (
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/share/staging"
)

// The containers beside the main one that copy objects for it.
const (
	stageIn  = "stage-in"
	stageOut = "stage-out"
)

// stageDir is where these have the directory of the main one.
const stageDir = "/stage"

// errBeside says what cannot be: containers that are to run beside the main one would run
// beside the uploading instead.
var errBeside = errors.New("the pod template has containers beside main, which do not go with a directory of outputs: " +
	"make them init containers that are always restarted")

// stage adds what copies the objects of a container that knows nothing of buckets. With
// outputs the main container is the last of those that come first, so that they are put into
// their bucket when it has succeeded, and however long that takes.
func (p *plan) stage(pod *corev1.PodSpec) error {
	at := slices.IndexFunc(pod.Containers, func(c corev1.Container) bool { return c.Name == mainContainer })
	if at < 0 {
		return fmt.Errorf("the pod has no container %s: %w", mainContainer, navvy.ErrInvalid)
	}
	main := &pod.Containers[at]
	security := stageSecurity(pod, main)
	if p.InputDir != "" {
		mount(pod, main, stageIn, p.InputDir)
		pod.InitContainers = append(pod.InitContainers, p.container(stageIn, bare(p.Input), p.opts.patience(), security))
	}
	if p.OutputDir == "" {
		return nil
	}
	if len(pod.Containers) > 1 {
		return errBeside
	}
	mount(pod, main, stageOut, p.OutputDir)
	pod.InitContainers = append(pod.InitContainers, *main)
	pod.Containers = []corev1.Container{p.container(stageOut, bare(p.Target()), manyTimes*p.opts.patience(), security)}
	return nil
}

// mount gives the main container a directory that it shares with what copies.
func mount(pod *corev1.PodSpec, main *corev1.Container, volume, dir string) {
	pod.Volumes = append(pod.Volumes, corev1.Volume{Name: volume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	main.VolumeMounts = append(main.VolumeMounts, corev1.VolumeMount{Name: volume, MountPath: dir})
}

// container makes one that copies.
func (p *plan) container(name, bucket string, patience time.Duration, security *corev1.SecurityContext) corev1.Container {
	verb := map[string]string{stageIn: "in", stageOut: "out"}[name]
	return corev1.Container{
		Name: name, Image: p.image, ImagePullPolicy: corev1.PullIfNotPresent,
		Args: escaped([]string{
			"stage", verb, "--bucket=" + bucket, "--prefix=" + p.Prefix, "--dir=" + stageDir,
			"--patience=" + patience.String(), "--report=" + terminationMessage,
		}),
		Env: append([]corev1.EnvVar{
			{Name: envBuckets, Value: p.opts.Server.String()}, {Name: "GOMEMLIMIT", Value: "384MiB"},
		}, p.account()...),
		VolumeMounts:             []corev1.VolumeMount{{Name: name, MountPath: stageDir, ReadOnly: name == stageOut}},
		SecurityContext:          security,
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("64Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("512Mi")},
		},
	}
}

// stageSecurity lets what copies read what the main container has made, whoever that runs as:
// as the same user where the pod template names one, or else as root, who may open all files
// and nothing more.
func stageSecurity(pod *corev1.PodSpec, main *corev1.Container) *corev1.SecurityContext {
	s := &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
	named := false
	if o := pod.SecurityContext; o != nil {
		named = o.RunAsUser != nil || o.RunAsNonRoot != nil && *o.RunAsNonRoot
	}
	if o := main.SecurityContext; o != nil {
		s.RunAsUser, s.RunAsGroup, s.RunAsNonRoot, s.SeccompProfile = o.RunAsUser, o.RunAsGroup, o.RunAsNonRoot, o.SeccompProfile
		named = named || o.RunAsUser != nil || o.RunAsNonRoot != nil && *o.RunAsNonRoot
	}
	if !named {
		s.RunAsUser, s.RunAsGroup = new(int64(0)), new(int64(0))
		s.Capabilities.Add = []corev1.Capability{"DAC_OVERRIDE"}
	}
	return s
}

// find is the status of a container of a pod; nil if there is none yet.
func find(pod *corev1.Pod, name string) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// finished is how the container ended that decides about the attempt, and which that is: what
// copies its inputs, if that failed; the main one, if that failed or nothing comes behind it;
// or what copies its outputs. It is nil if it has not ended.
func finished(pod *corev1.Pod) (string, *corev1.ContainerStateTerminated) {
	if s := find(pod, stageIn); s != nil && s.State.Terminated != nil && s.State.Terminated.ExitCode != 0 {
		return stageIn, s.State.Terminated
	}
	t := terminated(pod)
	if s := find(pod, stageOut); s != nil && t != nil && t.ExitCode == 0 {
		return stageOut, s.State.Terminated
	}
	return mainContainer, t
}

// whyStaging says that objects are on their way; empty if none are.
func whyStaging(pod *corev1.Pod) string {
	for name, text := range map[string]string{stageIn: "its inputs are being copied from their bucket", stageOut: "its outputs are being copied into their bucket"} {
		if s := find(pod, name); s != nil && s.State.Running != nil {
			return text
		}
	}
	return ""
}

// concludes tells whether the container has ended that decides.
func concludes(pod *corev1.Pod) bool {
	_, t := finished(pod)
	return t != nil
}

// concluded tells what the end of that container means.
func concluded(name string, t *corev1.ContainerStateTerminated, stopped bool) *verdict {
	switch {
	case name == mainContainer, t.ExitCode == 0:
		return exited(t)
	case stopped:
		return refused(navvy.ReasonStopped, "stopped")
	case t.Reason == reasonUnknown:
		return &verdict{away: "its node was lost: " + words(t.Reason, t.Message)}
	}
	what, reason := "its inputs could not be copied", navvy.ReasonInput
	if name == stageOut {
		what, reason = "it succeeded, and its outputs could not be copied", navvy.ReasonFiles
	}
	message := words(t.Reason, t.Message)
	if t.Message != "" {
		message = t.Message
	}
	switch int(t.ExitCode) {
	case staging.CodeFiles:
	case staging.CodeDenied:
		reason = navvy.ReasonPermission
	case staging.CodeUnavailable:
		return &verdict{away: what + ": " + message}
	default:
		reason = navvy.ReasonStart
		message = fmt.Sprintf("exit code %d: %s", t.ExitCode, message)
	}
	return refused(reason, "%s: %s", what, message)
}
