package container

import (
	"context"
	"errors"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// dismiss looks at the Job once more. An attempt that is refused while its pod is there, as that
// waits in vain, is not over: the next one would have a Job of another name, and the image, or
// the node, may come yet. So its Job is deleted first, and the refusal told when the pod has gone.
func (w *waiter) dismiss(ctx context.Context) (*verdict, time.Duration) {
	v, again := w.look(ctx)
	if w.refusal == nil {
		if v == nil || !v.alive || !w.rid(ctx) {
			return v, again
		}
		w.refusal, w.until = v, time.Now().Add(w.grace()+lostAfter)
	}
	return w.refusing(v, again, time.Now())
}

// refusing is what is told of an attempt whose Job is deleted, as it was refused: that, unless
// its program has ended by itself; nothing as long as its pod is there, and its node is not lost.
func (w *waiter) refusing(v *verdict, again time.Duration, now time.Time) (*verdict, time.Duration) {
	left := w.until.Sub(now)
	switch {
	case v != nil && v.away == "" && v.end.Refusal == nil:
		return v, 0
	case v != nil && !v.alive, left <= 0:
		told := *w.refusal
		told.alive = false
		return &told, 0
	case again > 0:
		left = min(left, again)
	}
	return nil, left
}

// rid deletes the Job of an attempt that is refused; false if that cannot be, or must not.
func (w *waiter) rid(ctx context.Context) bool {
	err := w.remove(ctx, metav1.DeletePropagationForeground)
	switch {
	case err == nil, errors.Is(err, errGone):
		return true
	case errors.Is(err, errOthers):
		return false
	case passing(err):
		w.doom(err)
		return true
	}
	w.driver.log.Warn("a Job whose attempt has failed may run yet: it is not deleted", "job", w.name, "err", err)
	return false
}

// grace is how long the pod has once it is asked to end. What is only to be ended has no spec.
func (w *waiter) grace() time.Duration {
	if w.task.Spec == nil {
		return 0
	}
	return w.task.Spec.Grace
}
