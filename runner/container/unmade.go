package container

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/navvy-run/navvy"
)

// What keeps the pod of a Job from being made is told by nothing but the events of the Job: a
// service account that is missing, a quota, an admission webhook, a rule of security. They are
// asked for when somebody wants to know, and when a Job has had no pod for too long.

// asking is when the cluster is asked about a Job without a pod.
type asking struct {
	next  time.Time     // zero before that is known
	pause time.Duration // until the time after that
	turn  bool          // next is its turn among those who ask
}

// turns keep those apart who ask: the server looks through all events of a namespace for those
// of a Job.
type turns struct {
	mu   sync.Mutex
	last time.Time
}

// betweenTurns is how long one question is behind another.
const betweenTurns = 200 * time.Millisecond

// take gives the next turn from a time on.
func (t *turns) take(now time.Time) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if next := t.last.Add(betweenTurns); next.After(now) {
		now = next
	}
	t.last = now
	return now
}

// mostPatiences bounds the pause between two questions about one Job.
const mostPatiences = 8

// then sets the time of the next question; limit is when one has to be asked, zero for never.
func (a *asking) then(now, limit time.Time, patience time.Duration) {
	a.next, a.pause, a.turn = now.Add(a.pause), min(2*a.pause, mostPatiences*patience), false
	if limit.After(now) && limit.Before(a.next) {
		a.next = limit
	}
}

// unmade tells how long an attempt may go on to wait for its pod to be made: as long as it may
// wait for a node, if there is a bound. One that is refused, and not for want of a quota, has
// failed after the patience for images, as time does not mend that.
func (w *waiter) unmade(ctx context.Context, job *batchv1.Job) (*verdict, time.Duration) {
	if job == nil || job.DeletionTimestamp != nil || jobOver(job) || job.Status.Active > 0 || w.wasStopped() || w.refusal != nil {
		return nil, 0
	}
	made, patience, limit := job.CreationTimestamp.Time, w.driver.opts.ImagePatience, time.Time{}
	if w.pending() > 0 {
		limit = made.Add(w.pending())
	}
	if w.asking.next.IsZero() {
		w.asking.pause = patience
		w.asking.then(made, limit, patience)
		w.asking.pause = patience / 2
	}
	now := time.Now()
	if !w.asking.turn && !w.asking.next.After(now) {
		w.asking.next, w.asking.turn = w.space.turns.take(now), true
	}
	if left := w.asking.next.Sub(now); left > 0 {
		return nil, left
	}
	w.asking.then(now, limit, patience)
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	v := w.given(ctx, job, !limit.IsZero() && !limit.After(now))
	if v == nil || !w.space.hasNoPod(ctx, job) {
		return nil, max(time.Until(w.asking.next), betweenTurns)
	}
	return v, 0
}

// given asks the cluster why there is no pod, and tells whether that is given up: it has waited
// in vain for as long as it may if late, or is refused for good. A server that does not answer
// says nothing about the task; one that does not let us ask does.
func (w *waiter) given(ctx context.Context, job *batchv1.Job, late bool) *verdict {
	told, err := w.space.events(ctx, job.UID)
	if err != nil && !apierrors.IsForbidden(err) {
		return nil
	}
	why, lasts := whyNoPod(told)
	switch {
	case late && why == "":
		return alive(navvy.ReasonPending, "no pod was made for it within %s", w.pending())
	case late:
		return alive(navvy.ReasonPending, "no pod was made for it within %s: %s", w.pending(), why)
	case forGood(why) && lasts >= w.driver.opts.ImagePatience/2:
		return alive(navvy.ReasonStart, "its pod cannot be made: %s", why)
	}
	return nil
}

// hasNoPod tells whether the server says that a Job has no pod.
func (s *space) hasNoPod(ctx context.Context, job *batchv1.Job) bool {
	list, err := s.podsOf(ctx, job.Name)
	return err == nil && !slices.ContainsFunc(list.Items, func(p corev1.Pod) bool { return metav1.IsControlledBy(&p, job) })
}

// whyUnmade says in words why a Job has no pod, as far as the cluster tells.
func (s *space) whyUnmade(ctx context.Context, job *batchv1.Job) string {
	if job.Spec.Suspend != nil && *job.Spec.Suspend {
		return "its Job is suspended"
	}
	told, err := s.events(ctx, job.UID)
	why, _ := whyNoPod(told)
	switch {
	case err != nil || why == "":
		return "its pod is being made"
	case forGood(why):
		return "its pod cannot be made: " + why
	}
	return "its pod is not made yet: " + why
}

// whyNoPod finds in the events of a Job why its pod is not made, and for how long that has been
// told; empty if nothing has been, or a pod has been made since.
func whyNoPod(events []corev1.Event) (why string, lasts time.Duration) {
	last := newest(events)
	if last == nil || last.Reason != "FailedCreate" {
		return "", 0
	}
	first := toldAt(last)
	for i := range events {
		if e := &events[i]; e.Reason == last.Reason {
			if at := toldFirst(e); at.Before(first) {
				first = at
			}
		}
	}
	why = strings.TrimPrefix(last.Message, "(combined from similar events): ")
	return strings.TrimPrefix(why, "Error creating: "), toldAt(last).Sub(first)
}

// forGood tells whether a pod is refused for what it is, or for what there is not; neither for
// want of a quota, nor because somebody does not answer.
func forGood(why string) bool {
	return !strings.Contains(why, "exceeded quota") && !strings.Contains(why, "unknown for quota") &&
		(strings.Contains(why, " is forbidden: ") || strings.Contains(why, " is invalid: ") || strings.Contains(why, " denied the request"))
}

// told are the latest words of the cluster about an object; empty if it has none.
func (c *cluster) told(ctx context.Context, uid types.UID) (string, error) {
	events, err := c.events(ctx, uid)
	if last := newest(events); last != nil {
		return words(last.Reason, last.Message), nil
	}
	return "", err
}

// newest is the event that came last; nil if there is none.
func newest(events []corev1.Event) *corev1.Event {
	var last *corev1.Event
	for i := range events {
		if e := &events[i]; last == nil || !toldAt(e).Before(toldAt(last)) {
			last = e
		}
	}
	return last
}

// toldAt is when an event came last.
func toldAt(e *corev1.Event) time.Time {
	if e.LastTimestamp.IsZero() {
		return e.EventTime.Time
	}
	return e.LastTimestamp.Time
}

// toldFirst is when an event came for the first time.
func toldFirst(e *corev1.Event) time.Time {
	if e.FirstTimestamp.IsZero() {
		return e.EventTime.Time
	}
	return e.FirstTimestamp.Time
}
