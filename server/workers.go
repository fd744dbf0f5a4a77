package server

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/manager"
)

// workers implements the Workers service.
type workers struct {
	navvyv1.UnimplementedWorkersServer
	*Server
}

type workStream = grpc.BidiStreamingServer[navvyv1.WorkRequest, navvyv1.WorkResponse]

// Work implements the call of that name.
func (s *workers) Work(stream workStream) error {
	return s.fail(s.work(stream))
}

func (s *workers) work(stream workStream) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	if hello == nil {
		return fmt.Errorf("work: the first message is no hello: %w", navvy.ErrInvalid)
	}
	session := s.mgr.Attach(manager.Worker{
		Name: hello.GetName(), Kinds: hello.GetKinds(), Slots: int(hello.GetSlots()), Keeps: hello.GetKeeps(),
		Abilities: api.ToAbilities(hello.GetAbilities()),
	})
	defer session.Close()
	welcome := &navvyv1.Welcome{}
	if lease := s.mgr.Lease(); lease > 0 {
		welcome.Lease = durationpb.New(lease)
	}
	if err := stream.Send(&navvyv1.WorkResponse{Welcome: welcome}); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(stream.Context())
	g.Go(func() error { return sendWork(ctx, session, stream) })
	g.Go(func() error {
		defer session.Close()
		return receiveReports(ctx, session, stream)
	})
	if err := g.Wait(); !errors.Is(err, io.EOF) && !errors.Is(err, navvy.ErrClosed) {
		return err
	}
	return nil
}

// receiveReports takes what the worker says.
func receiveReports(ctx context.Context, session *manager.Session, stream workStream) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		if len(m.GetAlive()) > 0 {
			refs := make([]manager.Ref, len(m.GetAlive()))
			for i, r := range m.GetAlive() {
				refs[i].Task, refs[i].Attempt = api.ToRef(r)
			}
			session.Alive(refs)
		}
		if len(m.GetReports()) == 0 {
			continue
		}
		finished := make([]manager.Finished, len(m.GetReports()))
		for i, r := range m.GetReports() {
			finished[i].Task = navvy.TaskID{Job: navvy.JobID(r.GetJob()), Index: r.GetIndex()}
			finished[i].Attempt = api.ToAttempt(r.GetAttempt())
		}
		if err := session.Done(ctx, finished); err != nil {
			return err
		}
	}
}

// sendWork passes on what the manager decides.
func sendWork(ctx context.Context, session *manager.Session, stream workStream) error {
	var known workJobs
	var work manager.Work
	for {
		if err := session.Next(ctx, &work); err != nil {
			return err
		}
		if err := stream.Send(known.message(&work)); err != nil {
			return err
		}
	}
}

// workJobs keeps the messages of jobs, which are the same each time.
type workJobs map[navvy.JobID]*navvyv1.WorkJob

const maxWorkJobs = 256

func (w *workJobs) get(j *navvy.Job) *navvyv1.WorkJob {
	m := (*w)[j.ID]
	if m == nil {
		if *w == nil || len(*w) >= maxWorkJobs {
			*w = workJobs{}
		}
		m = &navvyv1.WorkJob{Id: string(j.ID), Spec: api.FromSpec(&j.Spec), Format: navvyv1.InputFormat(j.Format)}
		(*w)[j.ID] = m
	}
	return m
}

func (w *workJobs) message(work *manager.Work) *navvyv1.WorkResponse {
	m := &navvyv1.WorkResponse{Assignments: make([]*navvyv1.Assignment, 0, len(work.Assignments))}
	assignments := make([]navvyv1.Assignment, len(work.Assignments))
	places := map[navvy.JobID]int32{}
	for i := range work.Assignments {
		a := &work.Assignments[i]
		place, ok := places[a.Job.ID]
		if !ok {
			place = int32(len(m.Jobs))
			places[a.Job.ID] = place
			m.Jobs = append(m.Jobs, w.get(a.Job))
		}
		to := &assignments[i]
		to.Job, to.Index, to.Number, to.Epoch = place, a.Index, a.Attempt.Number, a.Attempt.Epoch
		to.Slot, to.Input, to.Watch = int32(a.Slot), a.Input, a.Watch
		m.Assignments = append(m.Assignments, to)
	}
	for _, s := range work.Stops {
		m.Stops = append(m.Stops, &navvyv1.StopAttempt{Attempt: api.FromRef(s.Task, s.Attempt), Force: s.Force})
	}
	for _, r := range work.Watch {
		m.Watch = append(m.Watch, api.FromRef(r.Task, r.Attempt))
	}
	for _, s := range work.Settled {
		m.Settled = append(m.Settled, &navvyv1.Settled{Attempt: api.FromRef(s.Task, s.Attempt), Refused: s.Refused})
	}
	return m
}

// WriteOutput implements the call of that name.
func (s *workers) WriteOutput(stream grpc.BidiStreamingServer[navvyv1.WriteOutputRequest, navvyv1.WriteOutputResponse]) error {
	return s.fail(s.writeOutput(stream))
}

func (s *workers) writeOutput(stream grpc.BidiStreamingServer[navvyv1.WriteOutputRequest, navvyv1.WriteOutputResponse]) error {
	var out *manager.OutputWriter
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if m.GetAttempt() != nil {
			task, attempt := api.ToRef(m.GetAttempt())
			if out, err = s.mgr.WriteOutput(manager.Ref{Task: task, Attempt: attempt}); err != nil {
				return err
			}
		}
		if out == nil {
			return fmt.Errorf("output: the first message names no attempt: %w", navvy.ErrInvalid)
		}
		taken, err := out.Append(stream.Context(), m.GetFrames())
		if err != nil {
			return err
		}
		if err := stream.Send(&navvyv1.WriteOutputResponse{Taken: taken}); err != nil {
			return err
		}
	}
}
