package client

import (
	"context"
	"errors"
	"io"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/output"
)

// OutputOptions say which output of a task.
type OutputOptions struct {
	// Attempt names one; zero stands for the one that won, or runs, or ran last.
	Attempt navvy.AttemptID
	// Follow waits for what is still to come, over retries, until the task has its answer.
	Follow bool
}

// OutputSink takes a task's output.
type OutputSink struct {
	// Attempt is called when the output of an attempt begins; nil if nobody cares.
	Attempt func(navvy.AttemptID) error
	// Write takes the next bytes of a stream, in order of arrival; they are its own until it returns.
	Write func(s output.Stream, p []byte) error
	// Flush is called behind what came together; nil if nobody cares.
	Flush func() error
}

// Output gives what a task wrote, from its first byte. It returns the sink's
// error if there is one.
func (c *Client) Output(ctx context.Context, task navvy.TaskID, o OutputOptions, sink OutputSink) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req := &navvyv1.ReadOutputRequest{Id: string(task.Job), Index: task.Index, Follow: o.Follow, Number: o.Attempt.Number, Epoch: o.Attempt.Epoch}
	stream, err := c.jobs.ReadOutput(ctx, req)
	if err != nil {
		return api.FromWire(err)
	}
	var split output.Decoder
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return api.FromWire(err)
		}
		if m.GetNumber() > 0 {
			split = output.Decoder{}
			if sink.Attempt != nil {
				if err := sink.Attempt(api.AttemptID(m)); err != nil {
					return err
				}
			}
		}
		if err := split.Decode(m.GetFrames(), sink.Write); err != nil {
			return err
		}
		if sink.Flush != nil {
			if err := sink.Flush(); err != nil {
				return err
			}
		}
	}
}
