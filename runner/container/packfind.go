package container

import (
	"context"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// census is which pods have tasks of a job already, as the cluster said when it was asked last.
type census struct {
	one    chan struct{} // held by who reads it, and asks if need be
	begun  time.Time     // when it was asked; zero for never
	epoch  uint32        // of the attempts for which it was
	byTask map[int64]string
}

func newCensus() *census { return &census{one: make(chan struct{}, 1)} }

// find is the name of the Job that has the task of an attempt; empty if none has. The first
// attempt at a task since its server started is in none but those that were there before. For
// others the cluster is asked anew, once for all that wait.
func (c *census) find(ctx context.Context, t *driver.Task, list func(context.Context) (map[int64]string, error)) (string, error) {
	arrived := time.Now()
	select {
	case c.one <- struct{}{}:
		defer func() { <-c.one }()
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	if c.begun.IsZero() || t.Attempt.Epoch > c.epoch || t.Attempt.Number > 1 && c.begun.Before(arrived) {
		now := time.Now()
		found, err := list(ctx)
		if err != nil {
			return "", err
		}
		c.begun, c.epoch, c.byTask = now, max(c.epoch, t.Attempt.Epoch), found
	}
	return c.byTask[t.ID.Index], nil
}

// listPacks asks the cluster which of a job's tasks are in pods that they share.
func (s *space) listPacks(ctx context.Context, job navvy.JobID) (map[int64]string, error) {
	selector := labels.Set{labelManagedBy: managedBy, labelInstance: s.driver.opts.Instance, labelJob: string(job)}.String() + "," + labelPack
	list, err := through(ctx, s.calls, func(ctx context.Context) (*batchv1.JobList, error) {
		return s.jobs.List(ctx, metav1.ListOptions{LabelSelector: selector})
	})
	if err != nil {
		return nil, denied(err)
	}
	found := map[int64]string{}
	for i := range list.Items {
		for index := range tasksOf(&list.Items[i]) {
			found[index] = list.Items[i].Name
		}
	}
	return found, nil
}

// adoptPacked takes the task where it is in a pod already; nil and no error if it is in none.
func (s *space) adoptPacked(ctx context.Context, c *census, m *member) (driver.Execution, error) {
	t := &m.task
	name, err := c.find(ctx, t, func(ctx context.Context) (map[int64]string, error) { return s.listPacks(ctx, t.ID.Job) })
	if name == "" || err != nil {
		return nil, err
	}
	for {
		job, err := s.get(ctx, name)
		switch {
		case apierrors.IsNotFound(err):
			return nil, nil
		case err != nil:
			return nil, denied(err)
		case job.Annotations[taskAnnotation(t.ID.Index)] == "":
			return nil, nil // it was given back
		case job.DeletionTimestamp != nil:
			return nil, s.watch.removed(ctx, s.namespace, name, func(j *batchv1.Job) bool { return j.UID != job.UID })
		}
		claim, err := packClaim(job, t)
		if err != nil {
			return nil, err
		}
		job, err = s.change(ctx, job, nil, claim)
		switch {
		case err == nil:
			return s.joinRun(m, job), nil
		case !apierrors.IsConflict(err) && !apierrors.IsNotFound(err): // else it has changed since
			return nil, denied(err)
		}
	}
}

// packClaim is what an attempt writes on a Job in which it takes its task over: that it has it,
// and that the Job is no longer only theirs for whom it was made. A newer attempt keeps it.
func packClaim(job *batchv1.Job, t *driver.Task) (map[string]any, error) {
	name := taskAnnotation(t.ID.Index)
	if supersedes(job.Annotations[name], t.Attempt) {
		return nil, &driver.Away{Message: "a newer attempt has it in Job " + job.Name}
	}
	return map[string]any{name: t.Token, annotationAttempt: t.Token}, nil
}

// joinRun has a task read from the log of a pod that runs, or has run, together with others
// that come at the same time.
func (s *space) joinRun(m *member, job *batchv1.Job) *member {
	d := s.driver
	d.packs.mu.Lock()
	defer d.packs.mu.Unlock()
	if m.task.Spec != nil { // else it is only to be ended
		d.packs.holdLocked(s, job, m.task.Token)
		d.packs.adoptLocked(m)
	}
	for _, run := range d.packs.runs[job.UID] {
		if run.attach(m) {
			return m
		}
	}
	run := s.newPackRun(m.task.Spec, job)
	run.attach(m)
	d.packs.addLocked(run)
	d.running.Go(func() {
		timer := time.NewTimer(packLinger)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-d.ctx.Done():
		}
		run.follow()
	})
	return m
}
