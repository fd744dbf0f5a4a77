package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/manager"
	"github.com/navvy-run/navvy/server/auth"
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
	job, err := s.asked(stream.Context(), header.GetJob())
	if err != nil {
		return err
	}
	if header.GetStream() && job.Shuffle != 0 {
		return fmt.Errorf("submit: tasks cannot run in a random order before all of them are known: %w", navvy.ErrInvalid)
	}
	in := &incoming{jobs: s, stream: stream, header: header, job: job, accepted: make(chan struct{}), over: make(chan struct{})}
	sub, id, err := s.mgr.Submit(stream.Context(), job, header.GetStream())
	switch {
	case errors.Is(err, navvy.ErrExists) && id != "":
		close(in.over)
		return in.exists(stream.Context(), id)
	case err != nil:
		return err
	}
	in.sub = sub
	return in.run(stream.Context())
}

// asked reads a job that the caller submits, and holds it against the policy.
func (s *jobs) asked(ctx context.Context, m *navvyv1.Job) (navvy.Job, error) {
	job, me := api.ToJob(m), auth.From(ctx)
	job.Responses = false // Messages.Send alone makes such jobs
	if me.Role != auth.RoleUser && me.Role != auth.RoleAdmin {
		return job, fmt.Errorf("submit: the role %q submits no jobs: %w", me.Role, navvy.ErrDenied)
	}
	if job.Owner != "" && job.Owner != me.Name {
		return job, fmt.Errorf("submit: owner %.100q: a job belongs to whoever submits it, which is %s; leave it out: %w", job.Owner, me.Name, navvy.ErrInvalid)
	}
	job.Owner = me.Name
	if err := s.resolve(ctx, &job); err != nil {
		return job, err
	}
	if err := s.resolveService(ctx, m.GetSpec(), &job); err != nil {
		return job, err
	}
	if err := s.resolvePods(ctx, &job); err != nil {
		return job, err
	}
	if err := s.isolate(ctx, m.GetSpec(), &job.Spec); err != nil {
		return job, err
	}
	return job, s.opts.Policy.Apply(s.policyRole(ctx), &job.Spec)
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
	job    navvy.Job // as it was asked for
	sub    *manager.Submission
	closed bool // sealed, or given up

	// detach ends the client's stay with the job that it waits for; nil if it waits for none.
	detach func(context.Context) error

	id       navvy.JobID             // once accepted
	accepted chan struct{}           // closed when the client was told of the id
	over     chan struct{}           // closed when no more inputs come
	halt     context.CancelCauseFunc // ends the receiving of inputs
	sending  sync.Mutex              // one goroutine at a time sends
}

// run takes the inputs, and meanwhile tells how the job goes.
func (in *incoming) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	receiving, halt := context.WithCancelCause(ctx)
	defer halt(nil)
	in.halt = halt
	if !in.job.Detached {
		in.detach = in.mgr.AttachClient(in.sub.Job())
		defer func() { in.leave(ctx, in.detach) }()
		g.Go(func() error { return in.follow(ctx) })
	} else if in.header.GetStream() {
		g.Go(func() error { in.watchEnd(ctx); return nil })
	}
	g.Go(func() error {
		defer close(in.over)
		return in.receive(receiving)
	})
	return g.Wait()
}

// errHalted ends the receiving of inputs that nobody wants any more.
var errHalted = errors.New("the job has ended")

// watchEnd ends the receiving of inputs for a job that has ended, since somebody has
// stopped it: otherwise it would stay open until its client sends one.
func (in *incoming) watchEnd(ctx context.Context) {
	select {
	case <-in.over:
		return
	case <-in.accepted:
	}
	for {
		changed := in.mgr.Changes(in.id)
		st, err := in.mgr.Status(ctx, in.id)
		if err != nil {
			return // as the receiving will be told
		}
		if !st.Finished.IsZero() {
			in.halt(errHalted)
			return
		}
		select {
		case <-in.over:
			return
		case <-changed:
		}
	}
}

// follow sends the job's progress from when the client knows its id.
func (in *incoming) follow(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-in.accepted:
	}
	return in.progress(ctx, in.id, in.header.GetProgress(), in, func(st *navvyv1.Status) error {
		return in.send(&navvyv1.SubmitResponse{Part: &navvyv1.SubmitResponse_Status{Status: st}})
	})
}

func (in *incoming) send(m *navvyv1.SubmitResponse) error {
	in.sending.Lock()
	defer in.sending.Unlock()
	return in.stream.Send(m)
}

// accept tells the client of its job, which may be an earlier one.
func (in *incoming) accept(id navvy.JobID, existed bool) error {
	err := in.send(&navvyv1.SubmitResponse{Part: &navvyv1.SubmitResponse_Accepted{
		Accepted: &navvyv1.Accepted{Id: string(id), Existed: existed},
	}})
	in.id = id
	close(in.accepted)
	return err
}

// durable tells the client that so many inputs are, 0 that it may send them.
func (in *incoming) durable(n int64) error {
	return in.send(&navvyv1.SubmitResponse{Part: &navvyv1.SubmitResponse_Durable{Durable: n}})
}

// exists answers a submit that makes no new job: the client stays with the first one.
func (in *incoming) exists(ctx context.Context, id navvy.JobID) error {
	job, err := in.first(ctx, id, &in.job)
	if err != nil {
		return err
	}
	if !in.job.Detached {
		defer in.leave(ctx, in.mgr.AttachClient(job))
	}
	if err := in.accept(id, true); err != nil || in.job.Detached {
		return err
	}
	return in.follow(ctx)
}

// first gives the first job with the idempotency key of the one that is asked for. It
// must run the same command, or the key was given twice by mistake: ErrConflict. What
// else the two jobs ask for may differ, and their inputs are not compared.
func (s *jobs) first(ctx context.Context, id navvy.JobID, asked *navvy.Job) (*navvy.Job, error) {
	job, _, err := s.mgr.Job(ctx, id)
	if err == nil && !sameWork(&job.Spec, &asked.Spec) {
		err = fmt.Errorf("submit: the idempotency key %q is that of job %s, which does something else: %s: %w", asked.IdempotencyKey, id, workOf(&job.Spec), navvy.ErrConflict)
	}
	return job, err
}

// sameWork tells whether two jobs do the same with an input.
func sameWork(a, b *navvy.Spec) bool {
	if !a.Stage.Equal(&b.Stage) {
		return false
	}
	if a.Function != nil && b.Function != nil {
		return a.Function.Same(b.Function)
	}
	if a.Service != nil && b.Service != nil {
		return a.Service.Same(b.Service)
	}
	if a.Container != nil && b.Container != nil {
		return a.Container.Same(b.Container)
	}
	if a.Command == nil || b.Command == nil {
		return a.Kind() == b.Kind()
	}
	return a.Command.Same(b.Command)
}

// workOf names what a job does in a message.
func workOf(s *navvy.Spec) string {
	if s.Function != nil {
		return "function " + s.Function.Name
	}
	if s.Service != nil {
		return fmt.Sprintf("service %.200q", s.Service.Form)
	}
	if s.Container != nil {
		return fmt.Sprintf("image %.200q", s.Container.Image)
	}
	if s.Command == nil {
		return s.Kind()
	}
	return fmt.Sprintf("%.200q", strings.Join(s.Command.Args, " "))
}

// message is what came from the client.
type message struct {
	*navvyv1.SubmitRequest
	err error
}

// messages reads ahead, so that whoever takes them can stop waiting.
func (in *incoming) messages(ctx context.Context) <-chan message {
	ch := make(chan message)
	go func() {
		for {
			m, err := in.stream.Recv()
			select {
			case <-ctx.Done():
				return
			case ch <- message{m, err}:
			}
			if err != nil || m.GetSeal() != nil {
				return
			}
		}
	}()
	return ch
}

// receive takes inputs until there are no more.
func (in *incoming) receive(ctx context.Context) error {
	if err := in.durable(0); err != nil {
		return err
	}
	messages := in.messages(ctx)
	for {
		var m message
		select {
		case <-ctx.Done():
			m.err = context.Cause(ctx)
		case m = <-messages:
		}
		done, err := in.take(ctx, &m)
		if err == nil && !done {
			continue
		}
		if !in.closed {
			in.cutOff(ctx)
		}
		if errors.Is(err, navvy.ErrExists) && in.job.IdempotencyKey != "" {
			return in.lateExists(ctx)
		}
		return err
	}
}

// take acts on one message; done is true after the last.
func (in *incoming) take(ctx context.Context, m *message) (done bool, err error) {
	switch {
	case errors.Is(m.err, errHalted):
		return true, nil
	case errors.Is(m.err, io.EOF) && in.id != "":
		return true, nil // the client has stopped reading; what it sent is accepted, the rest cut off
	case errors.Is(m.err, io.EOF):
		return true, fmt.Errorf("submit: the inputs end without a seal: %w", navvy.ErrInvalid)
	case m.err != nil:
		return true, m.err
	case m.GetInputs() != nil:
		err = in.add(ctx, m.GetInputs().GetInputs())
	case m.GetSeal() != nil:
		if err = in.sub.Seal(ctx); err == nil {
			in.closed = true
			return true, in.tell()
		}
	case m.GetAbort() != nil:
		why := m.GetAbort().GetWhy()
		if err = in.sub.Abort(ctx, why); err == nil {
			in.closed = true
			err = fmt.Errorf("submit: given up: %s: %w", why, navvy.ErrInvalid)
		}
	default:
		err = fmt.Errorf("submit: a message carries nothing that is known: %w", navvy.ErrInvalid)
	}
	if errors.Is(err, navvy.ErrConflict) && in.id != "" {
		return true, nil // somebody has stopped the job; its status tells the client
	}
	return err != nil, err
}

// add takes inputs; those of a stream may start.
func (in *incoming) add(ctx context.Context, inputs [][]byte) error {
	if err := in.sub.Add(ctx, inputs...); err != nil || !in.header.GetStream() {
		return err
	}
	if err := in.sub.Flush(ctx, true); err != nil {
		return err
	}
	return in.tell()
}

// tell acknowledges what is durable.
func (in *incoming) tell() error {
	if in.id == "" {
		return in.accept(in.sub.Job().ID, false)
	}
	return in.durable(in.sub.State().Total)
}

// lateExists answers a submit whose idempotency key somebody else took meanwhile:
// the client stays with that job instead of its own.
func (in *incoming) lateExists(ctx context.Context) error {
	sub, id, err := in.mgr.Submit(ctx, in.job, in.header.GetStream())
	if sub != nil {
		return errors.Join(sub.Abort(ctx, "submitted twice at once"), fmt.Errorf("submit: the job with this idempotency key was removed: %w", navvy.ErrConflict))
	}
	if !errors.Is(err, navvy.ErrExists) || id == "" {
		return err
	}
	job, err := in.first(ctx, id, &in.job)
	if err != nil {
		return err
	}
	if in.detach != nil {
		own := in.detach
		in.detach = in.mgr.AttachClient(job)
		in.leave(ctx, own)
	}
	return in.accept(id, true)
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
