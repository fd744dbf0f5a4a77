package container

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/tools/cache"

	"github.com/navvy-run/navvy"
)

// watcher keeps what the cluster says of all Jobs of this instance and their pods: one list
// and one watch for each of both, however many there are. After a break it lists again.
type watcher struct {
	jobs, pods cache.SharedIndexInformer
	reach      *reach
	log        *slog.Logger

	mu      sync.Mutex
	waiting map[string]map[chan struct{}]bool // by name of the Job: who is told of changes
	last    map[string]*corev1.Pod            // by name of the Job, while somebody waits: its pod as it was when it went

	refusal error         // the cluster does not let us watch; set before refused is closed
	refused chan struct{} // closed then
	refuse  sync.Once
}

// The indexes of what is kept.
const (
	byToken = "token" // Jobs by the attempt that has them
	byJob   = "job"   // pods by the name of their Job
)

// newWatcher returns a watch that has yet to run. log is told what keeps it from that. heard is told of Jobs that are there, and
// that have gone, by namespace and name.
func newWatcher(c *cluster, instance string, log *slog.Logger, heard func(key string, there bool)) (*watcher, error) {
	selector := labels.SelectorFromSet(labels.Set{labelManagedBy: managedBy, labelInstance: instance}).String()
	w := &watcher{
		reach: newReach(log, c.namespace), log: log,
		waiting: map[string]map[chan struct{}]bool{}, last: map[string]*corev1.Pod{}, refused: make(chan struct{}),
	}
	w.jobs = informer(c.jobs, &batchv1.Job{}, selector, cache.Indexers{byToken: tokenOf}, func(err error) { w.reach.note("jobs", err) })
	w.pods = informer(c.pods, &corev1.Pod{}, selector, cache.Indexers{byJob: jobOf}, func(err error) { w.reach.note("pods", err) })
	for informer, name := range map[cache.SharedIndexInformer]func(metav1.Object) string{
		w.jobs: metav1.Object.GetName,
		w.pods: func(o metav1.Object) string { return o.GetLabels()[jobNameLabel] },
	} {
		tell := func(o any) { w.changed(name, o) }
		_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: tell, UpdateFunc: func(_, o any) { tell(o) }, DeleteFunc: func(o any) { w.deleted(o); tell(o) },
		})
		if err == nil {
			err = informer.SetTransform(slim)
		}
		if err == nil {
			err = informer.SetWatchErrorHandlerWithContext(w.failed)
		}
		if err != nil {
			return nil, err
		}
	}
	_, err := w.jobs.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { heard(keyOfObject(o), true) },
		DeleteFunc: func(o any) { heard(keyOfObject(o), false) },
	})
	return w, err
}

// keyOfObject is the namespace and the name of what an informer tells of.
func keyOfObject(o any) string {
	key, _ := cache.DeletionHandlingMetaNamespaceKeyFunc(o) // they all have names
	return key
}

// failed notes that the cluster does not let us watch; of all else that fails, the next try
// may go well, and reach tells if none does.
func (w *watcher) failed(_ context.Context, _ *cache.Reflector, err error) {
	if apierrors.IsForbidden(err) {
		w.refuse.Do(func() {
			w.refusal = err
			close(w.refused)
		})
	}
	w.log.Debug("a watch broke, and begins anew", "err", err)
}

// object is what an informer keeps.
type object interface {
	runtime.Object
	metav1.Object
}

func informer[T object, L runtime.Object](c *gentype.ClientWithList[T, L], example T, selector string, indexers cache.Indexers, tried func(error)) cache.SharedIndexInformer {
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.LabelSelector = selector
			ctx, done := trying(ctx, tried)
			list, err := c.List(ctx, o)
			done(err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.LabelSelector = selector
			ctx, done := trying(ctx, tried)
			events, err := c.Watch(ctx, o)
			done(err)
			return events, err
		},
	}
	return cache.NewSharedIndexInformer(lw, example, 0, indexers)
}

// slim drops what nobody here reads, which is most of an object.
func slim(o any) (any, error) {
	switch o := o.(type) {
	case *batchv1.Job:
		o.Spec.Template, o.Spec.Selector = corev1.PodTemplateSpec{}, nil
		slimMeta(&o.ObjectMeta, labelManagedBy, labelInstance, labelJob, labelTask, labelPack)
	case *corev1.Pod:
		o.Spec, o.Annotations = corev1.PodSpec{NodeName: o.Spec.NodeName}, nil
		slimMeta(&o.ObjectMeta, jobNameLabel)
	}
	return o, nil
}

// slimMeta leaves of the labels only those that are named. Whose a pod is its owner tells.
func slimMeta(m *metav1.ObjectMeta, keep ...string) {
	m.ManagedFields, m.Finalizers, m.GenerateName = nil, nil, ""
	labels := make(map[string]string, len(keep))
	for _, name := range keep {
		if value, has := m.Labels[name]; has {
			labels[name] = value
		}
	}
	m.Labels = labels
}

func tokenOf(o any) ([]string, error) {
	job := o.(*batchv1.Job)
	return append(packTokens(job), job.Annotations[annotationAttempt]), nil
}

func jobOf(o any) ([]string, error) { return []string{o.(*corev1.Pod).Labels[jobNameLabel]}, nil }

// run watches until ctx ends.
func (w *watcher) run(ctx context.Context) {
	defer w.reach.close()
	var both sync.WaitGroup
	both.Go(func() { w.jobs.RunWithContext(ctx) })
	both.Go(func() { w.pods.RunWithContext(ctx) })
	both.Wait()
}

// synced waits until all is known that there was when it was called first, or refused is
// closed; what that says is a *driver.Refusal then.
func (w *watcher) synced(ctx context.Context, refused <-chan struct{}) error {
	if w.jobs.HasSynced() && w.pods.HasSynced() {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-refused:
			cancel()
		case <-ctx.Done():
		}
	}()
	if cache.WaitForCacheSync(ctx.Done(), w.jobs.HasSynced, w.pods.HasSynced) {
		return nil
	}
	if refused != nil && closed(refused) {
		return denied(w.refusal)
	}
	return fmt.Errorf("kubernetes: the cluster has not told of its Jobs: %w", navvy.ErrUnavailable)
}

// deleted keeps a pod that went for whoever waits for its end, and might look too late.
func (w *watcher) deleted(o any) {
	if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = gone.Obj
	}
	pod, ok := o.(*corev1.Pod)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if name := pod.Labels[jobNameLabel]; w.waiting[name] != nil {
		w.last[name] = pod
	}
}

// lastPod is the last pod that went of the Job of a name and uid while somebody waited for it;
// nil if none did.
func (w *watcher) lastPod(name string, uid types.UID) *corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	pod := w.last[name]
	if pod == nil || metav1.GetControllerOf(pod) == nil || metav1.GetControllerOf(pod).UID != uid {
		return nil
	}
	return pod
}

// changed tells those who wait for a Job.
func (w *watcher) changed(name func(metav1.Object) string, o any) {
	if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = gone.Obj
	}
	m, ok := o.(metav1.Object)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.waiting[name(m)] {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// follow gives a channel that has something whenever the Job of a name, or a pod of it,
// may have changed.
func (w *watcher) follow(name string) (changed <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting[name] == nil {
		w.waiting[name] = map[chan struct{}]bool{}
	}
	w.waiting[name][c] = true
	return c, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if delete(w.waiting[name], c); len(w.waiting[name]) == 0 {
			delete(w.waiting, name)
			delete(w.last, name)
		}
	}
}

// look tells what is known of a Job and of its pod, the newest if there are several; nil
// for what is not there.
func (w *watcher) look(namespace, name string) (*batchv1.Job, *corev1.Pod) {
	var job *batchv1.Job
	if o, ok, _ := w.jobs.GetStore().GetByKey(namespace + "/" + name); ok {
		job = o.(*batchv1.Job)
	}
	pods, _ := w.pods.GetIndexer().ByIndex(byJob, name)
	var pod *corev1.Pod
	for _, o := range pods {
		p := o.(*corev1.Pod)
		if job != nil && !metav1.IsControlledBy(p, job) {
			continue // of an earlier Job of that name
		}
		if pod == nil || pod.CreationTimestamp.Before(&p.CreationTimestamp) {
			pod = p
		}
	}
	return job, pod
}

// ofToken is the Job that the attempt with a token has; nil if there is none.
func (w *watcher) ofToken(token string) *batchv1.Job {
	jobs, _ := w.jobs.GetIndexer().ByIndex(byToken, token)
	if len(jobs) == 0 {
		return nil
	}
	return jobs[0].(*batchv1.Job)
}

// removed waits until a Job of that name and uid is gone.
func (w *watcher) removed(ctx context.Context, namespace, name string, gone func(*batchv1.Job) bool) error {
	changed, stop := w.follow(name)
	defer stop()
	for {
		if job, _ := w.look(namespace, name); job == nil || gone(job) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
