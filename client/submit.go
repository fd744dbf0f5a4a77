package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

// SubmitOptions say how a job is submitted.
type SubmitOptions struct {
	// Stream lets tasks start before the last input was sent. Otherwise nothing
	// of the job exists before Seal.
	Stream bool
	// Progress asks for each change of the status, not only the last.
	Progress bool
	// NotIsolated asks that the job is not isolated, also where jobs are that do not
	// say; refused where the server's policy does not allow that. It goes with a spec
	// that asks for no isolation.
	NotIsolated bool
}

// Submission is a job on its way. Send, Seal and Abort are for one goroutine at
// a time; the other methods may be called at once, also beside those.
type Submission struct {
	stream grpc.BidiStreamingClient[navvyv1.SubmitRequest, navvyv1.SubmitResponse]
	cancel context.CancelFunc

	ready    chan struct{} // closed when the server takes the job, or refuses it
	accepted chan struct{} // closed when id is known, or when the stream has ended
	ended    chan struct{} // closed when the stream has ended

	mu      sync.Mutex
	id      navvy.JobID
	existed bool
	durable int64
	last    *navvyv1.Status
	fresh   chan struct{} // news that neither Progress nor Taken has given
	err     error
}

// Submit begins a submission, and returns when the server is ready to take the
// inputs. If it returns an error, nothing of the job was kept. Unless the job is
// detached, the client is attached to it until Close: it is held if the client
// leaves before it ends.
func (c *Client) Submit(ctx context.Context, job navvy.Job, o SubmitOptions) (*Submission, error) {
	if err := job.ValidateNames(); err != nil {
		return nil, err // what is not UTF-8 cannot be sent
	}
	m := api.FromJob(&job)
	if o.NotIsolated {
		if job.Spec.Isolate {
			return nil, fmt.Errorf("submit: the job is to be isolated and is not: %w", navvy.ErrInvalid)
		}
		m.Spec.Isolate = new(bool)
	}
	ctx, cancel := context.WithCancel(ctx)
	stream, err := c.jobs.Submit(ctx)
	if err == nil {
		err = stream.Send(&navvyv1.SubmitRequest{Part: &navvyv1.SubmitRequest_Header{
			Header: &navvyv1.SubmitHeader{Job: m, Stream: o.Stream, Progress: o.Progress},
		}})
	}
	if err != nil && !errors.Is(err, io.EOF) {
		cancel()
		return nil, api.FromWire(err)
	}
	s := &Submission{
		stream: stream, cancel: cancel, ready: make(chan struct{}),
		accepted: make(chan struct{}), ended: make(chan struct{}), fresh: make(chan struct{}, 1),
	}
	go s.receive()
	<-s.ready
	s.mu.Lock()
	err = s.err
	s.mu.Unlock()
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// receive takes what the server sends, until the end.
func (s *Submission) receive() {
	defer close(s.ended)
	for first := true; ; first = false {
		m, err := s.stream.Recv()
		s.mu.Lock()
		known := s.id != ""
		switch {
		case err != nil:
			if !errors.Is(err, io.EOF) {
				s.err = api.FromWire(err)
			}
		case m.GetAccepted() != nil:
			s.id, s.existed = navvy.JobID(m.GetAccepted().GetId()), m.GetAccepted().GetExisted()
		case m.GetStatus() != nil:
			s.last = m.GetStatus()
		default:
			s.durable = m.GetDurable()
		}
		s.mu.Unlock()
		if first {
			close(s.ready)
		}
		if !known && (err != nil || m.GetAccepted() != nil) {
			close(s.accepted)
		}
		select {
		case s.fresh <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// Send hands inputs over; they are not the caller's any more. They are durable
// once Accepted has returned and, in a stream, some time after that.
func (s *Submission) Send(inputs [][]byte) error {
	return s.send(&navvyv1.SubmitRequest{Part: &navvyv1.SubmitRequest_Inputs{Inputs: &navvyv1.Inputs{Inputs: inputs}}})
}

// Seal says that there are no more inputs.
func (s *Submission) Seal() error {
	if err := s.send(&navvyv1.SubmitRequest{Part: &navvyv1.SubmitRequest_Seal{Seal: &navvyv1.Seal{}}}); err != nil {
		return err
	}
	return api.FromWire(s.stream.CloseSend())
}

// Cut says that there are more inputs, which will not come. Of a stream, what was
// sent is accepted; the job is held and counts as cut.
func (s *Submission) Cut() error { return api.FromWire(s.stream.CloseSend()) }

// Abort gives the submission up: of a stream, what was accepted stays as a
// stopped job; otherwise nothing stays. It returns when that is settled.
func (s *Submission) Abort(why string) {
	if s.send(&navvyv1.SubmitRequest{Part: &navvyv1.SubmitRequest_Abort{Abort: &navvyv1.Abort{Why: api.Text(why)}}}) == nil {
		<-s.ended
	}
	s.Close()
}

// send gives the server's error where the stream has ended early.
func (s *Submission) send(m *navvyv1.SubmitRequest) error {
	err := s.stream.Send(m)
	if errors.Is(err, io.EOF) {
		<-s.ended
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.err != nil {
			return s.err
		}
		if s.id != "" {
			return nil // the job is there already, or over: what is sent goes nowhere
		}
	}
	return api.FromWire(err)
}

// Accepted waits until the job is durable and gives its id. existed says that
// the idempotency key was known, and names the first job.
func (s *Submission) Accepted(ctx context.Context) (id navvy.JobID, existed bool, err error) {
	select {
	case <-ctx.Done():
		return "", false, context.Cause(ctx)
	case <-s.accepted:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.id == "" && s.err == nil {
		return "", false, navvy.ErrUnavailable
	}
	if s.id == "" {
		return "", false, s.err
	}
	return s.id, s.existed, nil
}

// Taken is how far a submission has come.
type Taken struct {
	ID      navvy.JobID // empty until the job is durable
	Existed bool        // see Accepted
	Durable int64       // so many inputs are, by what the server has told since there is an id
}

// Taken gives what the server tells of the inputs until it takes no more, and why it
// ended if something went wrong. Instead of Progress, for a job that is detached.
func (s *Submission) Taken(ctx context.Context) iter.Seq2[Taken, error] {
	return func(yield func(Taken, error) bool) {
		for over := false; !over; {
			select {
			case <-ctx.Done():
				yield(Taken{}, context.Cause(ctx))
				return
			case <-s.fresh:
			case <-s.ended:
				over = true
			}
			s.mu.Lock()
			taken, err := Taken{ID: s.id, Existed: s.existed, Durable: s.durable}, s.err
			s.mu.Unlock()
			if !over {
				err = nil
			}
			if !yield(taken, err) {
				return
			}
		}
	}
}

// Progress gives the status until nothing of the job goes on.
func (s *Submission) Progress(ctx context.Context) iter.Seq2[navvy.Status, error] {
	return func(yield func(navvy.Status, error) bool) {
		for over := false; !over; {
			select {
			case <-ctx.Done():
				yield(navvy.Status{}, context.Cause(ctx))
				return
			case <-s.fresh:
			case <-s.ended:
				over = true
			}
			s.mu.Lock()
			last, err := s.last, s.err
			s.last = nil
			s.mu.Unlock()
			if last != nil && !yield(api.ToStatus(last), nil) {
				return
			}
			if over && err != nil {
				yield(navvy.Status{}, err)
			}
		}
	}
}

// Close leaves the job. It is held if it has not ended and is not detached.
func (s *Submission) Close() {
	s.cancel()
	<-s.ended
}
