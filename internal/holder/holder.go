package holder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fullstorydev/grpchan/inprocgrpc"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/manager"
	"github.com/navvy-run/navvy/policy"
	"github.com/navvy-run/navvy/runner"
	"github.com/navvy-run/navvy/server"
	"github.com/navvy-run/navvy/worker"
)

// Config says what a holder runs.
type Config struct {
	Dir *Dir
	// OpenStore opens the store. It calls full when the disk fills up and when
	// there is space again, and fatal when the store can be used no more.
	OpenStore func(ctx context.Context, full func(bool), fatal func(error)) (driver.Store, error)
	// Runners makes what runs tasks; nil for a holder that runs none, and serves nobody else.
	Runners func(ctx context.Context, journal *runner.Journal) ([]*runner.Runner, error)
	// Abilities tells what the runners enforce, without making them, for a holder
	// that runs nothing. Defaults to nothing known.
	Abilities func() []navvy.KindAbilities
	// RecoverOnly makes the runners, which ends what a dead predecessor left running,
	// and then is as if there were none.
	RecoverOnly bool
	// Engine and Parallelism are passed on.
	Engine      engine.Options
	Parallelism int
	Owner       string
	Policy      *policy.Policy // what new jobs may use; nil for all
	Version     string
	Logger      *slog.Logger
}

// Holder is this process as the holder of a data directory.
type Holder struct {
	cfg      Config
	lock     *Lock
	store    driver.Store
	shut     func() error // closes the store, once
	eng      *engine.Engine
	mgr      *manager.Manager
	journal  *runner.Journal
	runs     []*runner.Runner
	channel  *inprocgrpc.Channel
	grpc     *grpc.Server
	listener *ownListener
	calls    guests           // our own, about jobs
	running  []*runner.Runner // nil if it runs nothing
	full     atomic.Bool
	wake     atomic.Pointer[manager.Manager] // mgr, for a store that fills up at any time

	work       *errgroup.Group
	stopServe  context.CancelCauseFunc
	stopWorker context.CancelCauseFunc

	mu     sync.Mutex
	failed error
	done   chan struct{} // closed when something failed
}

var errLeaving = fmt.Errorf("this navvy is about to end: %w", navvy.ErrUnavailable)

// Start makes this process the holder, whose lock it takes over. With runners
// it ends first what a dead predecessor left running, then serves the socket.
func Start(ctx context.Context, lock *Lock, cfg Config) (_ *Holder, err error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Holder{cfg: cfg, lock: lock, done: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.release())
		}
	}()
	store, err := cfg.OpenStore(ctx, h.setFull, h.fail)
	if err != nil {
		return nil, err // store may be a pointer to nothing
	}
	h.store, h.shut = store, sync.OnceValue(store.Close)
	h.eng, err = engine.Open(ctx, h.store, &cfg.Engine)
	if err != nil {
		return nil, err
	}
	h.mgr = manager.New(h.eng, &manager.Options{
		Clock: cfg.Engine.Clock, Logger: cfg.Logger, Parallelism: cfg.Parallelism, Full: h.full.Load, Local: h.abilities,
	})
	h.wake.Store(h.mgr)
	srv := server.New(h.mgr, h.eng, &server.Options{
		Owner:  func(context.Context) string { return cfg.Owner },
		Policy: cfg.Policy, Role: func(context.Context) policy.Role { return cfg.Policy.Local() },
		Version: cfg.Version, Logger: cfg.Logger,
		Full: func() bool { return h.full.Load() || h.mgr.OutputWaits() },
	})
	h.channel = (&inprocgrpc.Channel{}).WithCloner(sharing{}).WithServerStreamInterceptor(h.calls.stream)
	srv.Register(h.channel)
	if cfg.Runners == nil {
		return h, h.run(nil)
	}
	runners, err := h.runners(ctx)
	if err != nil {
		return nil, err
	}
	h.running = runners
	if cfg.RecoverOnly {
		return h, h.run(nil)
	}
	if h.listener, err = cfg.Dir.listen(); err != nil {
		return nil, err
	}
	h.grpc = grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage))
	srv.Register(h.grpc)
	return h, h.run(runners)
}

// runners opens the journal, and settles what it names.
func (h *Holder) runners(ctx context.Context) ([]*runner.Runner, error) {
	if err := os.MkdirAll(h.cfg.Dir.join(workerName), 0o700); err != nil {
		return nil, dirError(h.cfg.Dir.path, err)
	}
	var err error
	if h.journal, err = runner.OpenJournal(h.cfg.Dir.join(workerName + "/" + journalName)); err != nil {
		return nil, fmt.Errorf("data directory %s: %w", h.cfg.Dir.path, err)
	}
	h.runs, err = h.cfg.Runners(ctx, h.journal)
	return h.runs, err
}

// abilities is what this process can enforce: no other one works for a holder.
func (h *Holder) abilities() []navvy.KindAbilities {
	if h.running == nil && h.cfg.Abilities != nil {
		return h.cfg.Abilities()
	}
	var list []navvy.KindAbilities
	for _, r := range h.running {
		caps := r.Capabilities()
		list = append(list, caps.Abilities())
	}
	return list
}

// run starts what goes on in the background.
func (h *Holder) run(runners []*runner.Runner) error {
	h.work = &errgroup.Group{}
	var serving, working context.Context
	serving, h.stopServe = context.WithCancelCause(context.Background())
	working, h.stopWorker = context.WithCancelCause(context.Background())
	h.background(serving, "manager", h.mgr.Run)
	if runners == nil {
		return nil
	}
	w := worker.New(client.NewWorkers(h.channel), runners, &worker.Options{Name: workerHost(), Logger: h.cfg.Logger})
	h.background(working, "worker", w.Run)
	h.work.Go(func() error {
		if err := h.grpc.Serve(h.listener); err != nil {
			h.fail(fmt.Errorf("serve the socket in %s: %w", h.cfg.Dir.path, err))
		}
		return nil
	})
	return nil
}

// background runs a part until its context ends; an end before that is a failure.
func (h *Holder) background(ctx context.Context, part string, run func(context.Context) error) {
	h.work.Go(func() error {
		if err := run(ctx); ctx.Err() == nil {
			h.fail(fmt.Errorf("%s: %w", part, err))
		}
		return nil
	})
}

func workerHost() string {
	name, err := os.Hostname()
	if err != nil {
		return "local"
	}
	return name
}

func (h *Holder) setFull(full bool) {
	if h.full.Swap(full) == full {
		return
	}
	if full {
		h.cfg.Logger.Warn("the disk is full: answers wait, nothing new is started", "dir", h.cfg.Dir.path)
	} else {
		h.cfg.Logger.Info("there is disk space again", "dir", h.cfg.Dir.path)
	}
	if mgr := h.wake.Load(); mgr != nil {
		mgr.Wake()
	}
}

func (h *Holder) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed == nil {
		h.failed = err
		close(h.done)
	}
}

// Failed is closed when the holder can no longer serve; Err says why.
func (h *Holder) Failed() <-chan struct{} { return h.done }

// Err is why the holder failed; nil while it works.
func (h *Holder) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failed
}

// Conn is the API in this process.
func (h *Holder) Conn() grpc.ClientConnInterface { return h.channel }

// AwaitIdle returns when for some time there has been nothing to do and nobody connected.
func (h *Holder) AwaitIdle(ctx context.Context, quiet time.Duration) error {
	for {
		if err := h.mgr.AwaitIdle(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-h.listener.nobody():
		}
		timer := time.NewTimer(quiet)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
		if h.mgr.Idle() && h.listener.connected() == 0 {
			return nil
		}
	}
}

// Drain takes no further jobs, and returns when it is right to close: when nobody
// submits anything and nothing runs. When ctx ends it returns its error.
func (h *Holder) Drain(ctx context.Context) error { return h.mgr.Drain(ctx, false) }

// AwaitCalls returns when the calls of this process about jobs have ended, also for
// the server: until then what they did is a part of Busy. When ctx ends it returns its error.
func (h *Holder) AwaitCalls(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-h.calls.nobody():
		return nil
	}
}

// Busy tells how many tasks and submissions a leaving holder would have to wait for.
func (h *Holder) Busy() int { return h.mgr.Busy() }

// leaveTimeout bounds the end of calls that are open when all reports are settled.
const leaveTimeout = 5 * time.Second

// Close leaves: nothing new is started, what runs ends, all reports are settled,
// the lock is given free. With interrupt what runs is ended, to run again later;
// when ctx ends, at once. left says that there are detached jobs to go on with.
func (h *Holder) Close(ctx context.Context, interrupt bool) (left bool, err error) {
	if h.Err() == nil {
		_ = h.mgr.Drain(ctx, interrupt) // if it fails ctx has ended, and others go on with what is left
		left, err = h.mgr.Left(context.WithoutCancel(ctx))
	}
	h.stopWorker(errLeaving)
	defer time.AfterFunc(leaveTimeout, h.cut).Stop()
	defer context.AfterFunc(ctx, h.cut)()
	if h.grpc != nil {
		h.mgr.Leave(errLeaving)
		h.grpc.GracefulStop()
	}
	ending, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	_ = h.AwaitCalls(ending) // after that they are cut
	h.stopServe(errLeaving)
	_ = h.work.Wait() // failures are kept in h.failed
	return left, errors.Join(err, h.release())
}

// cut ends what Close has waited for long enough. A write that waits for space on
// a full disk, for whomever, is woken by nothing but the end of the store.
func (h *Holder) cut() {
	h.stopServe(errLeaving)
	if h.grpc != nil {
		h.grpc.Stop()
	}
	_ = h.shut() // release tells its error
}

// release gives back what Start has taken, in reverse.
func (h *Holder) release() error {
	var errs []error
	for _, r := range h.runs {
		errs = append(errs, r.Close())
	}
	if h.journal != nil {
		errs = append(errs, h.journal.Close())
	}
	if h.store != nil {
		errs = append(errs, h.shut())
	}
	if h.grpc != nil {
		if err := os.Remove(h.cfg.Dir.join(socketName)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, h.lock.Unlock())...)
}
