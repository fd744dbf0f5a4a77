package worker

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/runner"
)

// defaultSweep is how often a worker looks for what has been left running, unless it is told.
const defaultSweep = 5 * time.Minute

// firstSweep is how soon after a session has begun the first look comes, and after something
// was left of which perhaps nobody wants anything any more. As others may yet have to say so,
// looks follow after that, each after twice the time, until lastSweep.
const (
	firstSweep = 2 * time.Second
	lastSweep  = time.Minute
)

// Sweep ends what an earlier process on this data directory has left running of tasks whose
// answers nobody wants any more, for a process that runs none of its own. What cannot be ended
// now is so by the next one.
func Sweep(ctx context.Context, server *client.Workers, runners []*runner.Runner, log *slog.Logger) {
	w := New(server, runners, &Options{Logger: log})
	for _, r := range runners {
		w.sweep(ctx, r, slices.DeleteFunc(r.Adrift(), func(a runner.Adrift) bool { return !a.Own }), false)
	}
}

// sweeps ends, for as long as a session lasts, what is left running of attempts whose tasks
// nobody wants answered any more: their workers are dead, and their jobs were stopped since,
// or others have answered. Attempts that outlive their workers may be taken over as long as
// their tasks are open. What does the work may come later: then it is looked soon, too.
func (w *Worker) sweeps(ctx context.Context, r *runner.Runner) {
	every := w.opts.Sweep
	if every <= 0 {
		every = defaultSweep
	}
	come := r.Come()
	soon := time.Duration(0) // between looks for what strays; 0 if nothing does
	due := time.Now().Add(min(firstSweep, every))
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	early := func() {
		soon = min(firstSweep, every)
		if next := time.Now().Add(soon); next.Before(due) {
			due = next
			timer.Reset(soon)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-come:
			come = nil
			early()
			continue
		case <-r.Strays():
			early()
			continue
		case <-timer.C:
		}
		w.sweep(ctx, r, w.strangers(r.Adrift()), true)
		wait := every/2 + rand.N(every) // not all workers at once
		if soon *= 2; soon > lastSweep {
			soon = 0
		}
		if soon > 0 {
			wait = min(wait, soon)
		}
		due = time.Now().Add(wait)
		timer.Reset(wait)
	}
}

// sweep ends what of a list nobody waits for, and with look forgets what others have taken over.
func (w *Worker) sweep(ctx context.Context, r *runner.Runner, list []runner.Adrift, look bool) {
	if len(list) == 0 {
		return
	}
	tasks := make([]navvy.TaskID, len(list))
	for i := range list {
		tasks[i] = list[i].Task
	}
	fates, err := w.server.Fates(ctx, tasks)
	if err != nil {
		if ctx.Err() == nil {
			w.log.Warn("what was left running is not looked after for now", "err", err)
		}
		return
	}
	for i := range list {
		if look || fates[i] != client.FateOpen {
			w.decide(ctx, r, &list[i], fates[i])
		}
	}
}

// decide ends one that nobody waits for. What the server does not know may be another
// server's, unless it was begun here.
func (w *Worker) decide(ctx context.Context, r *runner.Runner, a *runner.Adrift, fate client.Fate) {
	var err error
	switch {
	case fate == client.FateClosed, fate == client.FateUnknown && a.Own:
		err = r.Sweep(ctx, a)
	case fate == client.FateOpen:
		err = r.Look(ctx, a)
	}
	if err != nil && ctx.Err() == nil {
		w.log.Warn("what was left running cannot be ended for now", "task", a.Task, "err", err)
	}
}

// strangers are those that this process does not run.
func (w *Worker) strangers(list []runner.Adrift) []runner.Adrift {
	if len(list) == 0 {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	ours := make(map[string]bool, len(w.runs)+len(w.unsettled))
	for ref := range w.runs {
		ours[token(ref)] = true
	}
	for ref := range w.unsettled {
		ours[token(ref)] = true
	}
	for ref := range w.outliving {
		ours[token(ref)] = true
	}
	kept := list[:0]
	for _, a := range list {
		if !ours[a.Token] {
			kept = append(kept, a)
		}
	}
	return kept
}
