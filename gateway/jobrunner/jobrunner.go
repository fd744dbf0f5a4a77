package jobrunner

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/gateway/jobid"
	"github.com/navvy-run/navvy/gateway/jobrunner/apis"
	"github.com/navvy-run/navvy/output"
	"github.com/navvy-run/navvy/server/auth"
)

// Gateway serves apis.JobRunner. Its methods may be called at once.
type Gateway struct {
	apis.UnimplementedJobRunnerServer
	jobs   *client.Client
	levels Levels
}

var _ apis.JobRunnerServer = (*Gateway)(nil)

// Options are the settings of a Gateway.
type Options struct {
	// Levels are what a client can ask for. Defaults to DefaultLevels.
	Levels Levels
}

// New makes a gateway to the server that conn leads to. Calls on conn are made with
// the context of the call that comes in, and must be taken as those of whom
// auth.From names in it.
func New(conn grpc.ClientConnInterface, opts *Options) *Gateway {
	g := &Gateway{jobs: client.New(conn), levels: DefaultLevels()}
	if opts != nil && opts.Levels != nil {
		g.levels = opts.Levels
	}
	return g
}

// Register adds the service to a registrar, whose calls auth.Gate has let in.
func (g *Gateway) Register(r grpc.ServiceRegistrar) { apis.RegisterJobRunnerServer(r, g) }

// fail turns an error into what the caller is told. The server has logged its own.
func fail(err error) error { return api.ToWire(err, func(err error) string { return err.Error() }) }

// found tells of a job that is not there under the name that the caller has for it.
func found(err error, id *apis.JobId) error {
	if errors.Is(err, navvy.ErrNotFound) {
		err = jobid.NotFound(id.GetId())
	}
	return fail(err)
}

// Start implements the call of that name: a detached job of one command, which is taken
// as it is. It returns when the job is durable.
func (g *Gateway) Start(ctx context.Context, req *apis.JobStart) (*apis.JobId, error) {
	spec, err := g.spec(auth.From(ctx), req)
	if err != nil {
		return nil, fail(err)
	}
	id, err := g.submit(ctx, navvy.Job{Name: "jobrunner", Detached: true, Spec: spec})
	if err != nil {
		return nil, fail(err)
	}
	return &apis.JobId{Id: jobid.JobRunner.UUID(id)}, nil
}

// spec is what somebody asks for.
func (g *Gateway) spec(me auth.Identity, req *apis.JobStart) (navvy.Spec, error) {
	level, ok := g.levels[req.GetLevel()]
	if !ok {
		return navvy.Spec{}, fmt.Errorf("start: there is no level %d: %w", req.GetLevel(), navvy.ErrInvalid)
	}
	if level.Role != auth.RoleNobody && me.Role != level.Role {
		return navvy.Spec{}, fmt.Errorf("start: the level %s is for the role %s, and %s has the role %s; ask for another level, or an administrator: %w",
			req.GetLevel(), level.Role, me.Name, me.Role, navvy.ErrDenied)
	}
	if req.GetCmd() == "" {
		return navvy.Spec{}, fmt.Errorf("start: cmd is empty: %w", navvy.ErrInvalid)
	}
	spec := navvy.Spec{
		Command: &navvy.Command{Args: append([]string{req.GetCmd()}, req.GetArgs()...), Literal: true},
		Limits:  level.Limits, Isolate: level.Isolate, Network: level.Network,
	}
	return spec, spec.Validate()
}

// submit makes a job of one task.
func (g *Gateway) submit(ctx context.Context, job navvy.Job) (navvy.JobID, error) {
	sub, err := g.jobs.Submit(ctx, job, client.SubmitOptions{})
	if err != nil {
		return "", err
	}
	defer sub.Close()
	if err := errors.Join(sub.Send([][]byte{nil}), sub.Seal()); err != nil {
		return "", err
	}
	id, _, err := sub.Accepted(ctx)
	return id, err
}

// Stop implements the call of that name. When it returns the job has ended, so that
// Query tells so; when the client goes before that, the job is stopped nevertheless.
func (g *Gateway) Stop(ctx context.Context, req *apis.JobId) (*apis.JobStopResponse, error) {
	id, err := jobid.JobRunner.Job(req.GetId())
	if err != nil {
		return nil, fail(err)
	}
	if _, err := g.jobs.Stop(ctx, id, "stopped by "+auth.From(ctx).Name); err != nil {
		return nil, found(err, req)
	}
	if _, err := g.jobs.Wait(ctx, id); err != nil {
		return nil, found(err, req)
	}
	return &apis.JobStopResponse{}, nil
}

// Query implements the call of that name.
func (g *Gateway) Query(ctx context.Context, req *apis.JobId) (*apis.JobStatus, error) {
	id, err := jobid.JobRunner.Job(req.GetId())
	if err != nil {
		return nil, fail(err)
	}
	job, err := g.jobs.Get(ctx, id)
	if err != nil {
		return nil, found(err, req)
	}
	return &apis.JobStatus{Id: &apis.JobId{Id: jobid.JobRunner.UUID(id)}, Status: state(job.Status.State())}, nil
}

// state is a job's state in that system's words.
func state(s navvy.State) apis.JobState {
	switch s {
	case navvy.Succeeded:
		return apis.JobState_COMPLETED
	case navvy.Failed:
		return apis.JobState_FAILED
	case navvy.Stopped:
		return apis.JobState_STOPPED
	default:
		return apis.JobState_INPROGRESS
	}
}

// StreamOutput implements the call of that name. Of a job that had to run again, since
// its worker was lost, the output of each attempt follows that of the one before.
func (g *Gateway) StreamOutput(req *apis.JobId, stream grpc.ServerStreamingServer[apis.JobStream]) error {
	id, err := jobid.JobRunner.Job(req.GetId())
	if err != nil {
		return fail(err)
	}
	err = g.jobs.Output(stream.Context(), navvy.TaskID{Job: id}, client.OutputOptions{Follow: true}, client.OutputSink{
		Write: func(_ output.Stream, p []byte) error { return stream.Send(&apis.JobStream{Output: p}) },
	})
	return found(err, req)
}
