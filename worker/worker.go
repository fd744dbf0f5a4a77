package worker

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/runner"
)

// Worker runs tasks of one server.
type Worker struct {
	server  *client.Workers
	runners map[string]*runner.Runner
	opts    Options

	mu       sync.Mutex
	runs     map[client.AttemptRef]*runner.Run
	finished []client.Report
	ready    chan struct{} // reports are waiting
	hands    hands
}

// Options are the settings of a Worker.
type Options struct {
	// Name is how the worker is called. Defaults to "local".
	Name string
	// Slots is how many attempts it takes at once. Defaults to what the server thinks right.
	Slots int
	// Logger takes what goes wrong beside an attempt. Defaults to one that discards.
	Logger *slog.Logger
}

// New makes a worker that leases from a server and runs what the runners can,
// one for each kind of work.
func New(server *client.Workers, runners []*runner.Runner, opts *Options) *Worker {
	w := &Worker{
		server: server, runners: map[string]*runner.Runner{},
		runs: map[client.AttemptRef]*runner.Run{}, ready: make(chan struct{}, 1),
	}
	if opts != nil {
		w.opts = *opts
	}
	if w.opts.Name == "" {
		w.opts.Name = "local"
	}
	if w.opts.Logger == nil {
		w.opts.Logger = slog.New(slog.DiscardHandler)
	}
	for _, r := range runners {
		w.runners[r.Capabilities().Kind] = r
	}
	return w
}

// Run works until ctx ends or the server goes away, then ends what still runs
// and returns why. It is called once.
func (w *Worker) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	info := client.WorkerInfo{Name: w.opts.Name, Slots: w.opts.Slots}
	for _, kind := range slices.Sorted(maps.Keys(w.runners)) {
		info.Kinds = append(info.Kinds, kind)
		caps := w.runners[kind].Capabilities()
		info.Abilities = append(info.Abilities, caps.Abilities())
	}
	session, err := w.server.Work(ctx, info)
	if err == nil {
		g.Go(func() error { return w.obey(ctx, session) })
		g.Go(func() error { return w.report(ctx, session) })
		err = g.Wait()
		w.stopAll()
		w.hands.end()
	}
	return fmt.Errorf("worker %s: %w", w.opts.Name, err)
}

// obey does what the server says.
func (w *Worker) obey(ctx context.Context, session *client.Session) error {
	for {
		orders, err := session.Next()
		if err != nil {
			return err
		}
		w.start(ctx, orders.Assignments)
		for _, r := range orders.Watch {
			if run := w.run(r); run != nil {
				run.Watch()
			}
		}
		for _, s := range orders.Stops {
			if run := w.run(s.AttemptRef); run != nil {
				run.Stop(s.Force)
			}
		}
		for _, s := range orders.Settled {
			if s.Refused != "" {
				w.opts.Logger.Info("a result was refused", "task", s.Task, "attempt", s.Attempt, "why", s.Refused)
			}
		}
	}
}

func (w *Worker) run(r client.AttemptRef) *runner.Run {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.runs[r]
}

func (w *Worker) stopAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, run := range w.runs {
		run.Stop(true)
	}
}

// report sends what has finished; what finishes meanwhile goes together.
func (w *Worker) report(ctx context.Context, session *client.Session) error {
	var reports []client.Report
	for {
		clear(reports)
		w.mu.Lock()
		reports, w.finished = w.finished, reports[:0]
		w.mu.Unlock()
		if len(reports) > 0 {
			if err := session.Report(reports); err != nil {
				return err
			}
			continue
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-w.ready:
		}
	}
}
