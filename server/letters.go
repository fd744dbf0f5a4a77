package server

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/output"
)

// maxAnswer bounds the body of one message that is told; services answer with less.
const maxAnswer = 64 << 20

// letterReader makes messages of what waits. It keeps the inputs that it read last.
type letterReader struct {
	*Server
	job   navvy.JobID
	chunk *engine.Chunk
}

// message is one without its body: what was sent comes along.
func (r *letterReader) message(ctx context.Context, l *engine.Letter) (m *navvyv1.Message, sent []byte, err error) {
	m = &navvyv1.Message{Id: l.Task.String(), Sent: timestamppb.New(l.Sent)}
	if r.job != l.Task.Job {
		r.job, r.chunk = l.Task.Job, nil
	}
	input, ok := r.chunk.Get(l.Task.Index)
	if !ok {
		if r.chunk, err = r.eng.Inputs(ctx, l.Task.Job, l.Task.Index); err != nil {
			return m, nil, err
		}
		input, _ = r.chunk.Get(l.Task.Index)
	}
	correlation, body, err := navvy.Message(input)
	m.CorrelationId = api.Text(correlation)
	return m, body, err
}

// response makes the message of a response; ErrNotFound if it does not wait any more.
func (r *letterReader) response(ctx context.Context, line engine.Line, l *engine.Letter) (*navvyv1.Message, error) {
	m, res, err := r.answered(ctx, line, engine.Responses, l)
	if err != nil || res == nil {
		return m, err
	}
	m.Body, m.Missing, err = r.stdout(ctx, res)
	return m, err
}

// deadLetter makes the message of a dead letter; ErrNotFound if it does not wait any more.
func (r *letterReader) deadLetter(ctx context.Context, line engine.Line, l *engine.Letter) (*navvyv1.Message, error) {
	m, res, err := r.answered(ctx, line, engine.DeadLetters, l)
	if err != nil || res == nil {
		return m, err
	}
	m.Reason = api.Text(failure(res))
	return m, nil
}

// failure is why a task has failed, for people.
func failure(res *navvy.Result) string {
	switch {
	case res.Message != "":
		return res.Message
	case res.Reason != "":
		return string(res.Reason)
	default:
		return fmt.Sprintf("exit code %d", res.Exit.Code)
	}
}

// answered makes a message with the request's body, and reads its result: nil if
// something of it is damaged, which the message then says.
func (r *letterReader) answered(ctx context.Context, line engine.Line, side engine.Side, l *engine.Letter) (*navvyv1.Message, *navvy.Result, error) {
	if has, err := r.eng.HasLetter(ctx, line, side, l); err != nil || !has {
		if err == nil {
			err = fmt.Errorf("message %s: %w", l.Task, navvy.ErrNotFound)
		}
		return nil, nil, err
	}
	m, body, err := r.message(ctx, l)
	if damage(m, err) {
		return m, nil, nil
	} else if err != nil {
		return nil, nil, err
	}
	res, err := r.eng.Result(ctx, l.Task)
	if damage(m, err) {
		return m, nil, nil
	} else if err != nil {
		return nil, nil, err
	}
	m.Attempts, m.Answered, m.Body = res.Attempts, timestamppb.New(res.Finished), body
	return m, res, nil
}

// damage tells whether a message cannot be read for good, and has it say so: it must not
// stand in the way of others.
func damage(m *navvyv1.Message, err error) bool {
	if !errors.Is(err, navvy.ErrCorrupt) && !errors.Is(err, navvy.ErrInvalid) {
		return false
	}
	m.Missing = api.Text("damaged: " + err.Error())
	return true
}

// stdout reads what the attempt of a result wrote to standard output, or says why not.
func (r *letterReader) stdout(ctx context.Context, res *navvy.Result) (body []byte, missing string, err error) {
	if n := max(res.Output.Length, int64(len(res.Output.Inline))); n > maxAnswer {
		return nil, fmt.Sprintf("the output has %d bytes, more than %d", n, maxAnswer), nil
	}
	in, err := r.eng.ReadOutput(ctx, res.Task, res.ID, &res.Output)
	if err != nil {
		return nil, "", err
	}
	frames, err := io.ReadAll(in)
	if err = errors.Join(err, in.Close()); err == nil {
		body, _, err = output.Split(frames)
	}
	if errors.Is(err, navvy.ErrCorrupt) {
		return nil, api.Text("damaged: " + err.Error()), nil
	}
	return body, "", err
}
