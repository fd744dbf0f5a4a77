package server

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/manager"
)

// Bounds of one stream of calls: how many may wait for their answers before no more are
// read, and how many become durable in one step.
const (
	maxCalls    = 10_000
	maxTogether = 1_000

	// callOverhead is the memory that a call takes beside its bytes.
	callOverhead = 512
	// maxCameBytes is how much may come while a step is being made durable.
	maxCameBytes = 16 << 20
)

type runStream = grpc.BidiStreamingServer[navvyv1.RunRequest, navvyv1.RunResponse]

// Run implements the call of that name; api/navvy/v1/jobs.proto describes it.
func (s *jobs) Run(stream runStream) error {
	c := &calls{jobs: s, stream: stream, caller: s.mgr.NewCaller(), arrived: make(chan struct{}, 1)}
	defer c.caller.Close()
	return s.fail(c.run(stream.Context()))
}

// calls are those of one stream.
type calls struct {
	*jobs
	stream  runStream
	caller  *manager.Caller
	arrived chan struct{} // some have come; closed when no more do

	mu    sync.Mutex
	came  []*navvyv1.RunCall // and are not made yet
	bytes int                // that they take
	err   error              // why no more come

	sending sync.Mutex
}

// errAnswered ends the waiting for answers, when no more can come.
var errAnswered = errors.New("all calls are answered")

func (c *calls) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	answering, answered := context.WithCancelCause(ctx)
	defer answered(nil)
	g.Go(func() error { return c.answer(answering) })
	go c.receive(ctx) // which ends with the call at the latest
	g.Go(func() error {
		err := c.takeAll(ctx)
		if err == nil {
			err = c.send(&navvyv1.RunResponse{}) // all are durable, or refused
		}
		if err == nil {
			err = c.caller.Room(ctx, 1)
		}
		answered(errAnswered)
		return err
	})
	return g.Wait()
}

// receive takes messages until no more come. It goes on while calls become durable, so
// that those that come meanwhile share the next step.
func (c *calls) receive(ctx context.Context) {
	defer close(c.arrived)
	for {
		m, err := c.stream.Recv()
		if err == nil {
			err = c.caller.Room(ctx, maxCalls)
		}
		c.mu.Lock()
		c.came = append(c.came, m.GetCalls()...)
		c.bytes += proto.Size(m) + callOverhead*len(m.GetCalls())
		c.err = err
		full := c.bytes > maxCameBytes
		c.mu.Unlock()
		if err != nil {
			return
		}
		select {
		case c.arrived <- struct{}{}:
		default:
		}
		if !full {
			continue
		}
		select {
		case c.arrived <- struct{}{}: // what came before is taken
		case <-ctx.Done():
			return
		}
	}
}

// takeAll makes calls as they come.
func (c *calls) takeAll(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.arrived:
		}
		c.mu.Lock()
		came, err := c.came, c.err
		c.came, c.bytes = nil, 0
		c.mu.Unlock()
		for part := range slices.Chunk(came, maxTogether) {
			c.take(ctx, part)
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// take makes the calls of one message.
func (c *calls) take(ctx context.Context, asked []*navvyv1.RunCall) {
	list := make([]manager.Call, 0, len(asked))
	for _, m := range asked {
		job, err := c.asked(ctx, m.GetJob())
		if err != nil {
			c.caller.Give(&manager.Answer{Number: m.GetNumber(), Err: err})
			continue
		}
		list = append(list, manager.Call{Number: m.GetNumber(), Job: job, Input: m.GetInput(), Notify: m.GetNotify()})
	}
	ids, errs := c.caller.Call(ctx, list)
	for i, err := range errs {
		switch {
		case err == nil:
		case errors.Is(err, navvy.ErrExists) && ids[i] != "":
			c.adopt(ctx, ids[i], &list[i])
		default:
			c.caller.Give(&manager.Answer{Number: list[i].Number, Err: err})
		}
	}
}

// adopt answers a call whose idempotency key is known with the first job's answer.
func (c *calls) adopt(ctx context.Context, id navvy.JobID, call *manager.Call) {
	if _, err := c.first(ctx, id, &call.Job); err != nil {
		c.caller.Give(&manager.Answer{Number: call.Number, Err: err})
		return
	}
	if call.Notify {
		c.caller.Give(&manager.Answer{Number: call.Number, Job: id, Accepted: true})
	}
	c.caller.Adopt(id, call.Number)
}

// answer sends answers as they come, until ctx ends.
func (c *calls) answer(ctx context.Context) error {
	var list []manager.Answer
	for {
		var err error
		if list, err = c.caller.Next(ctx, list); err != nil {
			if errors.Is(err, errAnswered) {
				return nil
			}
			return err
		}
		for rest := list; len(rest) > 0; {
			m := &navvyv1.RunResponse{}
			bytes := 0
			for len(rest) > 0 && len(m.Answers) < maxResults && bytes < maxResultsBytes {
				a := c.answerMessage(&rest[0])
				bytes += len(a.GetResult().GetAttempt().GetOutput().GetInline())
				m.Answers, rest = append(m.Answers, a), rest[1:]
			}
			if err := c.send(m); err != nil {
				return err
			}
		}
	}
}

func (c *calls) send(m *navvyv1.RunResponse) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	return c.stream.Send(m)
}

func (c *calls) answerMessage(a *manager.Answer) *navvyv1.RunAnswer {
	m := &navvyv1.RunAnswer{Number: a.Number, Id: string(a.Job)}
	switch {
	case a.Accepted:
		m.Accepted = true
	case a.Err != nil:
		st := status.Convert(c.fail(a.Err))
		m.End = &navvyv1.RunAnswer_Refused{Refused: &navvyv1.Refusal{Code: int32(st.Code()), Message: st.Message()}}
	case a.Result != nil:
		m.End = &navvyv1.RunAnswer_Result{Result: api.FromResult(a.Result)}
	default:
		st := a.State.Status(c.eng.Epoch(), 0)
		m.End = &navvyv1.RunAnswer_Status{Status: api.FromStatus(&st)}
	}
	return m
}
