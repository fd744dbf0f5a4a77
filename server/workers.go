package server

import (
	"context"
	"errors"
	"fmt"
	"io"

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
	session, err := s.attach(stream.Context(), hello)
	if err != nil {
		return err
	}
	defer session.Close()
	welcome := &navvyv1.Welcome{Name: session.Name()}
	if lease := s.mgr.Lease(); lease > 0 {
		welcome.Lease, welcome.Heartbeat = durationpb.New(lease), durationpb.New(lease/beatsInLease)
		welcome.IdleHeartbeat = durationpb.New(s.mgr.Silence() / beatsInLease)
	}
	if hello.GetReturns() { // others are in this process, and have no share of their own
		welcome.Share = s.shareID(stream.Context())
	}
	if err := stream.Send(&navvyv1.WorkResponse{Welcome: welcome}); err != nil {
		return err
	}
	defer s.strikeLeft(stream.Context(), session, hello.GetReturns())
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	go func() { // until the call ends: Recv waits for nothing else
		defer session.Close()
		cancel(s.receive(ctx, session, stream, hello.GetReturns()))
	}()
	if err := sendWork(ctx, session, stream); !errors.Is(err, io.EOF) && !errors.Is(err, navvy.ErrClosed) {
		return err
	}
	return nil
}

// beatsInLease is how many heartbeats a worker may miss before its lease has ended.
const beatsInLease = 2

// strikeLeft takes a worker off the roster whose session ends because it leaves.
func (s *workers) strikeLeft(ctx context.Context, session *manager.Session, returns bool) {
	if !returns || !session.Left() {
		return
	}
	ctx, cancel := afterwards(ctx)
	defer cancel()
	if err := s.strike(ctx, session.Name()); err != nil {
		s.opts.Logger.Error("cannot note that a worker has left", "worker", session.Name(), "error", err)
	}
}

// attach begins the session that a worker asks for.
func (s *workers) attach(ctx context.Context, hello *navvyv1.Hello) (*manager.Session, error) {
	info := manager.Worker{
		Name: workerName(ctx, hello.GetName()), Kinds: hello.GetKinds(), Slots: int(hello.GetSlots()), Keeps: hello.GetKeeps(),
		Abilities: api.ToAbilities(hello.GetAbilities()), Returns: hello.GetReturns(), Version: hello.GetVersion(),
		Offer: api.ToOffer(hello.GetOffer()), SingleOwner: hello.GetSingleOwner(), Process: hello.GetProcess(),
	}
	if err := info.Offer.Validate(); err != nil {
		return nil, fmt.Errorf("worker %s: %w", info.Name, err)
	}
	if !info.Returns {
		return s.mgr.Attach(info), nil
	}
	if err := s.enroll(ctx, &info); err != nil {
		return nil, err
	}
	held := make([]manager.Held, len(hello.GetHeld()))
	for i, h := range hello.GetHeld() {
		held[i].Task, held[i].Attempt = api.ToRef(h.GetAttempt())
		held[i].Slot = int(h.GetSlot())
	}
	session, err := s.mgr.Return(ctx, info, held)
	if errors.Is(err, navvy.ErrExists) {
		s.opts.Logger.Warn("a second process comes under the name of a worker, and is refused", "worker", info.Name, "error", err)
	}
	return session, err
}

// receive takes what the worker says.
func (s *workers) receive(ctx context.Context, session *manager.Session, stream workStream, returns bool) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		if k := m.GetKinds(); k != nil {
			if err := s.learn(ctx, session, k, returns); err != nil {
				return err
			}
		}
		if m.GetLeaving() {
			session.Leave()
		}
		if m.GetWant() > 0 {
			if err := session.Want(ctx, int(m.GetWant())); err != nil {
				return err
			}
		}
		for _, e := range m.GetExplanations() {
			task, attempt := api.ToRef(e.GetAttempt())
			session.Explained(manager.Ref{Task: task, Attempt: attempt}, e.GetWaiting())
		}
		if m.GetBeat() || len(m.GetAlive()) > 0 {
			refs := make([]manager.Ref, len(m.GetAlive()))
			for i, r := range m.GetAlive() {
				refs[i].Task, refs[i].Attempt = api.ToRef(r)
			}
			session.Alive(refs)
		}
		if err := receiveReports(ctx, session, m.GetReports()); err != nil {
			return err
		}
	}
}

// learn notes that a worker runs something else than it has said.
func (s *workers) learn(ctx context.Context, session *manager.Session, k *navvyv1.Kinds, returns bool) error {
	session.Offers(k.GetKinds(), api.ToAbilities(k.GetAbilities()))
	if !returns {
		return nil
	}
	return s.reroll(ctx, session.Name(), func(r *rostered) bool {
		known := !r.Joined.IsZero() // else it was removed
		r.Kinds = k.GetKinds()
		return known
	})
}

// receiveReports takes what a worker says of attempts that have ended.
func receiveReports(ctx context.Context, session *manager.Session, reports []*navvyv1.Report) error {
	if len(reports) == 0 {
		return nil
	}
	finished := make([]manager.Finished, len(reports))
	for i, r := range reports {
		finished[i].Task = navvy.TaskID{Job: navvy.JobID(r.GetJob()), Index: r.GetIndex()}
		finished[i].Attempt = api.ToAttempt(r.GetAttempt())
	}
	return session.Done(ctx, finished)
}

// sendWork passes on what the manager decides.
func sendWork(ctx context.Context, session *manager.Session, stream workStream) error {
	var known workJobs
	var work manager.Work
	for {
		if err := session.Next(ctx, &work); err != nil {
			return err
		}
		for more := true; more; {
			n := together(work.Assignments)
			rest := work.Assignments[n:]
			work.Assignments = work.Assignments[:n]
			if err := stream.Send(known.message(&work)); err != nil {
				return err
			}
			if more = len(rest) > 0; more {
				work = manager.Work{Assignments: rest}
			}
		}
	}
}

// maxInputs bounds the inputs of one message, in bytes; a single one may be longer.
const maxInputs = 4 << 20

// together is how many assignments go into one message.
func together(list []manager.Assignment) int {
	bytes := 0
	for i := range list {
		if bytes += len(list[i].Input); bytes > maxInputs && i > 0 {
			return i
		}
	}
	return len(list)
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
		m = &navvyv1.WorkJob{Id: string(j.ID), Spec: api.FromSpec(&j.Spec), Format: navvyv1.InputFormat(j.Format), Owner: j.Owner}
		(*w)[j.ID] = m
	}
	return m
}

func (w *workJobs) message(work *manager.Work) *navvyv1.WorkResponse {
	m := &navvyv1.WorkResponse{Assignments: make([]*navvyv1.Assignment, 0, len(work.Assignments)), Drain: work.Drain}
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
		to.Slot, to.Input, to.Watch, to.Round, to.Failed = int32(a.Slot), a.Input, a.Watch, a.Round, a.Failed
		m.Assignments = append(m.Assignments, to)
	}
	for _, s := range work.Stops {
		m.Stops = append(m.Stops, &navvyv1.StopAttempt{Attempt: api.FromRef(s.Task, s.Attempt), Force: s.Force})
	}
	for _, r := range work.Watch {
		m.Watch = append(m.Watch, api.FromRef(r.Task, r.Attempt))
	}
	for _, r := range work.Explain {
		m.Explain = append(m.Explain, api.FromRef(r.Task, r.Attempt))
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
			if out, err = s.mgr.WriteOutput(workerName(stream.Context(), ""), manager.Ref{Task: task, Attempt: attempt}); err != nil {
				return err
			}
		}
		if out == nil {
			return fmt.Errorf("output: the first message names no attempt: %w", navvy.ErrInvalid)
		}
		taken := out.Taken()
		if len(m.GetFrames()) > 0 {
			if taken, err = out.Append(stream.Context(), m.GetFrames()); err != nil {
				return err
			}
		}
		if err := stream.Send(&navvyv1.WriteOutputResponse{Taken: taken}); err != nil {
			return err
		}
	}
}
