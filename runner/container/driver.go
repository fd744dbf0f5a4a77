// Package container runs tasks as containers: an attempt is a Kubernetes Job with one pod,
// whose log is its output. Jobs live on when navvy dies, and are found again by their names,
// which say what they are for and not who made them.
//
// One list and one watch for all Jobs of a namespace, and one for their pods, tell how they
// are; nothing asks again and again. A Job costs two writes: one that makes it, one that gives it a time
// to live once its result is kept.
package container

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/internal/kubelog"
	"github.com/navvy-run/navvy/internal/pause"
	"github.com/navvy-run/navvy/podtemplate"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/errand"
)

// Options configure New.
type Options struct {
	// Kubeconfig is a file that says where the cluster is. Empty for what is usual:
	// $KUBECONFIG, ~/.kube/config, or the service account of the pod that this is.
	Kubeconfig string
	// Context is the one of Kubeconfig to use. Empty for its current one.
	Context string
	// Namespace is where Jobs are made whose specs name none. Empty for the one that the
	// context names.
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
	// NavvyImage is the image of navvy itself, for pods in which it works beside or around an
	// image; its entry point is navvy. Defaults to DefaultNavvyImage.
	NavvyImage string
	// Buckets say where the buckets of containers are. Defaults to: nobody knows.
	Buckets Buckets
	// MaxJobs is how many Jobs of the instance there are at once in the namespaces that this
	// driver has made some in; attempts wait for room. Defaults to any number.
	MaxJobs int
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

// DefaultNavvyImage is what navvy's own image is called if nobody says otherwise.
const DefaultNavvyImage = "navvy:latest"

// Driver runs the kind container. Its watch of a namespace begins with the first attempt there.
type Driver struct {
	opts     Options
	log      *slog.Logger
	cluster  *connection
	home     string // the namespace of specs that name none
	template []byte
	spaces   spaces
	room     *room
	delays   delays

	ctx     context.Context // until Close
	stop    context.CancelFunc
	running sync.WaitGroup

	strays   chan struct{} // see Strays
	settling *errand.Queue // tokens of attempts whose results are kept
	chores   chores
	packs    *packs

	logs sync.WaitGroup // of attempts, on their way into buckets
}

var (
	_ driver.Driver  = (*Driver)(nil)
	_ driver.Settler = (*Driver)(nil)
	_ driver.Bounder = (*Driver)(nil)
)

// New returns a driver for a cluster. It sends nothing yet. The error wraps
// navvy.ErrInvalid if the configuration makes no sense.
func New(o *Options) (*Driver, error) {
	c, home, err := o.connect()
	if err != nil {
		return nil, err
	}
	d := &Driver{
		opts: *o, log: o.Logger, cluster: c, home: home, room: newRoom(o.MaxJobs), spaces: newSpaces(), delays: newDelays(), strays: make(chan struct{}, 1),
	}
	kubelog.Lead(o.Logger)
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
	if d.opts.NavvyImage == "" {
		d.opts.NavvyImage = DefaultNavvyImage
	}
	if d.template, err = podtemplate.Parse(o.PodTemplate); err != nil {
		return nil, err
	}
	d.ctx, d.stop = context.WithCancel(context.Background())
	d.packs = newPacks(d.ctx, d.sealPack)
	d.settling = errand.New(settleAtOnce, pause.Series{First: firstPause, Longest: longestPause}, d.settle)
	return d, nil
}

// Check tells what New would find wrong with a configuration, for one who has the work done by
// another process perhaps: in a pod, that one may have an account where this has none. It
// sends nothing.
func Check(o *Options) error {
	if _, _, err := o.connect(); err != nil && configured() {
		return err
	}
	return nil
}

func (o *Options) connect() (*connection, string, error) {
	if wrong := validation.IsValidLabelValue(o.Instance); wrong != nil {
		return nil, "", fmt.Errorf("kubernetes: instance %q: %s: %w", o.Instance, wrong[0], navvy.ErrInvalid)
	}
	return connect(o.Kubeconfig, o.Context, o.Namespace)
}

// Capabilities implements driver.Driver.
func (d *Driver) Capabilities() driver.Capabilities {
	return driver.Capabilities{
		Kind: navvy.KindContainer, Adopts: true, Passes: true, Asynchronous: true, Remains: true, Signals: true, Output: true, Explains: true,
		Enforces: []navvy.Ability{navvy.AbilityCPUs, navvy.AbilityMemory},
		Lacks: "a Kubernetes Job has requests and limits of processors and memory; how many processes a pod may have (--pids-limit) " +
			"is a setting of nodes, whom it may reach (--network) that of a NetworkPolicy, and the rest the pod template's",
		With: "Kubernetes, namespace " + d.home,
	}
}

// Close implements driver.Driver. Jobs go on; those whose results are kept are told so first.
func (d *Driver) Close() error {
	d.settling.Close(lastSettling)
	d.finishLogs()
	d.stop()
	d.chores.close()
	d.running.Wait()
	d.logs.Wait()
	return nil
}

// Start implements driver.Driver: it makes the Job, or takes the one that is there.
func (d *Driver) Start(ctx context.Context, t *driver.Task) (driver.Execution, error) {
	argv, refusal := d.arguments(t)
	if refusal != nil {
		return nil, refusal
	}
	d.spaces.begins(t.Token)
	space, err := d.space(t.Spec.Container.Namespace)
	if err != nil {
		return nil, err
	}
	defer space.release()
	defer d.delays.begin(t.Token, space)()
	if err := space.ready(ctx); err != nil {
		return nil, err
	}
	if packable(t) {
		if e, err := space.startPacked(ctx, t, argv); e != nil || err != nil {
			return e, err
		}
	}
	job, err := d.job(t, escaped(argv))
	if err != nil {
		return nil, &driver.Refusal{Reason: navvy.ReasonStart, Message: navvy.Shorten(err.Error())}
	}
	made, err := space.obtain(ctx, t, job)
	if err != nil {
		d.room.leave(keyOf(space.namespace, job.Name))
		return nil, err
	}
	return space.attempt(t, made), nil
}

// arguments are what follows the entry point.
func (d *Driver) arguments(t *driver.Task) ([]string, *driver.Refusal) {
	if _, refusal := d.plan(t); refusal != nil {
		return nil, refusal
	}
	c := &t.Spec.Container.Command
	if len(c.Args) == 0 && c.Literal {
		return nil, nil
	}
	argv, err := d.opts.Render(t)
	if err != nil {
		return nil, &driver.Refusal{Reason: navvy.ReasonInput, Message: navvy.Shorten(err.Error())}
	}
	return argv, nil
}

// errGoing says that a Job of the name is on its way out, or has changed while it was looked at.
var errGoing = errors.New("it is being deleted, or has changed")

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
	h, err := parseHandle(handle)
	if err != nil {
		return nil, err
	}
	if h.namespace == "" && t.Spec != nil && t.Spec.Container != nil {
		h.namespace = t.Spec.Container.Namespace
	}
	space, err := d.space(h.namespace)
	if err != nil {
		return nil, err
	}
	defer space.release()
	if err := space.ready(ctx); err != nil {
		return nil, err
	}
	if handle == nil {
		job := space.watch.ofToken(t.Token)
		if job == nil {
			return nil, fmt.Errorf("container: no Job of attempt %s: %w", t.Token, navvy.ErrNotFound)
		}
		h.name, h.uid = job.Name, job.UID
	}
	job, err := space.get(ctx, h.name)
	switch {
	case apierrors.IsNotFound(err), err == nil && (job.UID != h.uid || !hasToken(job, t)):
		return nil, fmt.Errorf("container: Job %s of attempt %s: %w", h.name, t.Token, navvy.ErrNotFound)
	case err != nil:
		return nil, err
	}
	if isPack(job) {
		return space.recoverPacked(t, job), nil
	}
	return space.attempt(t, job), nil
}

// hasToken tells whether an attempt has a Job, or a place in it.
func hasToken(job *batchv1.Job, t *driver.Task) bool {
	if isPack(job) {
		return job.Annotations[taskAnnotation(t.ID.Index)] == t.Token
	}
	return job.Annotations[annotationAttempt] == t.Token
}

// keep is how many seconds a Job stays whose tasks are settled: none if others wait for its room.
func (d *Driver) keep() int64 {
	if d.room.waits() {
		return 0
	}
	return seconds(d.opts.Keep.Seconds())
}

// Settle says that the result of an attempt is kept: its Job may go, some time later, or at
// once if others wait for its room. That of an attempt of an earlier process is looked for at
// home; if that may not be looked at, it goes when it is found.
func (d *Driver) Settle(ctx context.Context, token string) error {
	if packed, err := d.settlePacked(ctx, token); packed || err != nil {
		return err
	}
	space, job := d.spaces.holding(token)
	if job == nil && !d.spaces.had(token) {
		if err := d.lookHome(ctx); err != nil {
			return err
		}
		space, job = d.spaces.holding(token)
	}
	if job == nil {
		d.spaces.lacks(token)
		return nil
	}
	if isPack(job) { // it was an earlier process's, and so may others of its tasks be
		return space.strand(ctx, job)
	}
	if err := space.grant(ctx, job.Name, job.UID, d.keep()); err != nil {
		return err
	}
	d.spaces.forget(token)
	return nil
}
