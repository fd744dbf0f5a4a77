package container

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
)

// packState says of a Job that tasks share which of those that this navvy had are settled.
type packState struct {
	space *space
	name  string
	uid   types.UID
	all   int             // tasks of the Job
	held  map[string]bool // by token: whether it is settled
}

// strandedAfter is how long a Job is kept after its end of whose tasks some were another
// navvy's, which may be gone: nobody knows whether their results are kept.
const strandedAfter = time.Hour

// addLocked notes what reads a log.
func (p *packs) addLocked(r *packRun) { p.runs[r.uid] = append(p.runs[r.uid], r) }

func (p *packs) remove(r *packRun) {
	p.mu.Lock()
	defer p.mu.Unlock()
	left := slices.DeleteFunc(p.runs[r.uid], func(other *packRun) bool { return other == r })
	if p.runs[r.uid] = left; len(left) == 0 {
		delete(p.runs, r.uid)
	}
}

// holdLocked notes that this navvy has an attempt at a task of a Job.
func (p *packs) holdLocked(s *space, job *batchv1.Job, token string) {
	state := p.jobs[job.UID]
	if state == nil {
		state = &packState{space: s, name: job.Name, uid: job.UID, all: len(packTokens(job)), held: map[string]bool{}}
		p.jobs[job.UID] = state
	}
	state.held[token] = false
	p.tokens[token] = state
}

// settled notes that an attempt is settled. It gives its Job once all are that this navvy
// had there, and tells whether that is all that there are; ok is false if it has none.
func (p *packs) settled(token string) (last *packState, all, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	state := p.tokens[token]
	if state == nil {
		return nil, false, false
	}
	state.held[token] = true
	for _, is := range state.held {
		if !is {
			return nil, false, true
		}
	}
	return state, len(state.held) >= state.all, true
}

// forget drops what is known of a Job that was given its time to live, unless there is more
// to settle by now.
func (p *packs) forget(state *packState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for token, is := range state.held {
		if is {
			delete(state.held, token)
			delete(p.tokens, token)
		}
	}
	if len(state.held) == 0 && p.jobs[state.uid] == state {
		delete(p.jobs, state.uid)
	}
}

// settlePacked does what Settle does for an attempt at a task that shares a pod: the Job may go
// once all of its tasks are settled. It tells false for others.
func (d *Driver) settlePacked(ctx context.Context, token string) (bool, error) {
	state, all, ok := d.packs.settled(token)
	if state == nil {
		return ok, nil
	}
	keep := d.keep()
	if !all {
		keep = seconds(strandedAfter.Seconds())
	}
	if err := state.space.grant(ctx, state.name, state.uid, keep); err != nil {
		return true, err
	}
	d.packs.forget(state)
	return true, nil
}

// grant gives a Job its time to live, in seconds.
func (s *space) grant(ctx context.Context, name string, uid types.UID, keep int64) error {
	patch := fmt.Appendf(nil, `{"metadata":{"uid":%q},"spec":{"ttlSecondsAfterFinished":%d}}`, uid, keep)
	if _, err := s.patch(ctx, name, patch); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("container: Job %s stays: %w", name, err)
	}
	return nil
}

// strand gives a Job of which nobody knows whether all of its tasks are settled a time to live.
func (s *space) strand(ctx context.Context, job *batchv1.Job) error {
	keep := seconds(strandedAfter.Seconds())
	if has := job.Spec.TTLSecondsAfterFinished; has != nil && int64(*has) <= keep {
		return nil
	}
	return s.grant(ctx, job.Name, job.UID, keep)
}

// annotate changes annotations of a Job, if it is there; nil removes one.
func (s *space) annotate(ctx context.Context, name string, uid types.UID, annotations map[string]any) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": uid, "annotations": annotations}})
	if err == nil {
		_, err = s.patch(ctx, name, patch)
	}
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}
