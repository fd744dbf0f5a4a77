package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

// Bounds of one message of calls.
const (
	maxCalls      = 512
	maxCallsBytes = 1 << 20
	maxCall       = api.MaxMessage - maxCallsBytes - 1<<10 // of one
)

// Run submits a job of one task and returns its answer. Any number of goroutines may
// call it at once: calls that come together go out together, which makes many small ones
// cheap. The job goes on when ctx ends, as a detached one does, and when the server goes
// away, which is ErrUnavailable; with an idempotency key Run may then be called again,
// and gives the answer of the first job. A failed task is no error: its result says so.
// Of a job that is stopped or held the error wraps ErrConflict, and says why.
func (c *Client) Run(ctx context.Context, job navvy.Job, input []byte) (navvy.Result, error) {
	if err := job.ValidateNames(); err != nil {
		return navvy.Result{}, err // what is not UTF-8 cannot be sent
	}
	p := &call{message: &navvyv1.RunCall{Number: math.MaxUint64, Job: api.FromJob(&job), Input: input}, done: make(chan struct{})}
	text, err := proto.Marshal(p.message) // what cannot be sent must not end the stream of all
	if err != nil {
		return navvy.Result{}, fmt.Errorf("run: %v: %w", err, navvy.ErrInvalid) //nolint:errorlint // one cause is enough for the caller
	}
	if p.size = len(text); p.size > maxCall {
		return navvy.Result{}, fmt.Errorf("run: the job and its input take %d bytes, more than %d: %w", p.size, maxCall, navvy.ErrInvalid)
	}
	s := c.calls.add(c.jobs, p)
	select {
	case <-p.done:
		return p.result()
	case <-ctx.Done():
		s.forget(p)
		return navvy.Result{}, context.Cause(ctx)
	}
}

// Begin submits a job of one task as Run does, for whoever does not wait for its answer:
// it returns the id when the job is durable. Calls that come together become durable
// together.
func (c *Client) Begin(ctx context.Context, job navvy.Job, input []byte) (navvy.JobID, error) {
	if err := job.ValidateNames(); err != nil {
		return "", err // what is not UTF-8 cannot be sent
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // which ends the waiting, not the job
	stream, err := c.jobs.Run(ctx)
	if err != nil {
		return "", api.FromWire(err)
	}
	call := &navvyv1.RunCall{Number: 1, Job: api.FromJob(&job), Input: input, Notify: true}
	if err := stream.Send(&navvyv1.RunRequest{Calls: []*navvyv1.RunCall{call}}); err != nil && !errors.Is(err, io.EOF) {
		return "", api.FromWire(err)
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("the server has ended the call: %w", navvy.ErrUnavailable)
		}
		if err != nil {
			return "", api.FromWire(err)
		}
		for _, a := range m.GetAnswers() {
			if a.GetRefused() != nil {
				return "", api.AnswerError(a)
			}
			return navvy.JobID(a.GetId()), nil // accepted, or at its end already
		}
	}
}

// call is one that waits for its answer.
type call struct {
	message *navvyv1.RunCall
	size    int           // of the message
	done    chan struct{} // closed when one of these is there
	answer  *navvyv1.RunAnswer
	err     error
}

func (p *call) result() (navvy.Result, error) {
	if p.err != nil {
		return navvy.Result{}, p.err
	}
	if err := api.AnswerError(p.answer); err != nil {
		return navvy.Result{}, err
	}
	return api.ToResult(navvy.JobID(p.answer.GetId()), p.answer.GetResult()), nil
}

// calls are those of a client. Their stream is there while any waits.
type calls struct {
	mu     sync.Mutex
	stream *callStream
}

// callStream carries calls to the server and answers back.
type callStream struct {
	owner *calls
	// The owner's lock guards these.
	last    uint64
	waiting map[uint64]*call
	queue   []*call // not sent yet
	wake    chan struct{}
	ended   bool            // no further calls
	ctx     context.Context //nolint:containedctx // of the stream, which serves many calls
	cancel  context.CancelFunc
}

// add leaves a call to the stream, and makes one if there is none.
func (c *calls) add(jobs navvyv1.JobsClient, p *call) *callStream {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stream
	if s == nil {
		s = &callStream{owner: c, waiting: map[uint64]*call{}, wake: make(chan struct{}, 1)}
		s.ctx, s.cancel = context.WithCancel(context.Background())
		c.stream = s
		go s.run(jobs)
	}
	s.last++
	p.message.Number = s.last
	s.waiting[s.last] = p
	s.queue = append(s.queue, p)
	s.poke()
	return s
}

func (s *callStream) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// restLocked ends a stream that nobody waits for.
func (s *callStream) restLocked() {
	if len(s.waiting) == 0 && !s.ended {
		s.ended = true
		if s.owner.stream == s {
			s.owner.stream = nil
		}
		s.poke()
	}
}

// forget gives up waiting for an answer.
func (s *callStream) forget(p *call) {
	s.owner.mu.Lock()
	defer s.owner.mu.Unlock()
	delete(s.waiting, p.message.GetNumber())
	if s.restLocked(); s.ended {
		s.cancel() // the server would keep the stream until the last job has ended
	}
}

// run carries calls until nobody waits any more, or the stream breaks.
func (s *callStream) run(jobs navvyv1.JobsClient) {
	defer s.cancel()
	stream, err := jobs.Run(s.ctx)
	if err == nil {
		received := make(chan error, 1)
		go func() {
			received <- s.receive(stream)
			s.cancel()
		}()
		s.send(stream)
		err = <-received
	}
	s.fail(broken(err))
}

// broken is what ends the calls of a stream that breaks. Their jobs may be there.
func broken(err error) error {
	wrapped := api.FromWire(err)
	for _, known := range []error{nil, navvy.ErrDenied, navvy.ErrUnavailable, navvy.ErrUnsupported, navvy.ErrInvalid, navvy.ErrExhausted} {
		if errors.Is(wrapped, known) {
			return wrapped
		}
	}
	return fmt.Errorf("the calls' connection broke: %w: %w", wrapped, navvy.ErrUnavailable)
}

// send sends calls until the stream has ended, on one side or the other.
func (s *callStream) send(stream grpc.BidiStreamingClient[navvyv1.RunRequest, navvyv1.RunResponse]) {
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.wake:
		}
		for {
			m, ended := s.next()
			if ended {
				_ = stream.CloseSend()
				return
			}
			if m == nil {
				break
			}
			if stream.Send(m) != nil {
				return // the receiver learns why
			}
		}
	}
}

// next gives calls to send, nil if there are none.
func (s *callStream) next() (m *navvyv1.RunRequest, ended bool) {
	s.owner.mu.Lock()
	defer s.owner.mu.Unlock()
	if len(s.queue) == 0 {
		return nil, s.ended
	}
	m = &navvyv1.RunRequest{}
	bytes := 0
	for len(s.queue) > 0 && len(m.Calls) < maxCalls && bytes < maxCallsBytes {
		p := s.queue[0]
		s.queue[0], s.queue = nil, s.queue[1:]
		if s.waiting[p.message.GetNumber()] == p {
			m.Calls = append(m.Calls, p.message)
			bytes += p.size
		}
	}
	return m, false
}

// receive takes answers until the stream has ended.
func (s *callStream) receive(stream grpc.BidiStreamingClient[navvyv1.RunRequest, navvyv1.RunResponse]) error {
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		s.owner.mu.Lock()
		for _, a := range m.GetAnswers() {
			if p := s.waiting[a.GetNumber()]; p != nil {
				delete(s.waiting, a.GetNumber())
				p.answer = a
				close(p.done)
			}
		}
		s.restLocked()
		s.owner.mu.Unlock()
	}
}

// fail tells whoever still waits that no answers come.
func (s *callStream) fail(err error) {
	s.owner.mu.Lock()
	defer s.owner.mu.Unlock()
	if err == nil {
		err = fmt.Errorf("the server has ended the calls: %w", navvy.ErrUnavailable)
	}
	for number, p := range s.waiting {
		p.err = err
		close(p.done)
		delete(s.waiting, number)
	}
	s.restLocked()
}
