package container

import (
	"context"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

var _ driver.Sweeper = (*Driver)(nil)

// Adrift implements driver.Sweeper: the Jobs of this instance, whoever made them, that run,
// or have ended and been told nothing. It knows of none in a namespace before the first attempt there.
func (d *Driver) Adrift() []driver.Adrift {
	var list []driver.Adrift
	for _, s := range d.spaces.all() {
		for _, o := range s.watch.jobs.GetStore().List() {
			job := o.(*batchv1.Job)
			index, err := strconv.ParseInt(job.Labels[labelTask], 10, 64)
			token := job.Annotations[annotationAttempt]
			if err != nil || token == "" || job.DeletionTimestamp != nil || jobOver(job) && !unsettled(job) {
				continue
			}
			list = append(list, driver.Adrift{Task: navvy.TaskID{Job: navvy.JobID(job.Labels[labelJob]), Index: index}, Token: token})
		}
	}
	return list
}

// Sweep implements driver.Sweeper.
func (d *Driver) Sweep(ctx context.Context, token string) error {
	s, job := d.spaces.holding(token)
	if job == nil {
		return nil
	}
	if jobOver(job) {
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

// unsettled tells whether nobody has told a Job that its result is kept.
func unsettled(job *batchv1.Job) bool {
	ttl := job.Spec.TTLSecondsAfterFinished
	return ttl != nil && *ttl == abandonedAfter
}
