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

// attempt is one that this worker carries out.
type attempt struct {
	worker *Worker
	ref    client.AttemptRef
	run    *runner.Run
	upload upload
}

// start begins attempts.
func (w *Worker) start(ctx context.Context, assignments []client.Assignment) {
	attempts := make([]doable, 0, len(assignments))
	for i := range assignments {
		if a := w.prepare(ctx, &assignments[i]); a != nil {
			attempts = append(attempts, a)
		}
	}
	w.hands.give(attempts...)
}

// prepare makes an attempt of an assignment; nil if it has failed already.
func (w *Worker) prepare(ctx context.Context, a *client.Assignment) *attempt {
	r := a.AttemptRef
	kind := w.runners[a.Job.Spec.Kind()]
	if kind == nil {
		w.finish(r, &navvy.Attempt{
			ID: r.Attempt, Outcome: navvy.OutcomeFailed, Reason: navvy.ReasonStart,
			Message: "this worker runs no tasks of this kind: " + a.Job.Spec.Kind(),
		})
		return nil
	}
	begun := &attempt{worker: w, ref: r, upload: upload{ctx: ctx, server: w.server, ref: r}}
	begun.run = kind.Prepare(&runner.Task{
		Task: driver.Task{
			ID: r.Task, Attempt: r.Attempt, Token: token(r), Slot: a.Slot,
			Spec: &a.Job.Spec, Format: a.Job.Format, Input: a.Input,
		},
		Sink: &begun.upload,
	})
	if a.Watch {
		begun.run.Watch()
	}
	w.mu.Lock()
	w.runs[r] = begun.run
	w.mu.Unlock()
	return begun
}

// do carries the attempt out and hands in its report.
func (a *attempt) do() {
	ended := a.run.Do()
	a.upload.close()
	a.worker.finish(a.ref, &ended)
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
