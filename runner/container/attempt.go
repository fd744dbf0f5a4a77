package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// attempt is one Job.
type attempt struct {
	driver *Driver
	task   driver.Task
	name   string
	uid    types.UID

	mu      sync.Mutex
	stopped bool // we have deleted it
}

var _ driver.Execution = (*attempt)(nil)

func (d *Driver) attempt(t *driver.Task, job *batchv1.Job) *attempt {
	return &attempt{driver: d, task: *t, name: job.Name, uid: job.UID}
}

// handleVersion begins each handle; the Job's name and uid follow.
const handleVersion = "container/1 "

// Handle implements driver.Execution.
func (a *attempt) Handle() []byte { return []byte(handleVersion + a.name + " " + string(a.uid)) }

func parseHandle(handle []byte) (name string, uid types.UID, err error) {
	if handle == nil {
		return "", "", nil
	}
	rest, ok := strings.CutPrefix(string(handle), handleVersion)
	name, id, found := strings.Cut(rest, " ")
	const uuid = 36
	if !ok || !found || name == "" || len(id) != uuid {
		return "", "", fmt.Errorf("container: handle %q: %w", handle, navvy.ErrCorrupt)
	}
	return name, types.UID(id), nil
}

// Stop implements driver.Execution: it deletes the Job, unless another attempt has it by
// now. With force its pod gets no time.
func (a *attempt) Stop(ctx context.Context, force bool) error {
	job, pod := a.look()
	if job != nil && (job.UID != a.uid || job.Annotations[annotationAttempt] != a.task.Token) {
		return nil
	}
	a.mu.Lock()
	a.stopped = true
	a.mu.Unlock()
	if force && pod != nil {
		if err := a.kill(ctx, pod); err != nil {
			return err
		}
	}
	err := a.driver.delete(ctx, a.name, a.uid)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

// kill deletes a pod without grace.
func (a *attempt) kill(ctx context.Context, pod *corev1.Pod) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	const atOnce = 1 // 0 would forget the pod before its node has ended it
	err := a.driver.cluster.pods.Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: new(int64(atOnce)), Preconditions: &metav1.Preconditions{UID: &pod.UID},
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

// delete deletes a Job; its pods go first, with their grace, so that their ends are seen.
func (d *Driver) delete(ctx context.Context, name string, uid types.UID) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return d.cluster.jobs.Delete(ctx, name, metav1.DeleteOptions{
		PropagationPolicy: new(metav1.DeletePropagationForeground), Preconditions: &metav1.Preconditions{UID: &uid},
	})
}

// look tells what is known of the attempt's own Job and pod.
func (a *attempt) look() (*batchv1.Job, *corev1.Pod) {
	job, pod := a.driver.watch.look(a.driver.cluster.namespace, a.name)
	if job != nil && job.UID != a.uid {
		return nil, nil
	}
	return job, pod
}

// Wait implements driver.Execution.
func (a *attempt) Wait(ctx context.Context) (driver.End, error) {
	changed, stop := a.driver.watch.follow(a.name)
	defer stop()
	w := &waiter{attempt: a}
	defer w.close()
	for {
		v, again := w.look(ctx)
		if v != nil {
			return w.conclude(ctx, v)
		}
		var timer <-chan time.Time
		if again > 0 {
			timer = time.After(again)
		}
		select {
		case <-changed:
		case <-timer:
		case <-ctx.Done():
			return driver.End{}, ctx.Err()
		case <-a.driver.ctx.Done():
			return driver.End{}, fmt.Errorf("container: closed: %w", navvy.ErrUnavailable)
		}
	}
}

// waiter waits for the end of an attempt, and copies its log.
type waiter struct {
	*attempt
	seen bool // the Job is known to the watch

	cancel  context.CancelFunc // of the log; nil before it begins
	ended   chan struct{}      // closed when the container has ended
	copied  chan error         // how copying the log ended
	hasEnd  bool
	podName string
}

// look looks at the Job once more.
func (w *waiter) look(ctx context.Context) (*verdict, time.Duration) {
	job, pod := w.attempt.look()
	if pod != nil && started(pod) && w.cancel == nil {
		w.copyLog(ctx, pod.Name)
	}
	if pod != nil && terminated(pod) && w.cancel != nil && !w.hasEnd {
		w.hasEnd = true
		close(w.ended)
	}
	if job == nil && pod == nil {
		if !w.seen {
			return nil, 0 // the watch is behind
		}
		return w.gone(), 0
	}
	w.seen = w.seen || job != nil
	p := patience{image: w.driver.opts.ImagePatience, pending: w.task.Spec.Container.Pending}
	v, again := judge(job, pod, p, time.Now())
	if v != nil && v.away != "" && w.wasStopped() {
		v = nil // its pod is on its way out, as we asked
	}
	return v, again
}

func (w *waiter) wasStopped() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stopped
}

// gone is how an attempt ended whose Job is not there any more.
func (w *waiter) gone() *verdict {
	if w.wasStopped() {
		return refused(navvy.ReasonStopped, "stopped")
	}
	return refused(navvy.ReasonDeleted, "somebody else deleted its Job %s", w.name)
}

// copyLog begins to copy the log.
func (w *waiter) copyLog(ctx context.Context, pod string) {
	ctx, w.cancel = context.WithCancel(ctx)
	w.podName, w.ended, w.copied = pod, make(chan struct{}), make(chan error, 1)
	f := &follower{to: w.task.Stdout}
	go func() {
		w.copied <- f.follow(ctx, func(ctx context.Context, since time.Time, follow bool) (io.ReadCloser, error) {
			body, err := w.driver.cluster.log(ctx, pod, mainContainer, since, follow)
			if apierrors.IsNotFound(err) {
				return nil, fmt.Errorf("%w: %w", errNoLog, err)
			}
			return body, err
		}, w.ended)
	}()
}

func (w *waiter) close() {
	if w.cancel != nil {
		w.cancel()
	}
}

// conclude waits for the rest of the log. What is a result needs all of it.
func (w *waiter) conclude(ctx context.Context, v *verdict) (driver.End, error) {
	if w.cancel != nil {
		if !w.hasEnd {
			w.hasEnd = true
			close(w.ended)
		}
		err := <-w.copied
		switch {
		case ctx.Err() != nil:
			return driver.End{}, ctx.Err()
		case err != nil && v.end.Refusal == nil && !w.wasStopped():
			return driver.End{}, w.lose(ctx, fmt.Errorf("container: the log of pod %s: %w", w.podName, err))
		}
	}
	if v.away != "" {
		return driver.End{}, w.lose(ctx, &driver.Away{Message: navvy.Shorten(v.away)})
	}
	return v.end, nil
}

// lose removes a Job that has come to nothing, so that the next attempt at its task, whose
// name is the same, makes another.
func (w *waiter) lose(ctx context.Context, why error) error {
	err := w.driver.delete(ctx, w.name, w.uid)
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return errors.Join(why, err)
	}
	return why
}
