package server

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/output"
)

// ReadOutput implements the call of that name.
func (s *jobs) ReadOutput(req *navvyv1.ReadOutputRequest, stream grpc.ServerStreamingServer[navvyv1.ReadOutputResponse]) error {
	ctx := stream.Context()
	id, err := s.own(ctx, req.GetId())
	if err != nil {
		return s.fail(err)
	}
	r := &outputReader{Server: s.Server, task: navvy.TaskID{Job: id, Index: req.GetIndex()}, follow: req.GetFollow(), send: stream.Send}
	st, err := s.mgr.Status(ctx, id)
	if err != nil {
		return s.fail(err)
	}
	if comes := req.GetFollow() && st.Open && r.task.Index >= 0; !comes {
		if err := hasTask(r.task, &st); err != nil {
			return s.fail(err)
		}
	}
	if req.GetFollow() {
		defer s.mgr.Watched(r.task)()
	}
	if want := api.AttemptID(req); !want.IsZero() {
		return s.fail(r.one(ctx, want))
	}
	return s.fail(r.all(ctx))
}

// outputReader sends the output of one task.
type outputReader struct {
	*Server
	task   navvy.TaskID
	follow bool
	send   func(*navvyv1.ReadOutputResponse) error

	attempt navvy.AttemptID // whose output is being sent
	off     int64
}

// piece is how much of an output goes into one message.
const piece = 256 << 10

// one sends the output of a given attempt, live if it runs.
func (r *outputReader) one(ctx context.Context, want navvy.AttemptID) error {
	if err := r.begin(want); err != nil {
		return err
	}
	id, log, live := r.mgr.Live(r.task)
	if live = live && id == want; live {
		if err := r.live(ctx, log); err != nil {
			return err
		}
	}
	err := r.finished(ctx, want)
	if live && !r.follow && errors.Is(err, navvy.ErrNotFound) {
		return nil // it goes on
	}
	return err
}

// all sends the output of the attempt that won, or runs, or ran last, and when
// following that of each later attempt, until nothing of the task goes on.
func (r *outputReader) all(ctx context.Context) error {
	for {
		changed := r.mgr.Changes(r.task.Job)
		_, settled, err := r.mgr.Settled(ctx, r.task.Job)
		if err != nil {
			return err
		}
		answered, err := r.next(ctx)
		if err != nil || answered || settled || !r.follow {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
}

// next sends what there is now and has not been sent. It tells whether the task
// has its result.
func (r *outputReader) next(ctx context.Context) (answered bool, err error) {
	res, err := r.eng.Result(ctx, r.task)
	switch {
	case err == nil:
		return true, r.durable(ctx, &res.Attempt)
	case !errors.Is(err, navvy.ErrNotFound):
		return false, err
	}
	if id, log, ok := r.mgr.Live(r.task); ok {
		if err := r.begin(id); err != nil {
			return false, err
		}
		if err := r.live(ctx, log); err != nil {
			return false, err
		}
		// What had been read live may end a little short of what is durable now.
		err = r.finished(ctx, id)
		if errors.Is(err, navvy.ErrNotFound) {
			err = nil
		}
		return false, err
	}
	last, err := r.last(ctx)
	if last == nil || err != nil {
		return false, err
	}
	return false, r.durable(ctx, last)
}

// begin names the attempt whose output follows.
func (r *outputReader) begin(id navvy.AttemptID) error {
	if r.attempt == id {
		return nil
	}
	r.attempt, r.off = id, 0
	return r.send(&navvyv1.ReadOutputResponse{Number: id.Number, Epoch: id.Epoch})
}

// Who does not follow is given what there is by now: what the worker sends within
// firstBytes of being asked, and what follows that within moreBytes each.
const (
	firstBytes = 100 * time.Millisecond
	moreBytes  = 20 * time.Millisecond
)

// live sends what comes in until the attempt's report is settled.
func (r *outputReader) live(ctx context.Context, log *output.Log) error {
	for wait := firstBytes; ; wait = moreBytes {
		reading, cancel := ctx, context.CancelFunc(func() {})
		if !r.follow {
			reading, cancel = context.WithTimeout(ctx, wait)
		}
		rest, err := log.Wait(reading, r.off) // who waits holds no memory
		cancel()
		if err == nil {
			buf := make([]byte, min(piece, rest))
			var n int
			if n, err = log.Read(ctx, buf, r.off); n > 0 {
				r.off += int64(n)
				if err := r.send(&navvyv1.ReadOutputResponse{Frames: buf[:n]}); err != nil {
					return err
				}
			}
		}
		if err != nil {
			return context.Cause(ctx) // the log has ended, or was closed under us: what is durable tells the rest
		}
	}
}

// finished sends the rest of an attempt that has ended; ErrNotFound if none has with this id.
func (r *outputReader) finished(ctx context.Context, id navvy.AttemptID) error {
	res, err := r.eng.Result(ctx, r.task)
	if err == nil && res.ID == id {
		return r.durable(ctx, &res.Attempt)
	} else if err != nil && !errors.Is(err, navvy.ErrNotFound) {
		return err
	}
	var found *navvy.Attempt
	if err := r.eng.Attempts(ctx, r.task.Job, r.task.Index, func(_ navvy.TaskID, a *navvy.Attempt) error {
		if a.ID == id {
			found = a
			return engine.ErrStop
		}
		return nil
	}); err != nil {
		return err
	}
	if err := r.eng.History(ctx, r.task, func(old *navvy.Result) error {
		if old.ID == id {
			found = &old.Attempt
			return engine.ErrStop
		}
		return nil
	}); err != nil {
		return err
	}
	if found == nil {
		return noAttempt(r.task, id)
	}
	return r.durable(ctx, found)
}

// last is the newest attempt that did not become the result; nil if there is none.
func (r *outputReader) last(ctx context.Context) (*navvy.Attempt, error) {
	var last *navvy.Attempt
	err := r.eng.Attempts(ctx, r.task.Job, r.task.Index, func(_ navvy.TaskID, a *navvy.Attempt) error {
		last = a
		return nil
	})
	return last, err
}

// durable sends what is on disk of an attempt, from where we are.
func (r *outputReader) durable(ctx context.Context, a *navvy.Attempt) error {
	if err := r.begin(a.ID); err != nil {
		return err
	}
	if a.Outcome == navvy.OutcomeLost && a.Output.Length < r.off {
		return nil // its worker is gone: nobody reported what we have read live
	}
	in, err := r.eng.ReadOutput(ctx, r.task, a.ID, &a.Output)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := in.Skip(r.off); err != nil {
		return err
	}
	for {
		buf := make([]byte, min(piece, max(1, a.Output.Length-r.off)))
		n, err := in.Read(buf)
		r.off += int64(n)
		if n > 0 {
			if err := r.send(&navvyv1.ReadOutputResponse{Frames: buf[:n]}); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}
