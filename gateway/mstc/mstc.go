package mstc

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/gateway/records"
	"github.com/navvy-run/navvy/internal/pause"
	"github.com/navvy-run/navvy/server/auth"
)

// Options are the settings of a Gateway.
type Options struct {
	// Owner is whose the jobs are that come over the broker, with the role user. Defaults to
	// DefaultOwner.
	Owner string
	// Queue is that of navvy's which the jobs wait on. Defaults to navvy.DefaultQueue.
	Queue string
	// Ahead is how many requests are taken from the broker beyond those for which workers
	// have slots. Defaults to DefaultAhead.
	Ahead int
	// Slots tells how many containers the workers that there are run at once. Defaults to
	// nothing known: Ahead alone counts.
	Slots func() int
	// Look is how often Slots is asked. Defaults to 1 s.
	Look time.Duration
	// Clock tells the time. Defaults to time.Now.
	Clock func() time.Time
	// Logger hears of brokers that cannot be reached, and of what becomes of requests.
	// Defaults to one that discards.
	Logger *slog.Logger
}

// Defaults of Options.
const (
	DefaultOwner = "mstc"
	DefaultAhead = 100
)

// Gateway answers the requests of one broker. Its methods may be called at once.
type Gateway struct {
	address *address
	records records.Store
	client  *client.Client
	opts    Options
	logger  *slog.Logger

	settling sync.WaitGroup // answers that are on their way

	mu      sync.Mutex
	changed chan struct{} // closed at the next change of what follows
	session *session      // nil while the broker cannot be reached
	why     string        // that is so; empty if it is not
	slots   int
	known   bool // somebody has counted slots
	owed    int  // answers
}

// New makes a gateway between the broker of a URL and the API behind conn, a connection in
// this process to services behind a gate. The error wraps navvy.ErrInvalid.
func New(conn grpc.ClientConnInterface, broker string, store records.Store, o *Options) (*Gateway, error) {
	a, err := readURL(broker)
	if err != nil {
		return nil, err
	}
	g := &Gateway{address: a, records: store, client: client.New(conn), changed: make(chan struct{}), why: "the connection is about to be made"}
	if o != nil {
		g.opts = *o
	}
	g.defaults()
	return g, nil
}

// Owner is whose the jobs are that come over the broker.
func (g *Gateway) Owner() string { return g.opts.Owner }

func (g *Gateway) defaults() {
	o := &g.opts
	if o.Owner == "" {
		o.Owner = DefaultOwner
	}
	if o.Queue == "" {
		o.Queue = navvy.DefaultQueue
	}
	if o.Ahead <= 0 {
		o.Ahead = DefaultAhead
	}
	if o.Look <= 0 {
		o.Look = time.Second
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if g.logger = o.Logger; g.logger == nil {
		g.logger = slog.New(slog.DiscardHandler)
	}
}

// Run answers requests until ctx ends, and returns why: first what an earlier gateway owes.
// What waits for its answer then goes on, and the next gateway answers it. It is called once.
func (g *Gateway) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(auth.With(ctx, auth.Identity{Name: g.opts.Owner, Role: auth.RoleUser}))
	defer g.settling.Wait()
	defer cancel(nil)
	err := records.Each(ctx, g.records, intentPrefix, func(r *records.Record) error {
		in, err := readIntent(r)
		if err == nil {
			g.owe(ctx, in)
		}
		return err
	})
	if err != nil {
		return err
	}
	if g.opts.Slots != nil {
		g.settling.Go(func() { g.look(ctx) })
	}
	tries := pause.Series{First: 500 * time.Millisecond, Longest: 30 * time.Second}
	for ctx.Err() == nil {
		began := time.Now()
		err := g.connected(ctx)
		if ctx.Err() != nil {
			break
		}
		g.lost(err)
		if time.Since(began) > steady {
			tries.Reset()
		}
		_ = tries.Wait(ctx) // the loop looks
	}
	return context.Cause(ctx)
}

// steady is how long a connection lasts that was not refused at once.
const steady = 5 * time.Second

// connected takes requests from the broker as long as it can be reached.
func (g *Gateway) connected(ctx context.Context) error {
	if err := g.forget(ctx); err != nil {
		return err
	}
	s, err := connect(ctx, g.address)
	if err != nil {
		return err
	}
	defer s.close()
	g.set(func() { g.session, g.why = s, "" })
	defer g.set(func() { g.session = nil })
	g.logger.Info("requests of MSTC clients are answered", "broker", g.address.at, "owner", g.opts.Owner)
	return g.take(ctx, s)
}

// lost notes why the broker cannot be reached, and logs it if that is new.
func (g *Gateway) lost(err error) {
	fresh := false
	g.set(func() { fresh, g.why = g.why != err.Error(), err.Error() })
	if fresh {
		g.logger.Error("requests of MSTC clients are not answered: it is tried again", "error", err)
	}
}

// set changes what others wait for.
func (g *Gateway) set(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change()
	close(g.changed)
	g.changed = make(chan struct{})
}

// until waits until something is true; what is called has mu.
func (g *Gateway) until(ctx context.Context, is func() bool) error {
	for {
		g.mu.Lock()
		done, changed := is(), g.changed
		g.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
}

// hasRoom tells whether one more request may be taken; mu must be held.
func (g *Gateway) hasRoom() bool { return g.owed < g.slots+g.opts.Ahead }

// look counts slots, and tells when there are none, or some again.
func (g *Gateway) look(ctx context.Context) {
	for ctx.Err() == nil {
		n := g.opts.Slots()
		g.mu.Lock()
		were, known := g.slots, g.known
		g.mu.Unlock()
		if n != were || !known {
			g.set(func() { g.slots, g.known = n, true })
		}
		switch {
		case n == 0 && (were > 0 || !known):
			g.logger.Warn("no worker that is connected runs containers: requests of MSTC clients are kept")
		case n > 0 && were == 0:
			g.logger.Info("workers run containers for MSTC clients", "slots", n)
		}
		_ = pause.For(ctx, g.opts.Look) // the loop looks
	}
}

// Trouble is what is amiss, a sentence each: the broker cannot be reached, nobody runs
// containers. Requests are kept nevertheless.
func (g *Gateway) Trouble() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var list []string
	if g.session == nil {
		list = append(list, "mstc: no requests come: "+g.why)
	}
	if g.opts.Slots != nil && g.slots == 0 {
		list = append(list, "mstc: no worker that is connected runs containers: requests are kept")
	}
	return list
}
