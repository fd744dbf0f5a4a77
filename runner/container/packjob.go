package container

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/container/inpod"
	"github.com/navvy-run/navvy/runner/driver"
)

const (
	// labelPack tells Jobs that several tasks share.
	labelPack = "navvy.run/pack"
	// annotationTask begins the names of annotations that say which tasks share a Job: the
	// task's index follows; the value is the token of whoever has the task.
	annotationTask = "navvy.run/task-"
)

func taskAnnotation(index int64) string { return annotationTask + strconv.FormatInt(index, 10) }

// isPack tells whether several tasks share a Job.
func isPack(job *batchv1.Job) bool { return job.Labels[labelPack] != "" }

// packToken begins the token of a Job that tasks share, until another attempt has one of them.
const packToken = "pack-"

// adopted tells whether others than those for whom it was made have had tasks of a Job.
func adopted(job *batchv1.Job) bool {
	return !strings.HasPrefix(job.Annotations[annotationAttempt], packToken)
}

// packTokens are those of the attempts that share a Job.
func packTokens(job *batchv1.Job) []string { return slices.Collect(maps.Values(tasksOf(job))) }

// tasksOf are the tasks that share a Job, by their index, with the tokens of the attempts that
// have them.
func tasksOf(job *batchv1.Job) map[int64]string {
	tasks := map[int64]string{}
	for name, token := range job.Annotations {
		if text, ok := strings.CutPrefix(name, annotationTask); ok {
			if index, err := strconv.ParseInt(text, 10, 64); err == nil {
				tasks[index] = token
			}
		}
	}
	return tasks
}

// What is in the pod for navvy's own sake: a volume with its program.
const (
	navvyName = "navvy"
	navvyPath = "/.navvy"
	// PodTasks and PodCopy are the verbs with which navvy is called in a pod: to run tasks,
	// and to copy its program into a directory.
	PodTasks = "pod-tasks"
	PodCopy  = "pod-copy"
)

// makePack makes the Job of a pack, and what reads its log.
func (s *space) makePack(ctx context.Context, pk *pack) (*packRun, error) {
	d := s.driver
	slices.SortFunc(pk.members, func(a, b *member) int { return cmp.Compare(a.load.Index, b.load.Index) })
	try := &packTry{space: s, pack: pk, token: packToken + rand.Text(), looked: pk.since}
	spec := pk.members[0].task.Spec
	name := packName(spec, try.token)
	defer d.delays.share(pk.members, try.token)()
	made, err := s.build(ctx, name, try.token, 0, func() (*batchv1.Job, error) { return try.make(ctx) })
	if err == nil && made == nil {
		if try.job != nil { // and a try that made one may have been lost
			s.abandon(name, try.token)
		}
		err = &driver.Away{Message: "by now other Jobs have all tasks of its pod"}
	}
	if err != nil {
		d.room.leave(keyOf(s.namespace, name))
		return nil, err
	}
	run := s.newPackRun(spec, made)
	d.packs.mu.Lock()
	defer d.packs.mu.Unlock()
	d.packs.addLocked(run)
	for _, m := range try.members {
		if !m.quit {
			d.packs.holdLocked(s, made, m.task.Token)
		}
		run.attach(m)
	}
	return run, nil
}

// packTry makes the Job of a pack, if need be in several tries.
type packTry struct {
	space   *space
	pack    *pack
	token   string
	looked  time.Time // when it was last known where its tasks are
	members []*member // those for whom it was tried to make it; nil before
	job     *batchv1.Job
}

// packFresh is for how long it is believed that nobody else has a task: a lease may end while
// a pack waits for more tasks, for room, or for the API server.
const packFresh = time.Second

// make is one try; no Job and no error if nobody is left for whom to make it.
func (p *packTry) make(ctx context.Context) (*batchv1.Job, error) {
	s := p.space
	if p.members != nil { // a try whose answer was lost may have made it
		if made, err := s.get(ctx, p.job.Name); !apierrors.IsNotFound(err) {
			return made, err
		}
	}
	if now := time.Now(); now.Sub(p.looked) > packFresh {
		found, err := s.listPacks(ctx, p.pack.key.job)
		if err != nil {
			return nil, err
		}
		s.driver.packs.elsewhere(p.pack, found)
		p.looked = now
	}
	p.members = s.driver.packs.remaining(p.pack)
	if len(p.members) == 0 {
		return nil, nil //nolint:nilnil // nobody is left
	}
	var err error
	if p.job, err = s.driver.packJob(p.members, p.token); err != nil {
		return nil, &driver.Refusal{Reason: navvy.ReasonStart, Message: navvy.Shorten(err.Error())}
	}
	made, err := s.create(ctx, p.job)
	if apierrors.IsAlreadyExists(err) {
		return s.get(ctx, p.job.Name)
	}
	return made, err
}

// elsewhere notes which tasks of a pack are in Jobs by now.
func (p *packs) elsewhere(pk *pack, found map[int64]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range pk.members {
		m.elsewhere = found[m.task.ID.Index]
	}
}

// packName names the Job of a pack.
func packName(spec *navvy.Spec, token string) string {
	return spec.Container.NamePrefix() + "-" + navvy.NameUUID("navvy.container.pack.1 "+token)
}

// packJob makes the Job of tasks that share a pod, which is that of one with another program.
func (d *Driver) packJob(members []*member, token string) (*batchv1.Job, error) {
	t := members[0].task
	load := &inpod.Load{Timeout: t.Spec.Timeout, Grace: cmp.Or(t.Spec.Grace, navvy.DefaultGrace)}
	for _, m := range members {
		load.Tasks = append(load.Tasks, m.load)
	}
	pieces, err := load.Pack()
	if err != nil {
		return nil, err
	}
	spec, shared := *t.Spec, *t.Spec.Container
	spec.Timeout = 0 // of a task, which navvy in the pod sees to
	shared.Buckets = navvy.Buckets{}
	spec.Container, t.Spec, t.Env = &shared, &spec, nil
	job, err := d.job(&t, nil)
	if err != nil {
		return nil, err
	}
	job.Name = packName(t.Spec, token)
	job.Annotations[annotationAttempt] = token
	for _, m := range members {
		job.Annotations[taskAnnotation(m.load.Index)] = m.task.Token
	}
	pod := &job.Spec.Template
	for _, labels := range []map[string]string{job.Labels, pod.Labels} {
		delete(labels, labelTask)
		labels[labelPack] = strconv.Itoa(len(members))
	}
	var account []corev1.EnvVar
	if p := members[0].plan; p != nil {
		account = p.lent()
	}
	d.bringNavvy(pod, append([]string{navvyPath + "/navvy", PodTasks}, pieces...), account)
	return job, nil
}

// bringNavvy brings the program of navvy into a pod, in place of that of its main container,
// which gets an account.
func (d *Driver) bringNavvy(pod *corev1.PodTemplateSpec, argv []string, account []corev1.EnvVar) {
	pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{
		Name: navvyName, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}},
	})
	mount := corev1.VolumeMount{Name: navvyName, MountPath: navvyPath}
	bring := corev1.Container{
		Name: navvyName, Image: d.opts.NavvyImage, ImagePullPolicy: corev1.PullIfNotPresent,
		Args: []string{PodCopy, navvyPath}, VolumeMounts: []corev1.VolumeMount{mount},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
	}
	pod.Spec.InitContainers = append([]corev1.Container{bring}, pod.Spec.InitContainers...)
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		if c.Name != mainContainer {
			continue
		}
		mount.ReadOnly = true
		c.VolumeMounts = append(c.VolumeMounts, mount)
		c.Command, c.Args = argv[:1], argv[1:]
		c.Env = under(slices.DeleteFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == "NAVVY_TASK" || e.Name == "NAVVY_ATTEMPT" }), account)
	}
}

// packedTask is a task as navvy in a pod runs it. The words of argv are as they are. What it is
// told of its buckets is its own; what the job says of its environment counts more.
func packedTask(m *member, argv []string) inpod.Task {
	t := &m.task
	c := t.Spec.Container
	program := c.Entrypoint
	if c.Command.Shell && len(program) == 0 {
		program = []string{"/bin/sh", "-c"}
	}
	var told []string
	if m.plan != nil {
		told = slices.DeleteFunc(m.plan.told(), func(pair string) bool {
			name, _, _ := strings.Cut(pair, "=")
			is := func(own string) bool { return strings.HasPrefix(own, name+"=") }
			return slices.ContainsFunc(c.Command.Env, is) || slices.ContainsFunc(t.Env, is)
		})
	}
	own := []string{fmt.Sprintf("NAVVY_TASK=%d", t.ID.Index), fmt.Sprintf("NAVVY_ATTEMPT=%d", t.Failed+1)}
	return inpod.Task{Index: t.ID.Index, Argv: slices.Concat(program, argv), Env: slices.Concat(own, told, t.Env)}
}
