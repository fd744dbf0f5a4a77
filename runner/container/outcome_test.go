package container

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/navvy-run/navvy"
)

// noon is when things begin in these tests.
var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func at(seconds int) metav1.Time {
	return metav1.NewTime(noon.Add(time.Duration(seconds) * time.Second))
}

// podThat is a pod, changed.
func podThat(changes ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", CreationTimestamp: at(0)}}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: mainContainer, Image: "img"}}
	for _, change := range changes {
		change(p)
	}
	return p
}

func exitedWith(code int32, second int) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.ContainerStatuses[0].State.Terminated = &corev1.ContainerStateTerminated{ExitCode: code, FinishedAt: at(second), Reason: "Error"}
	}
}

func waits(reason string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.ContainerStatuses[0].State.Waiting = &corev1.ContainerStateWaiting{Reason: reason, Message: "words"}
	}
}

// deletedAt has been deleted then, with a grace of 30 s.
func deletedAt(second int) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.DeletionTimestamp, p.DeletionGracePeriodSeconds = new(at(second+30)), new(int64(30))
	}
}

func disruptedAt(second int) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "Evicted", LastTransitionTime: at(second),
		})
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	limited := &batchv1.Job{Spec: batchv1.JobSpec{ActiveDeadlineSeconds: new(int64(10))}, Status: batchv1.JobStatus{StartTime: new(at(0))}}
	free := &batchv1.Job{}
	const away, still = "away", "still"
	for name, c := range map[string]struct {
		job  *batchv1.Job
		pod  *corev1.Pod
		view view
		want string // a reason, "away", "still", or "" for an exit
		exit navvy.Exit
	}{
		"nothing is known":        {nil, nil, view{}, still, navvy.Exit{}},
		"success":                 {free, podThat(exitedWith(0, 5)), view{}, "", navvy.Exit{}},
		"a code":                  {free, podThat(exitedWith(3, 5)), view{}, "", navvy.Exit{Code: 3}},
		"a signal":                {free, podThat(exitedWith(139, 5)), view{}, "", navvy.Exit{Signal: 11}},
		"asked to stop":           {free, podThat(exitedWith(7, 9), deletedAt(8)), view{stopped: true}, "", navvy.Exit{Code: 7}},
		"stopping":                {free, podThat(deletedAt(8)), view{stopped: true}, still, navvy.Exit{}},
		"ended and then deleted":  {free, podThat(exitedWith(3, 5), deletedAt(8)), view{}, "", navvy.Exit{Code: 3}},
		"deleted":                 {free, podThat(exitedWith(0, 9), deletedAt(8)), view{}, "deleted", navvy.Exit{}},
		"deleted, a clock behind": {free, podThat(exitedWith(143, 2), deletedAt(8)), view{}, "deleted", navvy.Exit{}},
		"being deleted":           {free, podThat(deletedAt(8)), view{}, still, navvy.Exit{}},
		"deleted and gone":        {free, podThat(deletedAt(8)), view{gone: true}, "deleted", navvy.Exit{}},
		"late":                    {limited, podThat(exitedWith(0, 11), deletedAt(10)), view{}, "timeout", navvy.Exit{}},
		"late, and runs":          {limited, podThat(deletedAt(10)), view{}, still, navvy.Exit{}},
		"deleted in time":         {limited, podThat(exitedWith(0, 9), deletedAt(8)), view{}, "deleted", navvy.Exit{}},
		"evicted":                 {free, podThat(exitedWith(0, 9), disruptedAt(8), deletedAt(8)), view{}, away, navvy.Exit{}},
		"evicted after its end":   {free, podThat(exitedWith(0, 5), disruptedAt(8), deletedAt(8)), view{}, "", navvy.Exit{}},
		"being evicted":           {free, podThat(disruptedAt(8), deletedAt(8)), view{now: noon.Add(40 * time.Second)}, still, navvy.Exit{}},
		"its node is lost":        {free, podThat(disruptedAt(8), deletedAt(8)), view{now: noon.Add(69 * time.Second)}, away, navvy.Exit{}},
		"an image, at first":      {free, podThat(waits("ErrImagePull")), view{image: time.Minute, now: noon}, still, navvy.Exit{}},
		"an image, for long":      {free, podThat(waits("ImagePullBackOff")), view{image: time.Minute, failing: noon, now: noon.Add(time.Minute)}, "image", navvy.Exit{}},
		"no image's name":         {free, podThat(waits("InvalidImageName")), view{image: time.Minute, now: noon}, "image", navvy.Exit{}},
		"no container, for long":  {free, podThat(waits("CreateContainerConfigError")), view{image: time.Minute, failing: noon, now: noon.Add(time.Hour)}, "start", navvy.Exit{}},
		"begins":                  {free, podThat(waits("ContainerCreating")), view{image: time.Minute, now: noon.Add(time.Hour)}, still, navvy.Exit{}},
	} {
		v, again := judge(c.job, c.pod, &c.view)
		got := ""
		switch {
		case v == nil:
			got = still
		case v.away != "":
			got = away
		case v.end.Refusal != nil:
			got = string(v.end.Refusal.Reason)
		}
		if got != c.want || again < 0 || v != nil && v.end.Exit != c.exit {
			t.Errorf("%s: judged as %+v, again in %s, want %q, %+v", name, v, again, c.want, c.exit)
		}
	}
}
