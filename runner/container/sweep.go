package container

import (
	"context"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

var _ driver.Strayer = (*Driver)(nil)

// Strays implements driver.Strayer: a pod goes on in which others have tasks, and this navvy
// none any more. They may have ended, and who has them does not hear of it.
func (d *Driver) Strays() <-chan struct{} { return d.strays }

func (d *Driver) stray() {
	select {
	case d.strays <- struct{}{}:
	default:
	}
}

// Adrift implements driver.Sweeper: the Jobs of this instance, whoever made them, that run,
// or have ended and been told nothing. It knows of none in a namespace before the first attempt there.
func (d *Driver) Adrift() []driver.Adrift {
	var list []driver.Adrift
	there := map[types.UID]bool{}
	for _, s := range d.spaces.all() {
		for _, o := range s.watch.jobs.GetStore().List() {
			job := o.(*batchv1.Job)
			there[job.UID] = true
			if job.DeletionTimestamp == nil && (!jobOver(job) || unsettled(job)) {
				list = append(list, adrift(job)...)
			}
		}
	}
	d.packs.sweptGone(there)
	return list
}

// adrift are the attempts that a Job has.
func adrift(job *batchv1.Job) (list []driver.Adrift) {
	id := navvy.JobID(job.Labels[labelJob])
	if isPack(job) {
		for index, token := range tasksOf(job) {
			list = append(list, driver.Adrift{Task: navvy.TaskID{Job: id, Index: index}, Token: token})
		}
		return list
	}
	index, err := strconv.ParseInt(job.Labels[labelTask], 10, 64)
	if token := job.Annotations[annotationAttempt]; err == nil && token != "" {
		list = append(list, driver.Adrift{Task: navvy.TaskID{Job: id, Index: index}, Token: token})
	}
	return list
}

// Sweep implements driver.Sweeper.
func (d *Driver) Sweep(ctx context.Context, token string) error {
	s, job := d.spaces.holding(token)
	switch {
	case job == nil:
		return nil
	case isPack(job):
		return s.sweepPacked(ctx, job, token)
	case jobOver(job):
		return d.Settle(ctx, token)
	}
	d.log.Info("a Job whose task nobody wants answered any more is ended", "job", job.Name)
	err := s.delete(ctx, job, metav1.DeletePropagationForeground)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // gone, or it has changed: perhaps another attempt has it
	}
	return err
}

// jobOver tells whether a Job has ended.
func jobOver(job *batchv1.Job) bool {
	for _, c := range job.Status.Conditions {
		if c.Status == corev1.ConditionTrue && (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) {
			return true
		}
	}
	return false
}

// unsettled tells whether nobody has told a Job that its result is kept, or that all are.
func unsettled(job *batchv1.Job) bool {
	ttl := job.Spec.TTLSecondsAfterFinished
	return ttl != nil && (*ttl == abandonedAfter || isPack(job) && time.Duration(*ttl)*time.Second == strandedAfter)
}
