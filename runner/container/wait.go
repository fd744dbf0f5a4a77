package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// Wait implements driver.Execution.
func (a *attempt) Wait(ctx context.Context) (driver.End, error) {
	changed, stop := a.space.watch.follow(a.name)
	defer stop()
	defer a.driver.room.leave(keyOf(a.space.namespace, a.name))
	w := &waiter{attempt: a, begun: time.Now(), patience: behind, log: a.driver.newLog(&a.task)}
	defer w.close()
	for {
		v, again := w.dismiss(ctx)
		if v != nil {
			end, err := w.conclude(ctx, v)
			if !w.log.keep(ctx, w, end, err) && err == nil && w.remains() {
				return driver.End{}, ctx.Err()
			}
			return end, err
		}
		var timer <-chan time.Time
		if again > 0 {
			timer = time.After(again)
		}
		select {
		case <-changed:
		case <-timer:
		case <-a.left:
			return driver.End{Refusal: &driver.Refusal{Reason: navvy.ReasonStopped, Message: "another attempt has its Job " + a.name}}, nil
		case <-ctx.Done():
			return driver.End{}, ctx.Err()
		case <-a.driver.ctx.Done():
			return driver.End{}, fmt.Errorf("container: closed: %w", navvy.ErrUnavailable)
		}
	}
}

// remains tells whether whoever takes the attempt over finds its end, and its log.
func (a *attempt) remains() bool {
	job, _ := a.look()
	return job != nil && job.DeletionTimestamp == nil
}

// waiter waits for the end of an attempt, and copies its log.
type waiter struct {
	*attempt
	begun time.Time
	// patience is how long it waits for the watch before it asks the server.
	patience time.Duration

	created time.Time // when the Job was; zero before it is seen

	seen   bool        // the Job is known to the watch
	pod    *corev1.Pod // the last that was seen
	killed bool        // the pod was told to end at once
	// unkilled says that this did not come through.
	unkilled bool
	failing  time.Time // since when its container cannot be made

	vanished time.Time // when Job and pod were found missing
	lag      time.Time // since when the Job is over and no pod of it is known
	podless  bool      // the server has none either
	asking   asking    // why it has no pod yet

	refusal *verdict  // of an attempt whose pod may go on, and whose Job was deleted for that
	until   time.Time // when that is told though its pod has not gone

	log    *bucketLog         // of an attempt with a bucket for it; nil for others
	cancel context.CancelFunc // of the log; nil before it begins
	ended  chan struct{}      // closed when the container has ended
	copied chan error         // how copying the log ended
	hasEnd bool
}

// look looks at the Job once more.
func (w *waiter) look(ctx context.Context) (*verdict, time.Duration) {
	job, pod := w.attempt.look()
	last := w.space.watch.lastPod(w.name, w.uid)
	if pod != nil {
		w.pod = pod
	} else if last != nil {
		w.pod = last
	}
	if job == nil && pod == nil {
		return w.missing(ctx, last)
	}
	w.saw(job)
	if again := w.lagging(ctx, job, pod); again > 0 {
		return nil, again
	}
	view := w.view(pod)
	if pod == nil {
		pod = w.pod
	} else {
		w.follow(ctx, pod)
	}
	v, again := judge(job, pod, view)
	if v == nil && pod == nil {
		v, again = w.unmade(ctx, job)
	}
	return v, w.sooner(again)
}

// missing is for an attempt of which neither Job nor pod is there; last is the pod that went.
func (w *waiter) missing(ctx context.Context, last *corev1.Pod) (*verdict, time.Duration) {
	switch {
	case last == nil && w.pod != nil && w.untold():
		return nil, behind // we have yet to hear how it was when it went
	case w.pod == nil && !w.seen:
		return w.unseen(ctx)
	}
	return w.gone(), 0
}

// lagging is how long to wait for the watch of pods, which may be far behind that of Jobs when
// there are many; 0 for not at all. A Job that is over has had a pod as a rule, and its log is
// yet to be read: that there is none any more is believed only if the server says so.
func (w *waiter) lagging(ctx context.Context, job *batchv1.Job, pod *corev1.Pod) time.Duration {
	if job == nil || pod != nil || w.pod != nil || w.podless || !jobOver(job) {
		return 0
	}
	if w.lag.IsZero() {
		w.lag, w.patience = time.Now(), behind
	}
	if left := w.patience - time.Since(w.lag); left > 0 {
		return left
	}
	if w.space.hasNoPod(ctx, job) {
		w.podless = true
		return 0
	}
	w.lag, w.patience = time.Now(), min(2*w.patience, longestBehind)
	return w.patience
}

// sooner is when to look again if something is left to do.
func (w *waiter) sooner(again time.Duration) time.Duration {
	if w.unkilled && (again == 0 || again > behind) {
		return behind
	}
	return again
}

// pending is how long the pod may wait for a node. What is only to be ended has no spec.
func (w *waiter) pending() time.Duration {
	if w.task.Spec == nil || w.task.Spec.Container == nil {
		return 0
	}
	return w.task.Spec.Container.Pending
}

// saw notes that the watch knows the Job, or its pod.
func (w *waiter) saw(job *batchv1.Job) {
	w.seen = true
	if job != nil {
		w.created = job.CreationTimestamp.Time
	}
}

// view gathers what judge wants to know.
func (w *waiter) view(pod *corev1.Pod) *view {
	v := &view{
		image: w.driver.opts.ImagePatience, pending: w.pending(),
		stopped: w.wasStopped(), gone: pod == nil && w.pod != nil, now: time.Now(),
	}
	if pod != nil {
		if reason, _ := stuck(pod); reason == "" {
			w.failing = time.Time{}
		} else if w.failing.IsZero() {
			w.failing = v.now
		}
	}
	v.failing = w.failing
	return v
}

// follow does what the state of a pod calls for.
func (w *waiter) follow(ctx context.Context, pod *corev1.Pod) {
	if started(pod) && w.cancel == nil {
		w.copyLog(ctx, pod.Name)
	}
	if terminated(pod) != nil && w.cancel != nil && !w.hasEnd {
		w.hasEnd = true
		close(w.ended)
	}
	w.unkilled = false
	w.mu.Lock()
	late := w.forced && !w.killed
	w.mu.Unlock()
	if !late || concludes(pod) {
		return
	}
	if g := pod.DeletionGracePeriodSeconds; g != nil && *g <= atOnce {
		return
	}
	if err := w.kill(ctx, pod); err != nil {
		w.driver.log.Warn("a pod is not killed", "pod", pod.Name, "err", err)
		w.unkilled = true
		return
	}
	w.killed = true
}

// behind is how long the watch may be behind before the server is asked.
const behind = 5 * time.Second

// longestBehind bounds what becomes of that while the server does not answer, or knows the
// Job and the watch does not.
const longestBehind = time.Minute

// unseen is for a Job that the watch does not know. It may be behind; or a Job that was
// deleted at once was there between two of its looks.
func (w *waiter) unseen(ctx context.Context) (*verdict, time.Duration) {
	if left := w.patience - time.Since(w.begun); left > 0 {
		return nil, left
	}
	job, err := w.space.get(ctx, w.name)
	if apierrors.IsNotFound(err) || err == nil && job.UID != w.uid {
		return w.gone(), 0
	}
	w.begun, w.patience = time.Now(), min(2*w.patience, longestBehind)
	return nil, w.patience
}

// untold tells whether a pod that is missing is so since a moment ago: the watch removes what it
// keeps before it tells.
func (w *waiter) untold() bool {
	if w.vanished.IsZero() {
		w.vanished = time.Now()
	}
	return time.Since(w.vanished) < behind
}

// gone is how an attempt ended whose Job is not there any more, nor its pod.
func (w *waiter) gone() *verdict {
	if w.pod != nil {
		if v, _ := judge(nil, w.pod, w.view(nil)); v != nil {
			return v
		}
	}
	if w.wasStopped() {
		return refused(navvy.ReasonStopped, "stopped")
	}
	return refused(navvy.ReasonDeleted, "somebody else deleted its Job %s", w.name)
}

// copyLog begins to copy the log.
func (w *waiter) copyLog(ctx context.Context, pod string) {
	ctx, w.cancel = context.WithCancel(ctx)
	w.ended, w.copied = make(chan struct{}), make(chan error, 1)
	f := &follower{to: w.log.beside(w.task.Stdout)}
	go func() {
		w.copied <- f.follow(ctx, func(ctx context.Context, since time.Time, follow bool) (io.ReadCloser, error) {
			body, err := w.space.log(ctx, pod, mainContainer, since, follow)
			if apierrors.IsNotFound(err) {
				return nil, fmt.Errorf("%w: %w", errNoLog, err)
			}
			return body, err
		}, w.ended)
		close(w.copied)
	}()
}

// close ends the copying of the log.
func (w *waiter) close() {
	if w.cancel != nil {
		w.cancel()
	}
	w.log.close()
}

// restPatience bounds the wait for the rest of a log that no result needs: its node may be lost.
// Where results of others are in the log it bounds the wait for more of it.
const restPatience = 10 * time.Second

// rest waits for the rest of the log. What is a result needs all of it.
func (w *waiter) rest(ctx context.Context, needed bool) error {
	if w.cancel == nil {
		return nil
	}
	if !w.hasEnd {
		w.hasEnd = true
		close(w.ended)
	}
	for read := w.hasRead(); ; {
		var enough <-chan time.Time
		if !needed {
			enough = time.After(restPatience)
		}
		select {
		case err := <-w.copied:
			if needed && err != nil && ctx.Err() == nil {
				return fmt.Errorf("container: the log of pod %s: %w", w.pod.Name, err)
			}
			return nil
		case <-enough:
			before := read
			if read = w.hasRead(); read == before {
				return nil
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// conclude ends an attempt once its log is there.
func (w *waiter) conclude(ctx context.Context, v *verdict) (driver.End, error) {
	err := w.rest(ctx, v.end.Refusal == nil && v.away == "" && !w.wasStopped())
	switch {
	case ctx.Err() != nil:
		return driver.End{}, ctx.Err()
	case err != nil:
		return driver.End{}, w.lose(ctx, err)
	}
	if v.away != "" {
		return driver.End{}, w.lose(ctx, &driver.Away{Message: navvy.Shorten(v.away)})
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.forced && v.end.Refusal == nil && v.end.Exit == (navvy.Exit{}) {
		// It was given a second, and used it to leave with a good word.
		return driver.End{Refusal: &driver.Refusal{Reason: navvy.ReasonStopped, Message: "stopped"}}, nil
	}
	return v.end, nil
}

// lose removes a Job that has come to nothing, so that the next attempt at its task, whose
// name is the same, makes another. A pod on a lost node must not keep it.
func (w *waiter) lose(ctx context.Context, why error) error {
	if err := w.remove(ctx, metav1.DeletePropagationBackground); err != nil && !errors.Is(err, errOthers) && !errors.Is(err, errGone) {
		w.doom(err)
		return errors.Join(why, err)
	}
	return why
}
