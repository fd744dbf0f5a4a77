package netrpc

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/rpc"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/gateway/records"
)

// Bounds of what strangers on this machine can make a gateway hold.
const (
	maxName    = 4 << 10 // of a job
	maxAddress = 256     // of a worker
	maxWorkers = 1024
	maxTodo    = 100_000  // work that waits
	maxDone    = 10_000   // records of work that was assigned
	maxConns   = 256      // at once
	maxRead    = 64 << 10 // of one connection
)

// Gateway is the manager of that system. Its methods may be called at once.
type Gateway struct {
	listener net.Listener
	records  records.Store
	opts     Options
	log      *slog.Logger
	wake     chan struct{} // there is work, or a worker

	life context.Context //nolint:containedctx // of Run, for calls, which net/rpc gives none

	giving  sync.Mutex // numbers become durable in their order
	joining sync.Mutex // one at a time changes workers and their records
	mu      sync.Mutex
	workers []string // by address, in the order of their turns
	last    int64    // the number of the newest work
	todo    int
	done    []string // names, the oldest first
}

// Options are the settings of a Gateway.
type Options struct {
	// Timeout bounds each call to a worker. Defaults to 5 s.
	Timeout time.Duration
	// Probe is how often workers are looked after, and work that they have refused is
	// offered again. Defaults to 2 s.
	Probe time.Duration
	// Logger takes what becomes of work and workers. Defaults to one that discards.
	Logger *slog.Logger
}

// Listen opens an address on loopback. The error wraps navvy.ErrDenied if others
// than this machine would reach it.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	if err := CheckAddress(address); err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("netrpc: %w", err)
	}
	return l, nil
}

// CheckAddress refuses an address that is none on loopback: navvy.ErrDenied, or
// navvy.ErrInvalid if it is no address at all.
func CheckAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if _, badPort := strconv.ParseUint(port, 10, 16); err != nil || badPort != nil {
		return fmt.Errorf("netrpc address %.300q: want HOST:PORT: %w", address, navvy.ErrInvalid)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("netrpc address %.300q: net/rpc tells nobody apart, and is for loopback only: %w", address, navvy.ErrDenied)
	}
	return nil
}

// New makes a gateway that serves l, which Run closes, and goes on with what the
// store has.
func New(l net.Listener, store records.Store, opts *Options) *Gateway {
	g := &Gateway{listener: l, records: store, wake: make(chan struct{}, 1)}
	if opts != nil {
		g.opts = *opts
	}
	if g.opts.Timeout <= 0 {
		g.opts.Timeout = 5 * time.Second
	}
	if g.opts.Probe <= 0 {
		g.opts.Probe = 2 * time.Second
	}
	if g.log = g.opts.Logger; g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	return g
}

// Run serves until ctx ends, and returns why. It is called once.
func (g *Gateway) Run(ctx context.Context) error {
	if err := g.load(ctx); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	g.life = ctx
	group.Go(func() error { return g.serve(ctx) })
	group.Go(func() error { return g.dispatch(ctx) })
	return group.Wait()
}

// load takes up what an earlier gateway has left.
func (g *Gateway) load(ctx context.Context) error {
	err := records.Each(ctx, g.records, workerPrefix, func(r *records.Record) error {
		g.workers = append(g.workers, strings.TrimPrefix(r.Name, workerPrefix))
		return nil
	})
	for _, prefix := range []string{todoPrefix, donePrefix} {
		if err != nil {
			return err
		}
		err = records.Each(ctx, g.records, prefix, func(r *records.Record) error {
			n, err := strconv.ParseInt(strings.TrimPrefix(r.Name, prefix), 10, 64)
			if err != nil {
				return fmt.Errorf("netrpc: the name %q is none of work: %w", r.Name, navvy.ErrCorrupt)
			}
			g.last = max(g.last, n)
			if prefix == todoPrefix {
				g.todo++
			} else {
				g.done = append(g.done, r.Name)
			}
			return nil
		})
	}
	g.poke()
	return err
}

// poke wakes the dispatcher.
func (g *Gateway) poke() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// serve takes connections.
func (g *Gateway) serve(ctx context.Context) error {
	server := rpc.NewServer()
	if err := server.RegisterName("Manager", &manager{g}); err != nil {
		return fmt.Errorf("netrpc: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = g.listener.Close() })()
	var serving sync.WaitGroup
	defer serving.Wait()
	room := make(chan struct{}, maxConns)
	for {
		conn, err := g.listener.Accept()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		} else if err != nil {
			return fmt.Errorf("netrpc: %w", err)
		}
		select {
		case room <- struct{}{}:
		default:
			_ = conn.Close() // who says nothing keeps its place for a minute only
			continue
		}
		serving.Go(func() {
			defer func() { <-room }()
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
			_ = conn.SetDeadline(time.Now().Add(connTime)) // it has just been opened
			server.ServeConn(bounded(conn))
		})
	}
}

// connTime is how long a connection to the manager may last.
const connTime = time.Minute

// register makes a worker known.
func (g *Gateway) register(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err == nil && host == "" {
		address = net.JoinHostPort("localhost", port)
	}
	if err := CheckAddress(address); err != nil {
		return fmt.Errorf("register: %w", err)
	}
	if len(address) > maxAddress {
		return fmt.Errorf("register: an address of %d bytes, more than %d: %w", len(address), maxAddress, navvy.ErrInvalid)
	}
	g.joining.Lock()
	defer g.joining.Unlock()
	g.mu.Lock()
	known, full := slices.Contains(g.workers, address), len(g.workers) >= maxWorkers
	g.mu.Unlock()
	if known {
		return nil
	}
	if full {
		return fmt.Errorf("register: there are %d workers, and no more can be: %w", maxWorkers, navvy.ErrExhausted)
	}
	c, err := record(workerPrefix+address, time.Now())
	if err == nil {
		err = g.records.Apply(g.life, c)
	}
	if err != nil {
		return fmt.Errorf("register: %w", err)
	}
	g.mu.Lock()
	g.workers = append(g.workers, address)
	g.mu.Unlock()
	g.log.Info("a worker has registered", "worker", address)
	g.poke()
	return nil
}

// give takes work; it is durable when give returns.
func (g *Gateway) give(name string) error {
	if name == "" || len(name) > maxName || !utf8.ValidString(name) {
		return fmt.Errorf("work: a job name of %d bytes, want 1 to %d of UTF-8: %w", len(name), maxName, navvy.ErrInvalid)
	}
	g.giving.Lock()
	defer g.giving.Unlock()
	now := time.Now()
	g.mu.Lock()
	n, full := max(g.last+1, now.UnixNano()), g.todo >= maxTodo
	g.last = n
	g.mu.Unlock()
	if full {
		return fmt.Errorf("work: %d jobs wait, and no more can: %w", maxTodo, navvy.ErrExhausted)
	}
	c, err := record(todoPrefix+number(n), Work{JobName: name, Given: now.UTC()})
	if err == nil {
		err = g.records.Apply(g.life, c)
	}
	if err != nil {
		return fmt.Errorf("work: %w", err)
	}
	g.mu.Lock()
	g.todo++
	g.mu.Unlock()
	g.poke()
	return nil
}

// addresses are those of the workers, in their order.
func (g *Gateway) addresses() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := slices.Clone(g.workers)
	slices.Sort(list)
	return list
}
