package container

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/navvy-run/navvy/internal/pause"
	"github.com/navvy-run/navvy/runner/driver"
)

// longestAway is the longest pause between tries to reach an API server that is away, for
// each of the attempts that wait for it.
const longestAway = 15 * time.Second

// doubtFor is how long a refusal for want of rights is doubted: an API server that has just
// started refuses all, until it has read the roles.
const doubtFor = 5 * time.Second

// obtain makes the Job of an attempt, or takes the one of its name.
func (s *space) obtain(ctx context.Context, t *driver.Task, job *batchv1.Job) (*batchv1.Job, error) {
	return s.build(ctx, job.Name, t.Token, t.Spec.Timeout, func() (*batchv1.Job, error) { return s.createOrAdopt(ctx, t, job) })
}

// build has a Job made, once there is room for it. While the API server is away, or has too
// much to do, it tries again: that is no fault of the task, and the name finds what was made
// by a try whose answer was lost. If ctx ends first, what may have been made is removed.
func (s *space) build(ctx context.Context, name, token string, timeout time.Duration, try func() (*batchv1.Job, error)) (*batchv1.Job, error) {
	tries := tries{pauses: pause.Series{First: firstPause, Longest: longestAway}}
	defer s.driver.delays.failed(token, nil)
	for {
		err := s.driver.room.enter(ctx, keyOf(s.namespace, name), token, patienceOf(timeout))
		if err == nil {
			var made *batchv1.Job
			if made, err = try(); err == nil {
				return made, nil
			}
			if !tries.again(err) {
				return nil, denied(err)
			}
			if tries.unsure > 0 {
				s.driver.delays.failed(token, err)
			}
			if tries.unsure == 1 && ctx.Err() == nil {
				s.driver.log.Warn("a Job is not made yet; it is tried again", "job", name, "err", err)
			}
			if tries.pauses.Wait(ctx) == nil {
				continue
			}
		}
		if tries.unsure > 0 {
			s.abandon(name, token)
		}
		return nil, err
	}
}

// tries are those to make one Job.
type tries struct {
	pauses  pause.Series
	unsure  int       // how many may have made it, or not
	refused time.Time // since when rights are wanting; zero if they are not
}

// again tells whether a try that failed is worth another one.
func (r *tries) again(err error) bool {
	switch {
	case errors.Is(err, errGoing):
		return true
	case passing(err):
		r.unsure++
		return true
	case !apierrors.IsForbidden(err):
		return false
	}
	if r.refused.IsZero() {
		r.refused = time.Now()
	}
	return time.Since(r.refused) < doubtFor
}

// createOrAdopt is one try. errGoing says that an earlier Job of that name is on its way out.
func (s *space) createOrAdopt(ctx context.Context, t *driver.Task, job *batchv1.Job) (*batchv1.Job, error) {
	made, err := s.create(ctx, job)
	if apierrors.IsAlreadyExists(err) {
		return s.adopt(ctx, t, job.Name)
	}
	return made, err
}

// passing tells whether an error of a call says nothing about what was asked for: the API
// server is away, does not answer in time, or has too much to do; or there is no room for
// now. The same call may go well later.
func passing(err error) bool {
	if err == nil {
		return false
	}
	if _, refused := errors.AsType[*driver.Refusal](err); refused {
		return false
	}
	if _, away := errors.AsType[*driver.Away](err); away {
		return false // the whole attempt may be made again, later
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return true // it did not answer
	}
	return !slices.Contains(final, apierrors.ReasonForError(err)) || apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota")
}

// final are the reasons of errors that stay as they are.
var final = []metav1.StatusReason{
	metav1.StatusReasonInvalid, metav1.StatusReasonBadRequest, metav1.StatusReasonRequestEntityTooLarge, metav1.StatusReasonForbidden,
	metav1.StatusReasonNotFound, metav1.StatusReasonMethodNotAllowed, metav1.StatusReasonNotAcceptable, metav1.StatusReasonUnsupportedMediaType,
}

// abandon removes what is left of an attempt that has not begun and will not: perhaps a Job.
// A call that was given up may still be carried out, so it looks more than once.
func (s *space) abandon(name, token string) {
	d := s.driver
	d.chores.do(func() {
		for range 2 {
			d.insist(func(ctx context.Context) error { return s.removeOwn(ctx, name, token) }, "job", name)
			if pause.For(d.ctx, behind) != nil {
				return
			}
		}
	})
}

// removeOwn deletes the Job of a name, if the attempt with that token has it.
func (s *space) removeOwn(ctx context.Context, name, token string) error {
	job, err := s.get(ctx, name)
	if err == nil && job.Annotations[annotationAttempt] == token {
		err = s.delete(ctx, job, metav1.DeletePropagationBackground)
	}
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// insist does something again and again until it goes well, is refused for good, or the driver is closed.
func (d *Driver) insist(do func(context.Context) error, what ...any) {
	pauses := pause.Series{First: firstPause, Longest: longestAway}
	for err := do(d.ctx); passing(err); err = do(d.ctx) {
		d.log.Warn("a Job that is to end goes on for now; it is tried again", append(what, "err", err)...)
		if pauses.Wait(d.ctx) != nil {
			return
		}
	}
}
