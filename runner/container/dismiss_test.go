package container

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// A pod that waits in vain is alive, and whoever is refused for that is told when it has gone.
func TestRefusing(t *testing.T) {
	t.Parallel()
	full := podThat(func(p *corev1.Pod) {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable}}
	})
	for name, pod := range map[string]*corev1.Pod{
		"image": podThat(waits("ImagePullBackOff")), "container": podThat(waits("CreateContainerConfigError")), "node": full,
	} {
		v, _ := judge(nil, pod, &view{image: time.Minute, pending: time.Minute, failing: noon, now: noon.Add(time.Minute)})
		if v == nil || !v.alive {
			t.Fatalf("%s: judged as %+v, want one that is alive", name, v)
		}
		w := &waiter{refusal: v, until: noon.Add(time.Minute)}
		exited := &verdict{end: driver.End{Exit: navvy.Exit{Code: 3}}}
		for what, c := range map[string]struct {
			v    *verdict
			now  time.Time
			want *verdict
		}{
			"its pod is there":      {nil, noon, nil},
			"nobody has heard":      {v, noon, nil},
			"its pod has gone":      {refused(navvy.ReasonDeleted, "by whomever"), noon, v},
			"its Job has failed":    {&verdict{away: "it is gone"}, noon, v},
			"its program ended":     {exited, noon, exited},
			"its node says no word": {nil, noon.Add(time.Minute), v},
		} {
			got, again := w.refusing(c.v, time.Hour, c.now)
			switch {
			case (got == nil) != (c.want == nil), got != nil && (got.end != c.want.end || got.alive):
				t.Errorf("%s, %s: it is told %+v, want %+v", name, what, got, c.want)
			case got == nil && again != time.Minute:
				t.Errorf("%s, %s: looks again in %s", name, what, again)
			}
		}
	}
}
