package worker

import (
	"context"
	"strconv"
	"sync"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/runner"
	"github.com/navvy-run/navvy/runner/driver"
)

// start begins an attempt.
func (w *Worker) start(ctx context.Context, a *client.Assignment) {
	r := a.AttemptRef
	kind := w.runners[a.Job.Spec.Kind()]
	if kind == nil {
		w.finish(r, &navvy.Attempt{
			ID: r.Attempt, Outcome: navvy.OutcomeFailed, Reason: navvy.ReasonStart,
			Message: "this worker runs no tasks of this kind: " + a.Job.Spec.Kind(),
		})
		return
	}
	up := &upload{ctx: ctx, server: w.server, ref: r}
	run := kind.Prepare(&runner.Task{
		Task: driver.Task{
			ID: r.Task, Attempt: r.Attempt, Token: token(r), Slot: a.Slot,
			Spec: &a.Job.Spec, Format: a.Job.Format, Input: a.Input,
		},
		Sink: up,
	})
	if a.Watch {
		run.Watch()
	}
	w.mu.Lock()
	w.runs[r] = run
	w.mu.Unlock()
	w.attempts.Go(func() {
		attempt := run.Do()
		up.close()
		w.finish(r, &attempt)
	})
}

// token names an attempt in the environment of its processes.
func token(r client.AttemptRef) string {
	return string(r.Task.Job) + "-" + strconv.FormatInt(r.Task.Index, 10) + "-" + r.Attempt.String()
}

// finish hands the end of an attempt to the reporter.
func (w *Worker) finish(r client.AttemptRef, a *navvy.Attempt) {
	w.mu.Lock()
	delete(w.runs, r)
	w.finished = append(w.finished, client.Report{Task: r.Task, Attempt: *a})
	w.mu.Unlock()
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

// upload streams one attempt's output to the server, if there is much of it or
// somebody watches: output.Sink.
type upload struct {
	ctx    context.Context //nolint:containedctx // the session's, of which the attempt is a part
	server *client.Workers
	ref    client.AttemptRef

	mu     sync.Mutex
	stream *client.OutputStream // nil before the first frames
}

// Upload implements output.Sink.
func (u *upload) Upload(frames []byte) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.stream == nil {
		stream, err := u.server.WriteOutput(u.ctx, u.ref)
		if err != nil {
			return err
		}
		u.stream = stream
	}
	return u.stream.Upload(frames)
}

func (u *upload) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.stream != nil {
		u.stream.Close()
	}
}
