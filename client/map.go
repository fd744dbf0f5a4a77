package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/output"
)

// Start submits a job with all its inputs and leaves it to the server, detached: it
// goes on without its client. It returns the id when the job is durable; on an error
// nothing of the job was kept, unless the connection broke at the very end, which an
// idempotency key makes harmless.
func (c *Client) Start(ctx context.Context, job navvy.Job, inputs iter.Seq[[]byte]) (navvy.JobID, error) {
	job.Detached = true
	sub, err := c.Submit(ctx, job, SubmitOptions{})
	if err != nil {
		return "", err
	}
	defer sub.Close()
	stop := make(chan struct{})
	defer close(stop)
	if err := sub.feed(inputs, stop); err != nil {
		return "", err
	}
	id, _, err := sub.Accepted(ctx)
	return id, err
}

// MapOptions say how answers come.
type MapOptions struct {
	AsCompleted bool // as they come, not in the order of the inputs
	Inputs      bool // with each task's input
	NotIsolated bool // as in SubmitOptions
}

// Map runs the job over the inputs and gives the answers, in the order of the inputs,
// while there are still inputs to come: tasks that failed, too. Whoever leaves the
// loop early, or ends ctx, stops the job. The last is an error if not all inputs have
// an answer.
//
// inputs is read in a goroutine of its own, as fast as the server takes them. What it
// waits for must end with ctx: it may be waiting when the loop has been left.
func (c *Client) Map(ctx context.Context, job navvy.Job, inputs iter.Seq[[]byte], o MapOptions) iter.Seq2[Answer, error] {
	return func(yield func(Answer, error) bool) {
		sub, err := c.Submit(ctx, job, SubmitOptions{Stream: true, NotIsolated: o.NotIsolated})
		if err != nil {
			yield(Answer{}, err)
			return
		}
		stop, fed := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(fed)
			_ = sub.feed(inputs, stop) // the server says what was wrong with them
		}()
		defer func() {
			close(stop)
			sub.Close()
			<-fed
		}()
		id, _, err := sub.Accepted(ctx)
		if err != nil {
			yield(Answer{}, err)
			return
		}
		if c.answers(ctx, id, o, yield) {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
		defer cancel()
		_, _ = c.Stop(ctx, id, "its client has left")
	}
}

// stopTime bounds how long Map tries to stop a job that nobody waits for.
const stopTime = 10 * time.Second

// answers gives all answers of a job, and tells whether the job is over.
func (c *Client) answers(ctx context.Context, id navvy.JobID, o MapOptions, yield func(Answer, error) bool) bool {
	for a, err := range c.Results(ctx, id, ResultsOptions{Follow: true, AsCompleted: o.AsCompleted, Inputs: o.Inputs}) {
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if !yield(a, err) || err != nil {
			return false
		}
	}
	job, err := c.Get(ctx, id)
	if counts := job.Status.Counts; err == nil && (counts.Answered() < counts.Total() || job.Status.Open || job.Status.Cut) {
		err = fmt.Errorf("job %s has no answer for each input, and none will come: %s: %w", id, job.Status.Why, navvy.ErrClosed)
	}
	if err != nil {
		yield(Answer{}, err)
	}
	return err == nil
}

// Bounds of one message with inputs.
const (
	feedInputs = 256
	feedBytes  = 64 << 10
)

// feed sends the inputs, those together that are there together, and seals. It ends
// early when stop is closed, and with an error when nobody takes any more.
func (s *Submission) feed(inputs iter.Seq[[]byte], stop <-chan struct{}) error {
	next, gone := make(chan []byte, feedInputs), make(chan struct{})
	defer close(gone)
	go func() {
		defer close(next)
		for input := range inputs {
			select {
			case next <- input:
			case <-gone:
				return
			case <-stop:
				return
			}
		}
	}()
	for {
		select {
		case <-stop:
			return nil
		case <-s.ended:
			return s.failure()
		case input, ok := <-next:
			if !ok {
				return s.Seal()
			}
			if err := s.Send(together(input, next)); err != nil {
				return err
			}
		}
	}
}

// failure is why the stream has ended; nil if it ended well.
func (s *Submission) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// together is an input with those that wait behind it.
func together(first []byte, next <-chan []byte) [][]byte {
	batch, size := [][]byte{first}, len(first)
	for len(batch) < feedInputs && size < feedBytes {
		select {
		case input, ok := <-next:
			if !ok {
				return batch // the next look finds it closed, too
			}
			batch, size = append(batch, input), size+len(input)
		default:
			return batch
		}
	}
	return batch
}

// Read gives all that the attempt behind an answer wrote to one stream.
func (c *Client) Read(ctx context.Context, a *Answer, from output.Stream) ([]byte, error) {
	var all []byte
	write := func(s output.Stream, p []byte) error {
		if s == from {
			all = append(all, p...)
		}
		return nil
	}
	if a.Output.Logged {
		err := c.Output(ctx, a.Task, OutputOptions{Attempt: a.ID}, OutputSink{Write: write})
		return all, err
	}
	var split output.Decoder
	err := split.Decode(a.Output.Inline, write)
	return all, err
}

// Chunk is a piece of what a task wrote.
type Chunk struct {
	Attempt navvy.AttemptID
	Stream  output.Stream
	Bytes   []byte // good until the next chunk
}

// errLeft ends a reading that nobody wants to go on with.
var errLeft = errors.New("the reader has left")

// Chunks is Output as a sequence: what a task wrote, from its first byte, in order of
// arrival. With Follow another attempt may begin behind the last chunk of one.
func (c *Client) Chunks(ctx context.Context, task navvy.TaskID, o OutputOptions) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		chunk := Chunk{}
		err := c.Output(ctx, task, o, OutputSink{
			Attempt: func(id navvy.AttemptID) error { chunk.Attempt = id; return nil },
			Write: func(s output.Stream, p []byte) error {
				if chunk.Stream, chunk.Bytes = s, p; !yield(chunk, nil) {
					return errLeft
				}
				return nil
			},
		})
		if err != nil && !errors.Is(err, errLeft) {
			yield(Chunk{}, err)
		}
	}
}
