package client

import (
	"context"
	"errors"
	"io"
	"iter"
	"math"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

// Answer is a task's result, with its input if that was asked for.
type Answer struct {
	navvy.Result
	Input []byte
}

// ResultsOptions say which answers, in which order.
type ResultsOptions struct {
	From, Limit int64 // from this index on; at most so many, 0 for all
	Follow      bool  // wait for answers that are still to come
	AsCompleted bool  // as they come, not in the order of the inputs
	Failed      bool  // only failed tasks
	Inputs      bool  // with each task's input
	Unprinted   bool  // only what Printed has not named
	MarkRead    bool  // the job counts as read when all were given
}

// Results gives answers, one by one.
func (c *Client) Results(ctx context.Context, id navvy.JobID, o ResultsOptions) iter.Seq2[Answer, error] {
	return func(yield func(Answer, error) bool) {
		for batch, err := range c.ResultBatches(ctx, id, o) {
			if err != nil {
				yield(Answer{}, err)
				return
			}
			for _, a := range batch {
				if !yield(a, nil) {
					return
				}
			}
		}
	}
}

// ResultBatches gives answers as they arrive, those together that came together:
// a good moment to flush is behind each batch.
func (c *Client) ResultBatches(ctx context.Context, id navvy.JobID, o ResultsOptions) iter.Seq2[[]Answer, error] {
	return func(yield func([]Answer, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := c.jobs.Results(ctx, &navvyv1.ResultsRequest{
			Id: string(id), From: o.From, Limit: o.Limit, Follow: o.Follow, AsCompleted: o.AsCompleted,
			Failed: o.Failed, Inputs: o.Inputs, Unprinted: o.Unprinted, MarkRead: o.MarkRead,
		})
		for err == nil {
			var m *navvyv1.ResultsResponse
			if m, err = stream.Recv(); err != nil {
				break
			}
			batch := make([]Answer, len(m.GetResults()))
			for i, r := range m.GetResults() {
				batch[i] = Answer{Result: api.ToResult(id, r), Input: r.GetInput()}
			}
			if !yield(batch, nil) {
				return
			}
		}
		if !errors.Is(err, io.EOF) {
			yield(nil, api.FromWire(err))
		}
	}
}

// Printed adds to what is known to be printed: a roaring bitmap of indexes in its portable format.
func (c *Client) Printed(ctx context.Context, id navvy.JobID, indexes []byte) error {
	_, err := c.jobs.Printed(ctx, &navvyv1.PrintedRequest{Id: string(id), Indexes: indexes})
	return api.FromWire(err)
}

// MarkRead says that somebody has read all answers of an ended job, which then
// expires earlier. It does nothing to a job that goes on, or is held.
func (c *Client) MarkRead(ctx context.Context, id navvy.JobID) error {
	// Results behind the last possible index are none, and complete.
	for _, err := range c.ResultBatches(ctx, id, ResultsOptions{From: math.MaxUint32, MarkRead: true}) {
		if err != nil {
			return err
		}
	}
	return nil
}

// Task is all there is to know about one task.
type Task struct {
	ID    navvy.TaskID
	State navvy.State
	Input []byte
	// Result is nil if the task has none.
	Result *navvy.Result
	// Attempts did not become the result, in order.
	Attempts []navvy.Attempt
	// Running is nil if no attempt runs now.
	Running *navvy.Attempt
	// Waiting says what the task waits for; empty if it does not.
	Waiting string
}

// Task gives one task.
func (c *Client) Task(ctx context.Context, id navvy.TaskID) (Task, error) {
	m, err := c.jobs.Task(ctx, &navvyv1.TaskRequest{Id: string(id.Job), Index: id.Index})
	if err != nil {
		return Task{}, api.FromWire(err)
	}
	t := Task{ID: id, State: navvy.State(m.GetState()), Input: m.GetInput(), Waiting: m.GetWaiting()}
	if m.GetResult() != nil {
		r := api.ToResult(id.Job, m.GetResult())
		t.Result = &r
	}
	for _, a := range m.GetAttempts() {
		t.Attempts = append(t.Attempts, api.ToAttempt(a))
	}
	if m.GetRunning() != nil {
		a := api.ToAttempt(m.GetRunning())
		t.Running = &a
	}
	return t, nil
}
