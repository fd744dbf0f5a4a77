package container

import (
	"context"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// unwanted are the attempts, by their Jobs that they share and their tokens, of which this
// navvy was told that nobody wants them any more. That stays so. It is kept here, as to write
// it on Jobs would cost a call for each task that has ended.
type unwanted map[types.UID]map[string]bool

// note notes one, and tells whether nobody wants any attempt of the Job.
func (u unwanted) note(job *batchv1.Job, token string) (all bool) {
	if u[job.UID] == nil {
		u[job.UID] = map[string]bool{}
	}
	u[job.UID][token] = true
	for _, other := range packTokens(job) {
		if !u[job.UID][other] {
			return false
		}
	}
	return true
}

// sweepPacked does what Sweep does for an attempt at a task that shares a pod: the Job ends
// once nobody wants any of those in it.
func (s *space) sweepPacked(ctx context.Context, job *batchv1.Job, token string) error {
	d := s.driver
	if !d.packs.sweep(job, token) {
		return nil
	}
	var err error
	if jobOver(job) {
		_, err = s.change(ctx, job, map[string]any{"spec": map[string]any{"ttlSecondsAfterFinished": d.keep()}}, nil)
	} else {
		d.log.Info("a Job of whose tasks nobody wants any answered any more is ended", "job", job.Name)
		err = s.delete(ctx, job, metav1.DeletePropagationForeground)
	}
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // gone, or it has changed: perhaps another attempt has a task of it
	}
	return err
}

// sweep notes that nobody wants an attempt, and tells whether that is so for all of its Job.
func (p *packs) sweep(job *batchv1.Job, token string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.unwanted.note(job, token)
}

// sweptGone forgets Jobs that are not there any more.
func (p *packs) sweptGone(there map[types.UID]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for uid := range p.unwanted {
		if !there[uid] {
			delete(p.unwanted, uid)
		}
	}
}
