package container

import (
	"cmp"
	"maps"
	"math"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/podtemplate"
	"github.com/navvy-run/navvy/runner/driver"
)

// mainContainer is the name of the container whose end is the attempt's.
const mainContainer = podtemplate.Main

// Whoever waits for a Job is the navvy that made it, or its successor. If nobody comes for
// so long, Kubernetes removes what has ended.
const abandonedAfter = 7 * 24 * 3600

// job makes the Job of an attempt. argv is what follows the entry point; nil for the image's own.
func (d *Driver) job(t *driver.Task, argv []string) (*batchv1.Job, error) {
	s, name := t.Spec, nameOf(t)
	labels := d.labels(t, name)
	pod := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels},
		Spec: corev1.PodSpec{
			RestartPolicy:                 corev1.RestartPolicyNever,
			TerminationGracePeriodSeconds: new(seconds(s.Grace.Seconds())),
			AutomountServiceAccountToken:  new(false),
			Containers:                    []corev1.Container{d.container(t, argv)},
		},
	}
	if err := d.override(&pod, labels, s.Container.Template); err != nil {
		return nil, err
	}
	if p, _ := d.plan(t); p != nil {
		if err := p.stage(&pod.Spec); err != nil {
			return nil, err
		}
	}
	j := &batchv1.Job{
		TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: cmp.Or(s.Container.Namespace, d.home), Labels: labels, Annotations: map[string]string{
			annotationOwner: t.Owner, annotationAttempt: t.Token,
		}},
		Spec: batchv1.JobSpec{
			BackoffLimit:            new(int32(0)), // retries are navvy's
			TTLSecondsAfterFinished: new(int32(abandonedAfter)),
			Template:                pod,
		},
	}
	if s.Timeout > 0 {
		j.Spec.ActiveDeadlineSeconds = new(seconds(s.Timeout.Seconds()))
	}
	return j, nil
}

// seconds rounds up, to one at least.
func seconds(s float64) int64 { return max(1, int64(math.Ceil(s))) }

// container makes the container itself.
func (d *Driver) container(t *driver.Task, argv []string) corev1.Container {
	c := t.Spec.Container
	entrypoint := c.Entrypoint
	if c.Command.Shell && len(entrypoint) == 0 {
		entrypoint = []string{"/bin/sh", "-c"}
	}
	env := environment(t)
	if p, _ := d.plan(t); p != nil {
		env = p.environ(env)
	}
	return corev1.Container{
		Name: mainContainer, Image: c.Image, ImagePullPolicy: corev1.PullIfNotPresent,
		Command: entrypoint, Args: argv, WorkingDir: c.Command.Dir,
		Env: env, Resources: resources(t.Spec),
		// What it says at its end is in its log.
		TerminationMessagePolicy: corev1.TerminationMessageReadFile,
	}
}

// environment is what the container finds beside what its image says.
func environment(t *driver.Task) []corev1.EnvVar {
	var list []corev1.EnvVar
	for _, pair := range t.ContainerEnv() {
		name, value, _ := strings.Cut(pair, "=")
		// Kubernetes expands $(NAME); $$ is a dollar.
		list = append(list, corev1.EnvVar{Name: name, Value: strings.ReplaceAll(value, "$", "$$")})
	}
	return list
}

// escaped protects arguments from Kubernetes, which expands $(NAME) in them.
func escaped(argv []string) []string {
	list := make([]string, len(argv))
	for i, a := range argv {
		list[i] = strings.ReplaceAll(a, "$", "$$")
	}
	return list
}

// gpuResource is how GPUs are counted in clusters.
const gpuResource corev1.ResourceName = "nvidia.com/gpu"

// resources are the requests and limits of a spec.
func resources(s *navvy.Spec) corev1.ResourceRequirements {
	list := corev1.ResourceList{}
	if n := s.Limits.CPUs; n > 0 {
		list[corev1.ResourceCPU] = *resource.NewMilliQuantity(n, resource.DecimalSI)
	}
	if n := s.Limits.Memory; n > 0 {
		list[corev1.ResourceMemory] = *resource.NewQuantity(n, resource.BinarySI)
	}
	if n := s.Resources[navvy.ResourceGPU]; n > 0 {
		list[gpuResource] = *resource.NewQuantity(n, resource.DecimalSI)
	}
	if len(list) == 0 {
		return corev1.ResourceRequirements{}
	}
	return corev1.ResourceRequirements{Limits: list, Requests: list.DeepCopy()}
}

// override merges pod templates over pod: that of the settings, and that of the spec, which is
// its queue's or an administrator's. What navvy's promises stand on stays.
func (d *Driver) override(pod *corev1.PodTemplateSpec, labels map[string]string, own []byte) error {
	if d.template == nil && own == nil {
		return nil
	}
	before := pod.DeepCopy()
	if err := podtemplate.Apply(pod, d.template, own); err != nil {
		return err
	}
	pod.Spec.RestartPolicy = before.Spec.RestartPolicy
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	maps.Copy(pod.Labels, labels)
	for i := range pod.Spec.Containers {
		if c := &pod.Spec.Containers[i]; c.Name == mainContainer {
			own := &before.Spec.Containers[0]
			c.Image, c.Command, c.Args = own.Image, own.Command, own.Args
		}
	}
	return nil
}
