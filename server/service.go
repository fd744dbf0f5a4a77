package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

// resolveService finds the service of a job that leaves it to its queue. What the job says
// besides, of limits, retries and the rest, takes the place of what the queue says.
func (s *Server) resolveService(ctx context.Context, asked *navvyv1.Spec, job *navvy.Job) error {
	switch v := job.Spec.Service; {
	case v == nil:
		return nil
	case v.Form != "":
		if found, err := s.firstPackage(ctx, job); found || err != nil {
			return err
		}
		return s.resolvePackage(ctx, job.Owner, v.Package)
	case v.Package != nil:
		return fmt.Errorf("submit: the service of a queue has the package that the queue says, and no other: %w", navvy.ErrInvalid)
	}
	if found, err := s.firstWork(ctx, job); found || err != nil {
		return err
	}
	work, err := s.queueWork(ctx, job.Queue)
	if err != nil {
		return err
	}
	own, ok := proto.Clone(asked).(*navvyv1.Spec)
	if !ok {
		return fmt.Errorf("submit: a spec that is none: %w", navvy.ErrInvalid)
	}
	own.Kind = nil
	proto.Merge(work, own)
	job.Spec = api.ToSpec(work)
	return nil
}

// firstWork gives a job that is submitted once more the work of the first one with its
// idempotency key, and tells whether there is one: the service of their queue may have
// changed since.
func (s *Server) firstWork(ctx context.Context, job *navvy.Job) (found bool, err error) {
	first, err := s.firstService(ctx, job)
	if err != nil || first == nil || first.Queue != cmp.Or(job.Queue, navvy.DefaultQueue) {
		return false, err // something else is told later
	}
	job.Spec = first.Spec
	return true, nil
}

// firstPackage is firstWork for a job that names its package, which may have been removed
// since, or have become another.
func (s *Server) firstPackage(ctx context.Context, job *navvy.Job) (found bool, err error) {
	p := job.Spec.Service.Package
	if p == nil {
		return false, nil
	}
	first, err := s.firstService(ctx, job)
	if err != nil || first == nil || first.Spec.Service.Package == nil {
		return false, err
	}
	// What is the queue's, and not the caller's own, is for nobody to name.
	was := *first.Spec.Service.Package
	same := p.String() == was.String() && cmp.Or(p.Owner, was.Owner) == was.Owner && cmp.Or(p.SHA256, was.SHA256) == was.SHA256
	if !same || was.Owner != job.Owner {
		return false, nil
	}
	*p = was
	return true, nil
}

// firstService is the first job with the idempotency key of a job; nil if there is none, or
// it has no service.
func (s *Server) firstService(ctx context.Context, job *navvy.Job) (*navvy.Job, error) {
	if job.IdempotencyKey == "" {
		return nil, nil //nolint:nilnil // there is none
	}
	id, err := s.eng.First(ctx, job.Owner, job.IdempotencyKey)
	var first *navvy.Job
	if err == nil {
		first, _, err = s.mgr.Job(ctx, id)
	}
	if errors.Is(err, navvy.ErrNotFound) || err == nil && first.Spec.Service == nil {
		return nil, nil //nolint:nilnil // likewise, or it was removed meanwhile
	}
	return first, err
}

// queueWork is what is done with the messages of a queue, as a message of the caller's own.
func (s *Server) queueWork(ctx context.Context, name string) (*navvyv1.Spec, error) {
	if name == "" {
		name = navvy.DefaultQueue
	}
	r, err := s.queueRecord(ctx, name)
	if err != nil {
		return nil, err
	}
	if r != nil {
		if work, err := r.work(); work != nil || err != nil {
			return work, err
		}
	}
	return nil, fmt.Errorf("queue %s has no service that answers: an administrator gives it one with navvy queue set %s --service: %w", name, name, navvy.ErrNotFound)
}
