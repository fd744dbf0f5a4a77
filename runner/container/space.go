package container

import (
	"context"
	"errors"
	"fmt"
	"sync"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// space is a namespace in which attempts are: its clients, and the watch of its Jobs, which
// begins with the first attempt there and goes on until the driver is closed.
type space struct {
	*cluster
	driver *Driver
	watch  *watcher
	turns  turns

	begin sync.Once
	first sync.Once       // when all is known
	ctx   context.Context //nolint:containedctx // it is the watch's life
	stop  context.CancelFunc

	// Of spaces.mu:
	users int  // calls that are about to do something there
	used  bool // an attempt was there
}

// spaces are the namespaces in which attempts are.
type spaces struct {
	mu     sync.Mutex
	byName map[string]*space
	// of says where the attempts are that are not settled, by their tokens.
	of map[string]*space
	// settled are attempts of an earlier process whose Jobs are nowhere that is watched.
	settled map[string]bool
	// begun are attempts that this process began, the latest of them in the first.
	begun [2]map[string]bool

	home sync.Once // somebody waits until the driver's own can be watched, which it could not
}

// mostSettled bounds them: the Job of one that is dropped goes a week after its end.
const mostSettled = 10_000

// mostBegun bounds each of begun: an attempt is settled soon after its end, or given back twice.
const mostBegun = 10_000

func newSpaces() spaces {
	return spaces{
		byName: map[string]*space{}, of: map[string]*space{}, settled: map[string]bool{}, begun: [2]map[string]bool{{}, {}},
	}
}

// begins notes that this process begins an attempt, which may come to nothing.
func (l *spaces) begins(token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.begun[0]) >= mostBegun {
		l.begun[0], l.begun[1] = map[string]bool{}, l.begun[0]
	}
	l.begun[0][token] = true
}

// had tells whether an attempt is, or was not long ago, one of this process.
func (l *spaces) had(token string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hadLocked(token)
}

func (l *spaces) hadLocked(token string) bool {
	return l.of[token] != nil || l.begun[0][token] || l.begun[1][token]
}

// space gives a namespace, the driver's own for an empty name. The caller releases it.
func (d *Driver) space(name string) (*space, error) {
	if name == "" {
		name = d.home
	}
	d.spaces.mu.Lock()
	defer d.spaces.mu.Unlock()
	if s := d.spaces.byName[name]; s != nil {
		s.users++
		return s, nil
	}
	s := &space{cluster: d.cluster.in(name), driver: d, users: 1}
	s.ctx, s.stop = context.WithCancel(d.ctx)
	var err error
	if s.watch, err = newWatcher(s.cluster, d.opts.Instance, d.log, func(key string, there bool) { d.room.heard(s.ctx, key, there) }); err != nil {
		s.stop()
		return nil, err
	}
	d.spaces.byName[name] = s
	return s, nil
}

// all are the namespaces that are watched.
func (l *spaces) all() []*space {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]*space, 0, len(l.byName))
	for _, s := range l.byName {
		list = append(list, s)
	}
	return list
}

// release says that the caller does nothing there any more. A namespace in which nothing could
// be made is watched no longer.
func (s *space) release() {
	l := &s.driver.spaces
	l.mu.Lock()
	defer l.mu.Unlock()
	s.users--
	if s.users > 0 || s.used || s.namespace == s.driver.home {
		return
	}
	delete(l.byName, s.namespace)
	s.stop()
	s.driver.room.forget(s.namespace)
}

// took notes where an attempt is.
func (s *space) took(token string) {
	l := &s.driver.spaces
	l.mu.Lock()
	defer l.mu.Unlock()
	s.used = true
	l.of[token] = s
}

// forget forgets where an attempt was that is settled.
func (l *spaces) forget(token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.of, token)
}

// lacks notes a settled attempt whose Job is not found. That of an attempt of an earlier
// process may be in a namespace that is watched later.
func (l *spaces) lacks(token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.hadLocked(token) && len(l.settled) < mostSettled {
		l.settled[token] = true
	}
	delete(l.of, token)
}

// found gives those of the settled attempts whose Jobs a watch has.
func (l *spaces) found(w *watcher) (tokens []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for token := range l.settled {
		if w.ofToken(token) != nil {
			tokens = append(tokens, token)
			delete(l.settled, token)
		}
	}
	return tokens
}

// holding gives the Job of an attempt and where it is; no Job if there is none. An attempt
// that this process has not had is looked for in all namespaces that are watched.
func (l *spaces) holding(token string) (*space, *batchv1.Job) {
	l.mu.Lock()
	s := l.of[token]
	l.mu.Unlock()
	if s != nil {
		return s, s.watch.ofToken(token)
	}
	for _, s := range l.all() {
		if job := s.watch.ofToken(token); job != nil {
			return s, job
		}
	}
	return nil, nil
}

// lookHome waits until it is known what there is at home; not if that may not be looked at, as
// where tasks are in other namespaces only. What is settled until it may be is settled then.
func (d *Driver) lookHome(ctx context.Context) error {
	home, err := d.space("")
	if err != nil {
		return err
	}
	defer home.release()
	err = home.known(ctx, home.watch.refused)
	if _, refused := errors.AsType[*driver.Refusal](err); !refused {
		return err
	}
	d.spaces.home.Do(func() {
		d.log.Warn("the namespace of jobs that name none cannot be looked at: what an earlier process has left there stays until it can", "namespace", d.home, "err", err)
		d.running.Go(func() { _ = home.ready(home.ctx) }) // fails when the driver is closed
	})
	return nil
}

// ready begins to watch, and waits until what there is is known. What another namespace than
// the driver's own refuses is the fault of whoever asked for it.
func (s *space) ready(ctx context.Context) error {
	refused := s.watch.refused
	if s.namespace == s.driver.home {
		refused = nil // who set it up mends it, and tasks wait for that
	}
	return s.known(ctx, refused)
}

// known does what ready does, until refused is closed; nil for never.
func (s *space) known(ctx context.Context, refused <-chan struct{}) error {
	s.begin.Do(func() { s.driver.running.Go(func() { s.watch.run(s.ctx) }) })
	if err := s.watch.synced(ctx, refused); err != nil {
		return err
	}
	s.first.Do(func() {
		for _, token := range s.driver.spaces.found(s.watch) {
			s.driver.Settled(token)
		}
	})
	return nil
}

func (s *space) create(ctx context.Context, job *batchv1.Job) (*batchv1.Job, error) {
	return through(ctx, s.makes, func(ctx context.Context) (*batchv1.Job, error) {
		return s.jobs.Create(ctx, job, metav1.CreateOptions{})
	})
}

func (s *space) get(ctx context.Context, name string) (*batchv1.Job, error) {
	return through(ctx, s.calls, func(ctx context.Context) (*batchv1.Job, error) {
		return s.jobs.Get(ctx, name, metav1.GetOptions{})
	})
}

func (s *space) patch(ctx context.Context, name string, patch []byte) (*batchv1.Job, error) {
	return through(ctx, s.calls, func(ctx context.Context) (*batchv1.Job, error) {
		return s.jobs.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: managedBy})
	})
}

// podsOf asks for the pods of a Job.
func (s *space) podsOf(ctx context.Context, name string) (*corev1.PodList, error) {
	return through(ctx, s.calls, func(ctx context.Context) (*corev1.PodList, error) {
		return s.pods.List(ctx, metav1.ListOptions{LabelSelector: jobNameLabel + "=" + name})
	})
}

// delete deletes a Job as it was seen; the error is a conflict if it has changed since.
func (s *space) delete(ctx context.Context, job *batchv1.Job, how metav1.DeletionPropagation) error {
	ctx, done, err := s.calls.call(ctx)
	if err != nil {
		return err
	}
	defer done()
	return s.jobs.Delete(ctx, job.Name, metav1.DeleteOptions{
		PropagationPolicy: &how, Preconditions: &metav1.Preconditions{UID: &job.UID, ResourceVersion: &job.ResourceVersion},
	})
}

// claim writes whose a Job is now, as it was seen: whoever had it before leaves it alone from
// then on. The error is a conflict if the Job has changed since.
func (s *space) claim(ctx context.Context, job *batchv1.Job, token string) (*batchv1.Job, error) {
	if job.Annotations[annotationAttempt] == token {
		return job, nil
	}
	patch := fmt.Appendf(nil, `{"metadata":{"uid":%q,"resourceVersion":%q,"annotations":{%q:%q}}}`, job.UID, job.ResourceVersion, annotationAttempt, token)
	return s.patch(ctx, job.Name, patch)
}

// adopt takes the Job of that name for an attempt: it was made for the same task, by
// whoever had the task before. One that a later attempt has is left to that.
func (s *space) adopt(ctx context.Context, t *driver.Task, name string) (*batchv1.Job, error) {
	job, err := s.get(ctx, name)
	switch {
	case apierrors.IsNotFound(err):
		return nil, errGoing // and gone
	case err != nil:
		return nil, err
	case !s.driver.ours(job.Labels, t.ID):
		return nil, &driver.Refusal{Reason: navvy.ReasonStart, Message: fmt.Sprintf(
			"there is a Job %s in namespace %s that is not for this task", name, s.namespace)}
	case newer(job.Annotations[annotationAttempt], t.Token):
		return nil, overtaken(name)
	case job.DeletionTimestamp != nil:
		uid := job.UID
		if err := s.watch.removed(ctx, s.namespace, name, func(j *batchv1.Job) bool { return j.UID != uid }); err != nil {
			return nil, err
		}
		return nil, errGoing
	}
	if job, err = s.claim(ctx, job, t.Token); apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil, errGoing // and gone meanwhile, or it has changed
	}
	return job, err
}

// overtaken is why an attempt comes to nothing whose task was given to another worker while it
// waited, for room or for the API server.
func overtaken(job string) error {
	return &driver.Away{Message: "a later attempt at its task has its Job " + job}
}

// look tells what the watch knows of a Job and of its pod.
func (s *space) look(name string) (*batchv1.Job, *corev1.Pod) { return s.watch.look(s.namespace, name) }
