package server

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/server/auth"
)

// resolvePackage looks up the package of a service among the files of whoever asks for
// it, and says in it whose it is and what it holds: what comes later under its name does
// not change what was accepted. Nobody deploys another owner's.
func (s *Server) resolvePackage(ctx context.Context, owner string, p *navvy.Package) error {
	if p == nil {
		return nil
	}
	if err := p.Validate(); err != nil {
		return err
	}
	if p.Owner != "" && p.Owner != owner {
		return fmt.Errorf("package %s of %s: a service has a package of whoever gives it, which is %s: %w", p, p.Owner, owner, navvy.ErrInvalid)
	}
	if _, err := s.store(); err != nil {
		return fmt.Errorf("package %s: %w", p, err)
	}
	if err := s.publishOf(ctx, owner); err != nil {
		return err
	}
	resp, err := s.statFile(ctx, owner, p.File())
	switch sum := resp.GetFile().GetSha256(); {
	case errors.Is(err, navvy.ErrNotFound):
		return fmt.Errorf("there is no package %s of %s: %w", p, owner, navvy.ErrNotFound)
	case err != nil:
		return fmt.Errorf("package %s: %w", p, err)
	case sum == "":
		return fmt.Errorf("package %s: its file %s has no checksum; put it with navvy package put: %w", p, p.File(), navvy.ErrInvalid)
	case p.SHA256 != "" && p.SHA256 != sum:
		return fmt.Errorf("package %s: it has SHA-256 %s, and not %s: %w", p, sum, p.SHA256, navvy.ErrConflict)
	default:
		p.Owner, p.SHA256 = owner, sum
	}
	return nil
}

// queuePackage is resolvePackage for the service that a queue is given: the package is
// one of the caller's own, and not of those who will send messages.
func (s *Server) queuePackage(ctx context.Context, work *navvyv1.Spec) error {
	if work.GetService().GetPackage() == nil {
		return nil
	}
	spec := api.ToSpec(work)
	if err := s.resolvePackage(ctx, auth.From(ctx).Name, spec.Service.Package); err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	work.GetService().Package = api.FromSpec(&spec).GetService().GetPackage()
	return nil
}

// GetPackage implements the call of that name.
func (s *taskFiles) GetPackage(req *navvyv1.TaskFilesGetPackageRequest, stream grpc.ServerStreamingServer[navvyv1.FilesGetResponse]) error {
	return s.fail(s.getPackage(req, stream))
}

func (s *taskFiles) getPackage(req *navvyv1.TaskFilesGetPackageRequest, stream grpc.ServerStreamingServer[navvyv1.FilesGetResponse]) error {
	ctx := stream.Context()
	if _, err := s.caller(ctx, req.GetAttempt(), ""); err != nil {
		return err
	}
	task, _ := api.ToRef(req.GetAttempt())
	job, _, err := s.mgr.Job(ctx, task.Job)
	if err != nil {
		return err
	}
	if job.Spec.Service == nil || job.Spec.Service.Package == nil {
		return fmt.Errorf("job %s: its tasks have no package: %w", task.Job, navvy.ErrInvalid)
	}
	// What the job was accepted with says whose it is, not the worker.
	p := *job.Spec.Service.Package
	if err := s.resolvePackage(ctx, p.Owner, &p); err != nil {
		return err
	}
	return s.sendFile(stream, p.Owner, &navvyv1.FilesGetRequest{Key: p.File()})
}

// List implements the call of that name.
func (s *taskFiles) List(req *navvyv1.TaskFilesListRequest, stream grpc.ServerStreamingServer[navvyv1.FilesListResponse]) error {
	c, err := s.caller(stream.Context(), req.GetAttempt(), req.GetCall().GetOwner())
	if err == nil {
		err = s.publishOf(stream.Context(), c.owner)
	}
	if err == nil {
		err = s.sendList(stream, c.owner, req.GetCall().GetPrefix())
	}
	return s.fail(err)
}
