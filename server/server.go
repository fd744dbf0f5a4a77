package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/manager"
	"github.com/navvy-run/navvy/policy"
	"github.com/navvy-run/navvy/server/auth"
)

// Server serves one manager and its engine. Its methods may be called at once.
type Server struct {
	mgr  *manager.Manager
	eng  *engine.Engine
	opts Options
	// issuing orders what is issued and what is revoked: nothing is renewed while it is revoked.
	issuing  sync.Mutex
	standing standing
	// queueing orders changes of queues: the manager has what is registered.
	queueing sync.Mutex

	// registering orders changes of functions; known remembers some.
	registering sync.RWMutex
	known       functionCache
	publishing  publishing
	sharing     sharing

	desk *desk
}

// Options are the settings of a Server.
type Options struct {
	// Gate has the interceptors before all calls, and is told what was revoked. Who
	// calls is what auth.From says. Defaults to a gate of its own.
	Gate *auth.Gate
	// Authority issues certificates. Defaults to none: they come from an outside one.
	Authority *auth.Authority
	// Clock tells the time. Defaults to time.Now.
	Clock func() time.Time
	// Policy says what jobs may use. Defaults to none: whatever they ask for.
	Policy *policy.Policy
	// Version is what Overview tells.
	Version string
	// Full tells whether the disk is so full that submits are refused. Defaults to never.
	Full func() bool
	// LookOn is how long a job of containers gets on with nothing before its worker is asked
	// what it waits for, on behalf of those who wait for the job. Defaults to 5 s.
	LookOn time.Duration
	// Files keeps the files of owners, and what attempts have made. Defaults to none.
	Files FileStore
	// Brokers answers requests of brokers. Defaults to nobody: queues cannot be attached.
	Brokers Brokers
	// Logger takes the errors that callers are told only the number of. Defaults to one that discards.
	Logger *slog.Logger
}

// New makes the server of a manager and the engine that it serves.
func New(mgr *manager.Manager, eng *engine.Engine, opts *Options) *Server {
	s := &Server{mgr: mgr, eng: eng}
	s.publishing.waiting, s.publishing.added = map[manager.Ref]*attemptFiles{}, make(chan struct{}, 1)
	if opts != nil {
		s.opts = *opts
	}
	if s.opts.Gate == nil {
		s.opts.Gate = auth.NewGate(nil)
	}
	if s.opts.Clock == nil {
		s.opts.Clock = time.Now
	}
	if s.opts.Full == nil {
		s.opts.Full = func() bool { return false }
	}
	if s.opts.LookOn <= 0 {
		s.opts.LookOn = firstLook
	}
	if s.opts.Logger == nil {
		s.opts.Logger = slog.New(slog.DiscardHandler)
	}
	s.desk = newDesk(eng, s.opts.Clock)
	return s
}

// Register adds the services to a registrar: a grpc.Server, a channel in process.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	navvyv1.RegisterJobsServer(r, &jobs{Server: s})
	navvyv1.RegisterWorkersServer(r, &workers{Server: s})
	navvyv1.RegisterFleetServer(r, &fleet{Server: s})
	navvyv1.RegisterKVServer(r, &kv{Server: s})
	navvyv1.RegisterTaskKVServer(r, &taskKV{Server: s})
	navvyv1.RegisterFilesServer(r, &files{Server: s})
	navvyv1.RegisterTaskFilesServer(r, &taskFiles{Server: s})
	navvyv1.RegisterIdentityServer(r, &identity{Server: s})
	navvyv1.RegisterQueuesServer(r, &queues{Server: s})
	navvyv1.RegisterFunctionsServer(r, &functions{Server: s})
	navvyv1.RegisterMessagesServer(r, &messages{Server: s})
}

// fail turns an error into what the caller is told.
func (s *Server) fail(err error) error {
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("the client has left: %w", navvy.ErrClosed) // what Send says in process
	}
	return api.ToWire(err, func(err error) string {
		id := rand.Text()[:8]
		s.opts.Logger.Error("internal error", "request", id, "error", whole(err))
		return "internal error, see request " + id + " in navvy's log: " + err.Error()
	})
}

// progressEvery is how often at most a client is told of progress.
const progressEvery = 100 * time.Millisecond

// cleanup bounds what is done for a client that has left.
const cleanup = 30 * time.Second

// afterwards is a context for what must be done although the call's own has ended.
func afterwards(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanup)
}
