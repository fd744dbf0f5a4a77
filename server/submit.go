package server

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/manager"
)

// jobs implements the Jobs service.
type jobs struct {
	navvyv1.UnimplementedJobsServer
	*Server
}

type submitStream = grpc.BidiStreamingServer[navvyv1.SubmitRequest, navvyv1.SubmitResponse]

// Submit implements the call of that name; api/navvy/v1/jobs.proto describes it.
func (s *jobs) Submit(stream submitStream) error {
	return s.fail(s.submit(stream))
}

func (s *jobs) submit(stream submitStream) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	header := first.GetHeader()
	if header == nil {
		return fmt.Errorf("submit: the first message is no header: %w", navvy.ErrInvalid)
	}
	job := api.ToJob(header.GetJob())
	job.Owner = s.opts.Owner(stream.Context())
	if header.GetStream() && job.Shuffle != 0 {
		return fmt.Errorf("submit: tasks cannot run in a random order before all of them are known: %w", navvy.ErrInvalid)
	}
	sub, id, err := s.mgr.Submit(stream.Context(), job, header.GetStream())
	if errors.Is(err, navvy.ErrExists) && id != "" {
		return s.accepted(stream, header, id, true)
	} else if err != nil {
		return err
	}
	in := &incoming{jobs: s, stream: stream, header: header, sub: sub}
	if !job.Detached {
		leave := s.mgr.AttachClient(sub.Job())
		defer s.leave(stream.Context(), leave)
	}
	if err := in.receive(); err != nil {
		return err
	}
	if job.Detached {
		return nil
	}
	return s.progress(stream.Context(), id, header.GetProgress(), func(st *navvyv1.Status) error {
		return stream.Send(&navvyv1.SubmitResponse{Part: &navvyv1.SubmitResponse_Status{Status: st}})
	})
}

// accepted answers a submit that made no new job.
func (s *jobs) accepted(stream submitStream, header *navvyv1.SubmitHeader, id navvy.JobID, existed bool) error {
	err := stream.Send(&navvyv1.SubmitResponse{Part: &navvyv1.SubmitResponse_Accepted{
		Accepted: &navvyv1.Accepted{Id: string(id), Existed: existed},
	}})
	if err != nil || header.GetJob().GetDetached() {
		return err
	}
	return s.progress(stream.Context(), id, header.GetProgress(), func(st *navvyv1.Status) error {
		return stream.Send(&navvyv1.SubmitResponse{Part: &navvyv1.SubmitResponse_Status{Status: st}})
	})
}

// leave runs what a client's end asks for, when the client is gone.
func (s *Server) leave(ctx context.Context, leave func(context.Context) error) {
	ctx, cancel := afterwards(ctx)
	defer cancel()
	if err := leave(ctx); err != nil {
		s.opts.Logger.Error("cannot hold a job whose client left", "error", err)
	}
}

// incoming is a submission while its inputs come in.
type incoming struct {
	*jobs
	stream submitStream
	header *navvyv1.SubmitHeader
	sub    *manager.Submission
	told   bool // the client knows that the job is accepted
}

// receive takes inputs until the seal.
func (in *incoming) receive() error {
	ctx := in.stream.Context()
	for {
		msg, err := in.stream.Recv()
		if err != nil {
			in.cutOff(ctx)
			if errors.Is(err, io.EOF) {
				return fmt.Errorf("submit: the inputs end without a seal: %w", navvy.ErrInvalid)
			}
			return err
		}
		done, err := in.take(ctx, msg)
		if err != nil {
			in.cutOff(ctx)
			return err
		}
		if done {
			return nil
		}
	}
}

// take acts on one message; done is true after the last.
func (in *incoming) take(ctx context.Context, msg *navvyv1.SubmitRequest) (done bool, err error) {
	switch {
	case msg.GetInputs() != nil:
		if err := in.sub.Add(ctx, msg.GetInputs().GetInputs()...); err != nil {
			return false, err
		}
		if !in.header.GetStream() {
			return false, nil
		}
		if err := in.sub.Flush(ctx, true); err != nil {
			return false, err
		}
		return false, in.tell()
	case msg.GetSeal() != nil:
		if err := in.sub.Seal(ctx); err != nil {
			return false, err
		}
		return true, in.tell()
	case msg.GetAbort() != nil:
		why := msg.GetAbort().GetWhy()
		if err := in.sub.Abort(ctx, why); err != nil {
			return false, err
		}
		return true, fmt.Errorf("submit: given up: %s: %w", why, navvy.ErrInvalid)
	default:
		return false, fmt.Errorf("submit: a message carries nothing that is known: %w", navvy.ErrInvalid)
	}
}

// tell acknowledges what is durable.
func (in *incoming) tell() error {
	if !in.told {
		in.told = true
		return in.stream.Send(&navvyv1.SubmitResponse{Part: &navvyv1.SubmitResponse_Accepted{
			Accepted: &navvyv1.Accepted{Id: string(in.sub.Job().ID)},
		}})
	}
	return in.stream.Send(&navvyv1.SubmitResponse{Part: &navvyv1.SubmitResponse_Durable{Durable: in.sub.State().Total}})
}

// cutOff settles a submission that ends without a seal. While the manager
// drains, the client is about to go on elsewhere, and the next start settles it.
func (in *incoming) cutOff(ctx context.Context) {
	ctx, cancel := afterwards(ctx)
	defer cancel()
	if err := in.sub.CutOff(ctx); err != nil {
		in.opts.Logger.Error("cannot settle a submission that was cut off", "job", in.sub.Job().ID, "error", err)
	}
}
