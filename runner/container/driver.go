// Package container runs tasks as containers: an attempt is a Kubernetes Job with one pod,
// whose log is its output. Jobs live on when navvy dies, and are found again by their names,
// which say what they are for and not who made them.
//
// One list and one watch for all Jobs, and one for their pods, tell how they are; nothing
// asks again and again. A Job costs two writes: one that makes it, one that gives it a time
// to live once its result is kept.
package container

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// Options configure New.
type Options struct {
	// Kubeconfig is a file that says where the cluster is. Empty for what is usual:
	// $KUBECONFIG, ~/.kube/config, or the service account of the pod that this is.
	Kubeconfig string
	// Context is the one of Kubeconfig to use. Empty for its current one.
	Context string
	// Namespace is where Jobs are made. Empty for the one that the context names.
	Namespace string
	// Instance tells the Jobs of this navvy from those of others in the namespace; workers
	// of one server have the same. Defaults to "navvy".
	Instance string
	// PodTemplate is YAML or JSON of a PodTemplateSpec that is merged over each pod, as
	// kubectl patch does: service account, node selector, tolerations, volumes.
	PodTemplate []byte
	// ImagePatience is how long an attempt waits for an image that cannot be pulled, or a
	// container that cannot be made, before it has failed. Defaults to 2 minutes.
	ImagePatience time.Duration
	// Keep is how long a Job is kept after its result. Defaults to 30 s.
	Keep time.Duration
	// Render makes the arguments of a task. Required.
	Render func(t *driver.Task) ([]string, error)
	// Logger takes what goes wrong beside an attempt. Defaults to dropping it.
	Logger *slog.Logger
}

const (
	defaultInstance = "navvy"
	defaultPatience = 2 * time.Minute
	defaultKeep     = 30 * time.Second
)

// Driver runs the kind container. Its watch begins with the first attempt.
type Driver struct {
	opts     Options
	log      *slog.Logger
	cluster  *cluster
	watch    *watcher
	template []byte

	begin   sync.Once
	ctx     context.Context // until Close
	stop    context.CancelFunc
	running sync.WaitGroup

	settling settler
}

var (
	_ driver.Driver  = (*Driver)(nil)
	_ driver.Settler = (*Driver)(nil)
)

// New returns a driver for one namespace of a cluster. It sends nothing yet. The error wraps
// navvy.ErrInvalid if the configuration makes no sense.
func New(o *Options) (*Driver, error) {
	c, err := connect(o.Kubeconfig, o.Context, o.Namespace)
	if err != nil {
		return nil, err
	}
	d := &Driver{opts: *o, log: o.Logger, cluster: c}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if d.opts.Instance == "" {
		d.opts.Instance = defaultInstance
	}
	if d.opts.ImagePatience <= 0 {
		d.opts.ImagePatience = defaultPatience
	}
	if d.opts.Keep <= 0 {
		d.opts.Keep = defaultKeep
	}
	if d.template, err = parseTemplate(o.PodTemplate); err != nil {
		return nil, err
	}
	if d.watch, err = newWatcher(c, d.opts.Instance); err != nil {
		return nil, err
	}
	d.ctx, d.stop = context.WithCancel(context.Background())
	return d, nil
}

// Capabilities implements driver.Driver.
func (d *Driver) Capabilities() driver.Capabilities {
	return driver.Capabilities{
		Kind: navvy.KindContainer, Adopts: true, Passes: true, Asynchronous: true, Remains: true, Signals: true, Output: true,
		Enforces: []navvy.Ability{navvy.AbilityCPUs, navvy.AbilityMemory},
		Lacks:    "a Kubernetes Job has requests and limits of processor and memory; what else bounds pods is the cluster's, or the pod template's",
		With:     "Kubernetes, namespace " + d.cluster.namespace,
	}
}

// Close implements driver.Driver. Jobs go on; those whose results are kept are told so first.
func (d *Driver) Close() error {
	d.finishSettling()
	d.stop()
	d.running.Wait()
	return nil
}

// ready begins to watch, and waits until what there is is known.
func (d *Driver) ready(ctx context.Context) error {
	d.begin.Do(func() { d.running.Go(func() { d.watch.run(d.ctx) }) })
	return d.watch.synced(ctx)
}

// Start implements driver.Driver: it makes the Job, or takes the one that is there.
func (d *Driver) Start(ctx context.Context, t *driver.Task) (driver.Execution, error) {
	argv, refusal := d.arguments(t)
	if refusal != nil {
		return nil, refusal
	}
	if err := d.ready(ctx); err != nil {
		return nil, err
	}
	job, err := d.job(t, argv)
	if err != nil {
		return nil, &driver.Refusal{Reason: navvy.ReasonStart, Message: navvy.Shorten(err.Error())}
	}
	for {
		made, err := d.create(ctx, job)
		if err == nil {
			return d.attempt(t, made), nil
		}
		if !apierrors.IsAlreadyExists(err) {
			return nil, denied(err)
		}
		if made, err = d.adopt(ctx, t, job.Name); err == nil {
			return d.attempt(t, made), nil
		}
		if !errors.Is(err, errGoing) {
			return nil, denied(err)
		}
	}
}

// arguments are what follows the entry point.
func (d *Driver) arguments(t *driver.Task) ([]string, *driver.Refusal) {
	c := &t.Spec.Container.Command
	if len(c.Args) == 0 && c.Literal {
		return nil, nil
	}
	argv, err := d.opts.Render(t)
	if err != nil {
		return nil, &driver.Refusal{Reason: navvy.ReasonInput, Message: navvy.Shorten(err.Error())}
	}
	return escaped(argv), nil
}

func (d *Driver) create(ctx context.Context, job *batchv1.Job) (*batchv1.Job, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return d.cluster.jobs.Create(ctx, job, metav1.CreateOptions{})
}

// errGoing says that a Job of the name is on its way out.
var errGoing = errors.New("it is being deleted")

// adopt takes the Job of that name for an attempt: it was made for the same task, by
// whoever had the task before.
func (d *Driver) adopt(ctx context.Context, t *driver.Task, name string) (*batchv1.Job, error) {
	job, err := d.get(ctx, name)
	switch {
	case apierrors.IsNotFound(err):
		return nil, errGoing // and gone
	case err != nil:
		return nil, err
	case !d.ours(job.Labels, t.ID):
		return nil, &driver.Refusal{Reason: navvy.ReasonStart, Message: fmt.Sprintf(
			"there is a Job %s in namespace %s that is not for this task", name, d.cluster.namespace)}
	case job.DeletionTimestamp != nil:
		uid := job.UID
		return nil, cmp.Or(d.watch.removed(ctx, d.cluster.namespace, name, func(j *batchv1.Job) bool { return j.UID != uid }), errGoing)
	}
	return d.claim(ctx, job, t.Token)
}

func (d *Driver) get(ctx context.Context, name string) (*batchv1.Job, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return d.cluster.jobs.Get(ctx, name, metav1.GetOptions{})
}

// claim writes whose a Job is now: whoever had it before leaves it alone from then on.
func (d *Driver) claim(ctx context.Context, job *batchv1.Job, token string) (*batchv1.Job, error) {
	if job.Annotations[annotationAttempt] == token {
		return job, nil
	}
	patch := fmt.Appendf(nil, `{"metadata":{"uid":%q,"annotations":{%q:%q}}}`, job.UID, annotationAttempt, token)
	return d.patch(ctx, job.Name, patch)
}

func (d *Driver) patch(ctx context.Context, name string, patch []byte) (*batchv1.Job, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return d.cluster.jobs.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: managedBy})
}

// denied tells an error of the task from one of the host.
func denied(err error) error {
	var reason navvy.Reason
	switch {
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsRequestEntityTooLargeError(err):
		reason = navvy.ReasonStart
	case apierrors.IsForbidden(err):
		reason = navvy.ReasonPermission
	case apierrors.IsNotFound(err):
		reason = navvy.ReasonNotFound
	default:
		return err
	}
	return &driver.Refusal{Reason: reason, Message: navvy.Shorten(err.Error())}
}

// Recover implements driver.Driver. The handle names the Job; without one it is found by
// the token.
func (d *Driver) Recover(ctx context.Context, handle []byte, t *driver.Task) (driver.Execution, error) {
	name, uid, err := parseHandle(handle)
	if err != nil {
		return nil, err
	}
	if err := d.ready(ctx); err != nil {
		return nil, err
	}
	if handle == nil {
		job := d.watch.ofToken(t.Token)
		if job == nil {
			return nil, fmt.Errorf("container: no Job of attempt %s: %w", t.Token, navvy.ErrNotFound)
		}
		name, uid = job.Name, job.UID
	}
	job, err := d.get(ctx, name)
	switch {
	case apierrors.IsNotFound(err), err == nil && (job.UID != uid || job.Annotations[annotationAttempt] != t.Token):
		return nil, fmt.Errorf("container: Job %s of attempt %s: %w", name, t.Token, navvy.ErrNotFound)
	case err != nil:
		return nil, err
	}
	return d.attempt(t, job), nil
}

// Why tells what the attempt with a token waits for before it runs, in the cluster's words;
// empty if for nothing that is known. It asks nobody.
func (d *Driver) Why(token string) string {
	job := d.watch.ofToken(token)
	if job == nil {
		return ""
	}
	_, pod := d.watch.look(d.cluster.namespace, job.Name)
	return whyWaiting(pod)
}

// Settle says that the result of an attempt is kept: its Job may go, some time later.
func (d *Driver) Settle(ctx context.Context, token string) error {
	if err := d.ready(ctx); err != nil {
		return err
	}
	job := d.watch.ofToken(token)
	if job == nil {
		return nil
	}
	patch := fmt.Appendf(nil, `{"metadata":{"uid":%q},"spec":{"ttlSecondsAfterFinished":%d}}`, job.UID, seconds(d.opts.Keep.Seconds()))
	if _, err := d.patch(ctx, job.Name, patch); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("container: Job %s stays: %w", job.Name, err)
	}
	return nil
}
