package holder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fullstorydev/grpchan/inprocgrpc"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/gateway/broker"
	"github.com/navvy-run/navvy/gateway/keda"
	"github.com/navvy-run/navvy/gateway/mstc"
	"github.com/navvy-run/navvy/gateway/netrpc"
	"github.com/navvy-run/navvy/internal/meter"
	"github.com/navvy-run/navvy/manager"
	"github.com/navvy-run/navvy/policy"
	"github.com/navvy-run/navvy/queue"
	queuedriver "github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/runner"
	"github.com/navvy-run/navvy/server"
	"github.com/navvy-run/navvy/server/auth"
	"github.com/navvy-run/navvy/share"
	"github.com/navvy-run/navvy/worker"
)

// Config says what a holder runs.
type Config struct {
	Dir *Dir
	// OpenStore opens the store. It calls full when the disk fills up and when
	// there is space again, and fatal when the store can be used no more.
	OpenStore func(ctx context.Context, full func(bool), fatal func(error)) (driver.Store, error)
	// OpenFiles opens the share that keeps the files of owners, which the holder closes; it
	// may be EngineShare. Defaults to none: nothing can be staged.
	OpenFiles func(ctx context.Context, eng *engine.Engine) (*share.Share, error)
	// Runners makes what runs tasks; nil for a holder that runs none, and serves nobody else.
	Runners func(ctx context.Context, journal *runner.Journal) ([]*runner.Runner, error)
	// Abilities tells what the runners enforce, without making them, for a holder
	// that runs nothing. Defaults to nothing known.
	Abilities func() []navvy.KindAbilities
	// RecoverOnly makes the runners, which ends what a dead predecessor left running,
	// and then is as if there were none.
	RecoverOnly bool
	// Serving is how others are served over the network, whose workers run tasks, too.
	// Defaults to not at all: the holder is there for its own user.
	Serving *Serving
	// Engine and Parallelism are passed on.
	Engine      engine.Options
	Parallelism int
	// Dispatch and Lease are passed on to the manager.
	Dispatch manager.Dispatch
	Lease    time.Duration
	// Slots is how many attempts the runners of this process take at once. Defaults
	// to what the manager thinks right.
	Slots int
	Owner string
	// LocalRole is that of Owner, who calls in process and over the socket. Defaults to admin.
	LocalRole auth.Role
	Policy    *policy.Policy // what new jobs may use; nil for all
	// Brokers are the drivers of brokers whose requests a server's queues can answer, by
	// the schemes of their URLs. Defaults to none.
	Brokers map[string]queuedriver.Driver
	// Claims and ClaimOver are passed on to what answers those.
	Claims    queue.Claims
	ClaimOver int
	Version   string
	Logger    *slog.Logger
}

// Holder is this process as the holder of a data directory.
type Holder struct {
	cfg      Config
	lock     *Lock
	store    driver.Store
	shut     func() error // closes the store, once
	files    *share.Share // nil for none
	eng      *engine.Engine
	mgr      *manager.Manager
	journal  *runner.Journal
	runs     []*runner.Runner
	channel  *inprocgrpc.Channel
	grpc     *grpc.Server
	listener *ownListener
	// httpSocket is for HTTP what listener is for gRPC.
	httpSocket *ownListener
	// What serves the network.
	port                           *grpc.Server
	door                           *door
	health                         *health.Server
	web                            []*http.Server
	webContext                     context.Context //nolint:containedctx // of all calls over HTTP, as net/http has it
	endWeb                         context.CancelCauseFunc
	gate                           *auth.Gate
	listeners                      []net.Listener
	serving                        []func() error
	httpAddr, healthAddr           net.Addr
	netrpc                         *netrpc.Gateway // nil for none, as those that follow
	netrpcAddr, faasAddr, mstcAddr net.Addr
	scaler                         *grpc.Server // nil unless KEDA asks
	scaling                        *keda.Gateway
	scalerAddr                     net.Addr
	mstc                           *mstc.Gateway   // nil for none
	brokers                        *broker.Gateway // nil for none
	metrics                        *prometheus.Registry
	forget                         func(context.Context) error // what has expired; nil for a holder that has no port
	publish, flush                 func(context.Context) error // what tasks have made
	syncs                          meter.Histogram

	calls   guests           // our own, about jobs
	running []*runner.Runner // nil if it runs nothing
	full    atomic.Bool
	wake    atomic.Pointer[manager.Manager] // mgr, for a store that fills up at any time

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
	h.webContext, h.endWeb = context.WithCancelCause(context.Background())
	defer func() {
		if err != nil {
			err = errors.Join(err, h.release())
		}
	}()
	if err := h.openManager(ctx); err != nil {
		return nil, err
	}
	h.wake.Store(h.mgr)
	local := auth.Identity{Name: cfg.Owner, Role: cmp.Or(cfg.LocalRole, auth.RoleAdmin), Local: true}
	h.gate = auth.NewGate(&auth.GateOptions{Local: &local, Audit: cfg.Logger})
	gate := h.gate
	srv, err := h.newServer(ctx)
	if err != nil {
		return nil, err
	}
	h.channel = NewChannel(gate, h.calls.stream)
	srv.Register(h.channel)
	if cfg.Runners == nil && cfg.Serving == nil {
		return h, h.run(nil)
	}
	var runners []*runner.Runner
	if cfg.Runners != nil {
		if runners, err = h.runners(ctx); err != nil {
			return nil, err
		}
	}
	h.running = runners
	if cfg.RecoverOnly {
		return h, h.run(nil)
	}
	if cfg.Serving != nil {
		if err := h.openPort(ctx, srv, local); err != nil {
			return nil, err
		}
	}
	if h.listener, err = cfg.Dir.listen(socketName); err != nil {
		return nil, err
	}
	if err := h.openHTTPSocket(local); err != nil {
		return nil, err
	}
	h.grpc = grpc.NewServer(server.GRPCOptions(gate, nil)...)
	srv.Register(h.grpc)
	return h, h.run(runners)
}

// openManager makes the manager of what the store holds, which waits for the workers
// of an earlier server.
func (h *Holder) openManager(ctx context.Context) error {
	cfg := &h.cfg
	store, err := cfg.OpenStore(ctx, h.setFull, h.fail)
	if err != nil {
		return err // store may be a pointer to nothing
	}
	h.shut = sync.OnceValue(store.Close)
	if h.store = store; cfg.Serving != nil {
		h.store = &timedStore{store, h.syncs.Observe}
	}
	if h.eng, err = engine.Open(ctx, h.store, &cfg.Engine); err != nil {
		return err
	}
	if err := h.eng.Room(); err != nil && cfg.Serving != nil {
		cfg.Logger.Warn("the disk is nearly full: new jobs are refused", "error", err)
	}
	awaited, err := server.Roster(ctx, h.eng)
	if err != nil {
		return err
	}
	h.mgr = manager.New(h.eng, &manager.Options{
		Clock: cfg.Engine.Clock, Logger: cfg.Logger, Parallelism: cfg.Parallelism, Full: h.full.Load, Local: h.onlyLocal(),
		Dispatch: cfg.Dispatch, Lease: cfg.Lease, Awaited: awaited,
	})
	return nil
}

// newServer makes the API, and tells the manager what queues may do.
func (h *Holder) newServer(ctx context.Context) (*server.Server, error) {
	o := &server.Options{
		Gate: h.gate, Authority: h.cfg.authority(), Policy: h.cfg.Policy, Clock: h.cfg.Engine.Clock,
		Version: h.cfg.Version, Logger: h.cfg.Logger,
		Full: func() bool { return h.full.Load() || h.mgr.OutputWaits() || h.eng.Room() != nil },
	}
	if h.cfg.Serving != nil && h.cfg.Brokers != nil {
		h.brokers = broker.New(h.cfg.Brokers, &broker.Options{
			Clock: h.cfg.Engine.Clock, Claims: h.cfg.Claims, ClaimOver: h.cfg.ClaimOver, Logger: h.cfg.Logger,
		})
		o.Brokers = h.brokers
	}
	if h.cfg.OpenFiles != nil {
		var err error
		if h.files, err = h.cfg.OpenFiles(ctx, h.eng); err != nil {
			return nil, err
		}
		o.Files = h.files
	}
	srv := server.New(h.mgr, h.eng, o)
	if err := srv.LoadFiles(ctx); err != nil {
		h.cfg.Logger.Warn("what tasks have made is published later", "error", err)
	}
	h.publish, h.flush = srv.PublishFiles, srv.FlushFiles
	return srv, srv.LoadQueues(ctx)
}

// runners opens the journal, and settles what it names.
func (h *Holder) runners(ctx context.Context) ([]*runner.Runner, error) {
	var err error
	if h.journal, err = h.cfg.Dir.OpenJournal(); err != nil {
		return nil, err
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

// onlyLocal is what this process can enforce, if nobody else will run tasks.
func (h *Holder) onlyLocal() func() []navvy.KindAbilities {
	if h.cfg.Serving != nil {
		return nil
	}
	return h.abilities
}

// run starts what goes on in the background.
func (h *Holder) run(runners []*runner.Runner) error {
	h.work = &errgroup.Group{}
	var serving, working context.Context
	serving, h.stopServe = context.WithCancelCause(context.Background())
	working, h.stopWorker = context.WithCancelCause(context.Background())
	h.background(serving, "manager", h.mgr.Run)
	h.background(serving, "files", h.publish)
	if h.grpc == nil {
		return nil
	}
	h.servePort()
	if h.forget != nil {
		h.background(serving, "registry", h.forget)
	}
	h.runGateways(serving)
	h.work.Go(func() error {
		if err := h.grpc.Serve(h.listener); err != nil {
			h.fail(fmt.Errorf("serve the socket in %s: %w", h.cfg.Dir.path, err))
		}
		return nil
	})
	if runners == nil {
		return nil
	}
	w := worker.New(client.NewWorkers(h.channel), runners, &worker.Options{
		Name: workerHost(), Slots: h.cfg.Slots, TaskSocket: h.cfg.Dir.TaskSocket(), Logger: h.cfg.Logger,
	})
	h.background(working, "worker", w.Run)
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
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-h.httpSocket.nobody():
		}
		timer := time.NewTimer(quiet)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
		if h.mgr.Idle() && h.listener.connected()+h.httpSocket.connected() == 0 {
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
	if h.health != nil {
		h.health.Shutdown() // who asks is told that this server takes nothing new
	}
	if h.Err() == nil {
		_ = h.drain(ctx, interrupt) // if it fails ctx has ended, and others go on with what is left
		left, err = h.mgr.Left(context.WithoutCancel(ctx))
	}
	h.sweep(ctx)
	h.stopWorker(errLeaving)
	defer time.AfterFunc(leaveTimeout, h.cut).Stop()
	defer context.AfterFunc(ctx, h.cut)()
	if h.grpc != nil {
		h.mgr.Leave(errLeaving)
		h.closePort(false)
		h.grpc.GracefulStop()
	}
	ending, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	_ = h.AwaitCalls(ending) // after that they are cut
	if err := h.flush(ending); err != nil {
		h.cfg.Logger.Warn("what tasks have made is published by the next start", "error", err)
	}
	h.stopServe(errLeaving)
	_ = h.work.Wait() // failures are kept in h.failed
	return left, errors.Join(err, h.release())
}

// drain takes nothing new and lets what goes on come to an end: with workers of its
// own what they run; what others run they bring back to the next server.
func (h *Holder) drain(ctx context.Context, interrupt bool) error {
	if h.cfg.Serving != nil && h.running == nil {
		return h.mgr.Rest(ctx)
	}
	return h.mgr.Drain(ctx, interrupt)
}

// cut ends what Close has waited for long enough. A write that waits for space on
// a full disk, for whomever, is woken by nothing but the end of the store.
func (h *Holder) cut() {
	h.stopServe(errLeaving)
	h.closePort(true)
	if h.grpc != nil {
		h.grpc.Stop()
	}
	_ = h.shut() // release tells its error
}

// release gives back what Start has taken, in reverse.
func (h *Holder) release() error {
	h.endWeb(errLeaving)
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
	if h.files != nil {
		errs = append(errs, h.files.Close())
	}
	for _, l := range h.listeners {
		_ = l.Close() // again, if it was ever served
	}
	if h.grpc != nil {
		for _, name := range []string{socketName, httpSocketName} {
			if err := os.Remove(h.cfg.Dir.join(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(append(errs, h.lock.Unlock())...)
}
