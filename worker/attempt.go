package worker

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/client/relay"
	"github.com/navvy-run/navvy/output"
	"github.com/navvy-run/navvy/runner"
	"github.com/navvy-run/navvy/runner/driver"
)

// attempt is one that this worker carries out.
type attempt struct {
	worker *Worker
	ref    client.AttemptRef
	slot   int
	run    *runner.Run
	spec   *navvy.Spec
	owner  *string     // of a process beside which there must be none of anybody else
	upload *upload     // of a worker that ends with its session
	spool  *spool      // of one that returns
	pass   *relay.Pass // nil if it has no way to its navvy

	stopping sync.Once
	stopped  chan struct{} // closed when it is told to end; nil if it never waits for room
}

// finished is an attempt that has ended, until the server has settled it.
type finished struct {
	client.Report
	spool    *spool        // its output, if that is not in the report
	reported bool          // in this session
	kept     bool          // it is in the journal
	settled  chan struct{} // closed when it is; nil where no output was spooled: nobody waits for that
}

func refOf(r *client.Report) client.AttemptRef {
	return client.AttemptRef{Task: r.Task, Attempt: r.Attempt.ID}
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
	spec := &a.Job.Spec
	kind, refusal := w.runners[spec.Kind()], ""
	if kind == nil {
		refusal = "this worker runs no tasks of this kind: " + spec.Kind()
	} else {
		refusal = w.room.keepsOut(spec)
	}
	if only := w.opts.SingleOwner; only != "" && only != a.Job.Owner {
		refusal = "this worker runs tasks of " + only + " alone"
	}
	if refusal != "" {
		w.finish(r, &navvy.Attempt{
			ID: r.Attempt, Slot: a.Slot, Outcome: navvy.OutcomeFailed, Reason: navvy.ReasonStart, Message: refusal,
		}, nil)
		return nil
	}
	begun := &attempt{worker: w, ref: r, slot: a.Slot, spec: spec}
	if w.opts.Dir != "" && spec.IsProcess() && mixes(kind.Capabilities()) {
		begun.owner = &a.Job.Owner
	}
	if spec.Reserves() || begun.owner != nil {
		begun.stopped = make(chan struct{})
	}
	var sink output.Sink
	name := token(r)
	if w.opts.Dir == "" {
		begun.upload = &upload{ctx: ctx, server: w.server, ref: r}
		sink = begun.upload
	} else {
		begun.spool = w.newSpool(r, name)
		sink = begun.spool
	}
	begun.run = kind.Prepare(&runner.Task{
		Task: driver.Task{
			ID: r.Task, Attempt: r.Attempt, Token: name, Slot: a.Slot, Round: a.Round, Failed: a.Failed,
			Spec: spec, Format: a.Job.Format, Input: a.Input, API: begun.openAPI(),
			Owner: a.Job.Owner, Function: begun.function(), Files: begun.files(a), Package: begun.archive(a),
		},
		Sink: sink,
	})
	if a.Watch {
		begun.run.Watch()
	}
	w.mu.Lock()
	if kind.Settles() {
		w.outliving[r] = true
	}
	w.runs[r] = begun
	w.mu.Unlock()
	return begun
}

// mixes tells whether attempts of different owners could do something to each other.
func mixes(c driver.Capabilities) bool {
	return !slices.Contains(c.Enforces, navvy.AbilityIsolate) || !slices.Contains(c.Enforces, navvy.AbilityUser)
}

// do carries the attempt out and hands in its report.
func (a *attempt) do() {
	ended := a.runInRoom()
	if a.run.Left() {
		a.worker.passOn(a.ref)
	}
	a.closeAPI()
	if a.upload != nil {
		a.upload.close()
	}
	a.worker.finish(a.ref, ended, a.spool)
}

// runInRoom runs the attempt once there is room for it. What it has is free before
// anybody is told of its end.
func (a *attempt) runInRoom() *navvy.Attempt {
	room := a.worker.room
	var g *guest
	if a.stopped != nil {
		var in bool
		if g, in = room.enter(a.spec, a.owner, a.stopped); in {
			defer room.leave(g)
		}
	}
	if a.owner != nil {
		a.run.Before(func(ctx context.Context) error { return a.worker.vacate(ctx, *a.owner) })
	}
	a.run.SetEnv(room.environment(g))
	return a.run.Do()
}

// vacate ends what runners keep of other owners, such as warm hosts and what functions have
// left running in them. An attempt of the owner is in the room, so that nobody else's is.
func (w *Worker) vacate(ctx context.Context, owner string) error {
	for _, kind := range slices.Sorted(maps.Keys(w.runners)) {
		if err := w.runners[kind].Vacate(ctx, owner); err != nil {
			return fmt.Errorf("this worker cannot keep owners apart, and waits for what others have left: %w", err)
		}
	}
	return nil
}

// stop asks the attempt to end, or with force makes it.
func (a *attempt) stop(force bool) {
	a.run.Stop(force)
	a.giveUpRoom()
}

// leave asks the attempt to end, but leaves to itself what others can take over.
func (a *attempt) leave(force bool) {
	a.run.Leave(force)
	a.giveUpRoom()
}

// giveUpRoom says that it waits for room no longer.
func (a *attempt) giveUpRoom() {
	if a.stopped != nil {
		a.stopping.Do(func() { close(a.stopped) })
	}
}

// token names an attempt in the environment of its processes.
func token(r client.AttemptRef) string {
	b := make([]byte, 0, 48)
	b = append(b, r.Task.Job...)
	b = strconv.AppendInt(append(b, '-'), r.Task.Index, 10)
	return string(append(append(b, '-'), r.Attempt.String()...))
}

// passOn notes that what an attempt has started is another's from now on: the runner is not
// told that it is settled.
func (w *Worker) passOn(r client.AttemptRef) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.outliving, r)
}

// finish hands the end of an attempt to the reporter, at once or when its output has
// been sent; without a session it is made durable first.
func (w *Worker) finish(r client.AttemptRef, a *navvy.Attempt, s *spool) {
	f := &finished{Report: client.Report{Task: r.Task, Attempt: *a}}
	if s != nil && a.Output.Logged {
		f.spool = s
	}
	if s != nil {
		s.conclude(f)
	}
	w.mu.Lock()
	delete(w.runs, r)
	w.freed++
	if w.opts.Dir != "" {
		w.unsettled[r] = f
	}
	linked := w.link != nil
	if f.spool == nil && (linked || w.opts.Dir == "") {
		f.reported = true
		w.reports = append(w.reports, f.Report)
	}
	w.wakeLocked()
	w.mu.Unlock()
	if !linked {
		w.keep(f)
	}
	if s != nil {
		s.finish()
	}
}
