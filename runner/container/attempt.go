package container

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

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
	space  *space
	task   driver.Task
	name   string
	uid    types.UID

	mu      sync.Mutex
	stopped bool          // we have deleted it
	dooming bool          // and go on trying to, as nobody has heard
	forced  bool          // and its pod gets no time
	left    chan struct{} // closed when another attempt is known to have it
	parted  bool          // left is closed

	read func() uint64           // how much has come of a log that has results in it; nil for others
	owns func(*batchv1.Job) bool // whether the Job is still this attempt's, in place of what its token says
}

var _ driver.Execution = (*attempt)(nil)

func (s *space) attempt(t *driver.Task, job *batchv1.Job) *attempt {
	s.took(t.Token)
	return &attempt{driver: s.driver, space: s, task: *t, name: job.Name, uid: job.UID, left: make(chan struct{})}
}

// What begins each handle. The Job's name and uid follow, and from version 2 on its namespace.
const (
	handleVersion1 = "container/1 "
	handleVersion  = "container/2 "
)

// engineHandle begins the handles of package engine.
const engineHandle = "engine/"

// Handle implements driver.Execution.
func (a *attempt) Handle() []byte {
	return []byte(handleVersion + a.name + " " + string(a.uid) + " " + a.space.namespace)
}

// handle is what is read of one.
type handle struct {
	name      string
	uid       types.UID
	namespace string // empty for the driver's own
}

func parseHandle(b []byte) (h handle, err error) {
	if b == nil {
		return h, nil
	}
	if engine, ok := strings.CutPrefix(string(b), engineHandle); ok {
		return h, fmt.Errorf("container: an attempt is a container of an engine of this machine (%.40q) and this navvy runs containers on Kubernetes: start it with --engine to have it looked after: %w",
			engine, navvy.ErrUnavailable)
	}
	version, want := handleVersion, 3
	if strings.HasPrefix(string(b), handleVersion1) {
		version, want = handleVersion1, 2
	}
	rest, ok := strings.CutPrefix(string(b), version)
	words := strings.Split(rest, " ")
	const uuid = 36
	if !ok || len(words) != want || slices.Contains(words, "") || len(words[1]) != uuid {
		return h, fmt.Errorf("container: handle %q: %w", b, navvy.ErrCorrupt)
	}
	h.name, h.uid = words[0], types.UID(words[1])
	if want > 2 {
		h.namespace = words[2]
	}
	return h, nil
}

// Stop implements driver.Execution: it deletes the Job, unless another attempt has it by
// now. With force its pod gets no time.
func (a *attempt) Stop(ctx context.Context, force bool) error {
	err := a.halt(ctx, force)
	if errors.Is(err, errOthers) {
		a.part()
		return nil
	}
	return err
}

// halt deletes the Job. The error is errOthers if it is another attempt's.
func (a *attempt) halt(ctx context.Context, force bool) error {
	_, pod := a.look()
	a.mu.Lock()
	a.stopped = true
	a.mu.Unlock()
	err := a.remove(ctx, metav1.DeletePropagationForeground) // its pod first, so that its end is seen
	if force && !errors.Is(err, errOthers) {
		a.mu.Lock()
		a.forced = a.forced || pod == nil || !concludes(pod) // from now on Wait kills it
		a.mu.Unlock()
		if pod == nil {
			_, pod = a.look() // Wait may have seen it before
		}
	}
	switch {
	case errors.Is(err, errGone) && pod != nil && !force:
		return a.end(ctx, pod, nil) // somebody may have deleted the Job and left the pod
	case err != nil && !errors.Is(err, errGone):
		a.doom(err)
		return err
	case pod != nil && force:
		return a.kill(ctx, pod)
	}
	return nil // a pod that the watch does not know yet is killed by Wait
}

// doom has the driver go on with a stop that has not come through, also when nobody asks
// for it any more.
func (a *attempt) doom(why error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.dooming || !passing(why) {
		return
	}
	a.dooming = true
	a.driver.chores.do(func() {
		a.driver.insist(func(ctx context.Context) error {
			err := a.remove(ctx, metav1.DeletePropagationForeground)
			if errors.Is(err, errOthers) || errors.Is(err, errGone) {
				return nil
			}
			return err
		}, "job", a.name)
		a.mu.Lock()
		a.dooming = false
		a.mu.Unlock()
	})
}

func (a *attempt) wasStopped() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stopped
}

// spare takes a stop back that has stopped nothing.
func (a *attempt) spare() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopped, a.forced = false, false
}

// part ends Wait: the Job is another attempt's.
func (a *attempt) part() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.parted {
		a.parted = true
		close(a.left)
	}
}

// What has become of a Job that is to be removed: another attempt has it, or it is not there.
var (
	errOthers = errors.New("container: another attempt has its Job")
	errGone   = errors.New("container: its Job is gone")
)

// remove deletes the Job if it is the attempt's. What the watch says is believed only as far
// as the server confirms it: whoever takes a Job over changes it, and then it is not deleted.
func (a *attempt) remove(ctx context.Context, how metav1.DeletionPropagation) error {
	job, _ := a.look()
	for {
		if job == nil || !a.has(job) {
			var err error
			job, err = a.space.get(ctx, a.name)
			switch {
			case apierrors.IsNotFound(err), err == nil && job.UID != a.uid:
				return errGone
			case err != nil:
				return err
			case !a.has(job):
				return errOthers
			}
		}
		err := a.space.delete(ctx, job, how)
		switch {
		case apierrors.IsNotFound(err):
			return errGone
		case !apierrors.IsConflict(err):
			return err
		}
		job = nil // it has changed
	}
}

// has tells whether a Job is this attempt's.
func (a *attempt) has(job *batchv1.Job) bool {
	if a.owns != nil {
		return a.owns(job)
	}
	return job.Annotations[annotationAttempt] == a.task.Token
}

// hasRead is how much of the log has come, if its results have to; 0 if not.
func (a *attempt) hasRead() uint64 {
	if a.read == nil {
		return 0
	}
	return a.read()
}

// atOnce is the shortest grace, in seconds: 0 would forget a pod before its node has ended it.
const atOnce = 1

// kill deletes a pod without grace.
func (a *attempt) kill(ctx context.Context, pod *corev1.Pod) error {
	return a.end(ctx, pod, new(int64(atOnce)))
}

// end deletes a pod, with its own grace if none is given.
func (a *attempt) end(ctx context.Context, pod *corev1.Pod, grace *int64) error {
	ctx, done, err := a.space.calls.call(ctx)
	if err != nil {
		return err
	}
	defer done()
	err = a.space.pods.Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: grace, Preconditions: &metav1.Preconditions{UID: &pod.UID},
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // or another one of that name
	}
	return err
}

// look tells what is known of the attempt's own Job and pod.
func (a *attempt) look() (*batchv1.Job, *corev1.Pod) {
	job, pod := a.space.look(a.name)
	if job != nil && job.UID != a.uid {
		return nil, nil
	}
	return job, pod
}
