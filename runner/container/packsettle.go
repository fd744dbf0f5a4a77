package container

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// packState says of a Job that tasks share which of those that this navvy had are settled.
type packState struct {
	space *space
	name  string
	uid   types.UID
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
		state = &packState{space: s, name: job.Name, uid: job.UID, held: map[string]bool{}}
		p.jobs[job.UID] = state
	}
	state.held[token] = false
	p.tokens[token] = state
}

// settled notes that an attempt is settled. It gives its Job once all are that this navvy
// had there; ok is false if it has none.
func (p *packs) settled(token string) (last *packState, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	state := p.tokens[token]
	if state == nil {
		return nil, false
	}
	state.held[token] = true
	for _, is := range state.held {
		if !is {
			return nil, true
		}
	}
	return state, true
}

// hasAll tells whether this navvy has had all tasks of a Job, as it is now.
func (p *packs) hasAll(job *batchv1.Job) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, token := range packTokens(job) {
		if !p.hasLocked(job.UID, token) {
			return false
		}
	}
	return true
}

// hasLocked tells whether an attempt with a task of a Job is or was this navvy's, or nobody's.
func (p *packs) hasLocked(uid types.UID, token string) bool {
	if p.unwanted[uid][token] {
		return true
	}
	if p.jobs[uid] == nil {
		return false
	}
	_, has := p.jobs[uid].held[token]
	return has
}

// othersHave tells whether a Job has tasks that are another navvy's. As long as nobody has taken
// any over, all are those of whoever made it, or of its successor.
func (p *packs) othersHave(job *batchv1.Job) bool { return adopted(job) && !p.hasAll(job) }

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
	state, ok := d.packs.settled(token)
	if state == nil {
		return ok, nil
	}
	if err := d.grantPacked(ctx, state); err != nil {
		return true, err
	}
	d.packs.forget(state)
	return true, nil
}

// grantPacked gives a Job whose tasks are settled, as far as they were this navvy's, its time to
// live. What the watch says of it is believed only if the server confirms it: another navvy
// that has taken a task over may be reading its log.
func (d *Driver) grantPacked(ctx context.Context, state *packState) error {
	s := state.space
	job, _ := s.look(state.name)
	for {
		if job == nil || job.UID != state.uid {
			var err error
			job, err = s.get(ctx, state.name)
			switch {
			case apierrors.IsNotFound(err), err == nil && job.UID != state.uid:
				return nil
			case err != nil:
				return fmt.Errorf("container: Job %s stays: %w", state.name, err)
			}
		}
		keep := d.keep()
		all := d.packs.hasAll(job)
		if !all {
			keep = seconds(strandedAfter.Seconds())
		}
		_, err := s.change(ctx, job, map[string]any{"spec": map[string]any{"ttlSecondsAfterFinished": keep}}, nil)
		switch {
		case err == nil, apierrors.IsNotFound(err):
			if !all && !jobOver(job) {
				d.stray()
			}
			return nil
		case !apierrors.IsConflict(err):
			return fmt.Errorf("container: Job %s stays: %w", state.name, err)
		}
		job = nil // it has changed
	}
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

// change changes a Job as it was seen, and its annotations; nil removes one. The error is a
// conflict if the Job has changed since.
func (s *space) change(ctx context.Context, job *batchv1.Job, fields, annotations map[string]any) (*batchv1.Job, error) {
	metadata := map[string]any{"uid": job.UID, "resourceVersion": job.ResourceVersion}
	if annotations != nil {
		metadata["annotations"] = annotations
	}
	all := map[string]any{"metadata": metadata}
	maps.Copy(all, fields)
	patch, err := json.Marshal(all)
	if err != nil {
		return nil, err
	}
	return s.patch(ctx, job.Name, patch)
}

// takeOff takes tasks off their Job, if it is there and they still have their places. If it
// then has none, nobody would look for it any more, and it is deleted.
func (s *space) takeOff(ctx context.Context, name string, uid types.UID, list []*member) error {
	for {
		job, err := s.get(ctx, name)
		if apierrors.IsNotFound(err) || err == nil && job.UID != uid {
			return nil
		}
		if err == nil {
			err = s.without(ctx, job, list)
		}
		if !apierrors.IsConflict(err) {
			if apierrors.IsNotFound(err) {
				return nil
			}
			return err
		}
	}
}

// without is one try to take tasks off a Job as it was seen.
func (s *space) without(ctx context.Context, job *batchv1.Job, list []*member) error {
	off := map[string]any{}
	for _, m := range list {
		if name := taskAnnotation(m.task.ID.Index); job.Annotations[name] == m.task.Token {
			off[name] = nil
		}
	}
	if len(off) > 0 {
		var err error
		if job, err = s.change(ctx, job, nil, off); err != nil {
			return err
		}
	}
	if len(packTokens(job)) > 0 || job.DeletionTimestamp != nil {
		return nil
	}
	return s.delete(ctx, job, metav1.DeletePropagationForeground)
}
