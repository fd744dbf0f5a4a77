package server

import (
	"context"
	"time"

	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/engine"
)

// progress sends where the job stands until nothing of it goes on; the last
// status always, earlier ones if they are wanted, at most one each progressEvery,
// and those that say what keeps it from going on.
// As long as inputs come in, the job goes on, unless it is stopped; in is nil if none do.
func (s *jobs) progress(ctx context.Context, id navvy.JobID, wanted bool, in *incoming, send func(*navvyv1.Status) error) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	on := s.lookOn(ctx, id)
	defer on.end()
	due := true
	waiting := "" // what the client was last told that the job waits for
	for {
		over := in.coming()
		changed := s.mgr.Changes(id)
		st, settled, err := s.mgr.Settled(ctx, id)
		if err != nil {
			return err
		}
		settled = !in.goesOn(over, &st) && settled
		on.add(&st)
		if settled || wanted && due || st.Waiting != waiting {
			if err := send(api.FromStatus(&st)); err != nil || settled {
				return err
			}
			due, waiting = false, st.Waiting
			timer.Reset(progressEvery)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
			due = true
		case <-over:
		case <-changed:
		case on.words = <-on.told:
		}
	}
}

// goesOn tells whether inputs still come, until over is closed; those of a job that
// has ended nobody wants.
func (in *incoming) goesOn(over <-chan struct{}, st *navvy.Status) bool {
	if over != nil && !st.Finished.IsZero() {
		in.halt(errHalted)
	}
	return over != nil
}

// coming gives a channel that is closed when no more inputs come; nil if none do.
func (in *incoming) coming() <-chan struct{} {
	if in == nil {
		return nil
	}
	select {
	case <-in.over:
		return nil
	default:
		return in.over
	}
}

// Watch implements the call of that name.
func (s *jobs) Watch(req *navvyv1.WatchRequest, stream grpc.ServerStreamingServer[navvyv1.Status]) error {
	id, err := s.own(stream.Context(), req.GetId())
	if err != nil {
		return s.fail(err)
	}
	return s.fail(s.progress(stream.Context(), id, req.GetProgress(), nil, stream.Send))
}

// Resume implements the call of that name.
func (s *jobs) Resume(req *navvyv1.ResumeRequest, stream grpc.ServerStreamingServer[navvyv1.Status]) error {
	return s.fail(s.resume(req, stream))
}

func (s *jobs) resume(req *navvyv1.ResumeRequest, stream grpc.ServerStreamingServer[navvyv1.Status]) error {
	ctx := stream.Context()
	id, err := s.change(ctx, req.GetId(), navvyv1.Jobs_Resume_FullMethodName)
	if err != nil {
		return err
	}
	if req.GetAttach() {
		job, _, err := s.mgr.Job(ctx, id)
		if err != nil {
			return err
		}
		defer s.leave(ctx, s.mgr.AttachClient(job))
	}
	st, err := s.mgr.Resume(ctx, id, engine.ResumeOptions{Attached: req.GetAttach(), Parallelism: int(req.GetParallelism())})
	if err != nil {
		return err
	}
	if err := stream.Send(api.FromStatus(&st)); err != nil || !req.GetAttach() {
		return err
	}
	return s.progress(ctx, id, req.GetProgress(), nil, stream.Send)
}
