// Package broker has requests that arrive on queues of brokers answered by the services of
// a server's queues: each becomes a task, with status, output, limits and its fair share,
// and its answer goes to a queue of the broker. A request is acknowledged when the broker
// has confirmed its answer. One that comes again, since this server or the broker died
// meanwhile, finds the task that it became the first time.
package broker

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/driver"
)

// Options are the settings of a Gateway.
type Options struct {
	// Clock tells the time as the server has it. Defaults to time.Now.
	Clock func() time.Time
	// Claims takes bodies that are too large for the brokers' messages, and those of more
	// than ClaimOver bytes, of queues whose URLs ask for the envelope. It stays the
	// caller's. Defaults to none: such bodies are refused.
	Claims    queue.Claims
	ClaimOver int
	// Logger hears of brokers that cannot be reached, and of requests that fail. Defaults
	// to one that discards.
	Logger *slog.Logger
}

// Gateway answers the requests of any number of brokers. Its methods may be called at once.
type Gateway struct {
	drivers map[string]driver.Driver
	opts    Options

	mu     sync.Mutex
	wanted map[string]attachment // by the name of the server's queue
	bridge map[string]*bridge    // those that run
	change chan struct{}         // closed at the next change of wanted
}

// attachment is what is wanted of a queue.
type attachment struct {
	owner  string
	broker navvy.Broker
}

// New makes a gateway to the brokers of these drivers, by the schemes of their URLs.
func New(drivers map[string]driver.Driver, o *Options) *Gateway {
	g := &Gateway{drivers: drivers, wanted: map[string]attachment{}, bridge: map[string]*bridge{}, change: make(chan struct{})}
	if o != nil {
		g.opts = *o
	}
	if g.opts.Clock == nil {
		g.opts.Clock = time.Now
	}
	if g.opts.Logger == nil {
		g.opts.Logger = slog.New(slog.DiscardHandler)
	}
	return g
}

// Check tells what is wrong with the URLs of a pair of queues, without a connection: the
// error wraps navvy.ErrInvalid.
func (g *Gateway) Check(b *navvy.Broker) error {
	for _, u := range []string{b.Requests, b.Responses} {
		if err := queue.Check(u, g.drivers); err != nil {
			return err
		}
	}
	if queue.Same(b.Requests, b.Responses) {
		return fmt.Errorf("queue: its requests and its responses are one queue of the broker's: each answer would be a request: %w", navvy.ErrInvalid)
	}
	return nil
}

// Attach has the requests of b answered by the server's queue of that name, in the name
// of owner, from now on; with nil those of nobody. It waits for no broker.
func (g *Gateway) Attach(name, owner string, b *navvy.Broker) {
	g.mu.Lock()
	defer g.mu.Unlock()
	old, had := g.wanted[name]
	if b == nil {
		delete(g.wanted, name)
	} else {
		g.wanted[name] = attachment{owner, *b}
	}
	if b == nil && had || b != nil && old != g.wanted[name] {
		close(g.change)
		g.change = make(chan struct{})
	}
}

// Trouble is why no requests come to a queue now; empty if all is well.
func (g *Gateway) Trouble(name string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	want, wanted := g.wanted[name]
	switch b := g.bridge[name]; {
	case !wanted:
		return ""
	case b == nil || b.attachment != want: // soon
		return client.BrokerConnecting
	default:
		return b.trouble()
	}
}

// Run answers requests by calls of the API until ctx ends. What is being answered then
// goes back to its broker, and its tasks go on. It is called once.
func (g *Gateway) Run(ctx context.Context, api grpc.ClientConnInterface) error {
	defer g.end(nil)
	for {
		g.mu.Lock()
		wanted, change := maps.Clone(g.wanted), g.change
		g.mu.Unlock()
		g.end(wanted)
		for _, name := range slices.Sorted(maps.Keys(wanted)) {
			g.begin(ctx, api, name, wanted[name])
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-change:
		}
	}
}

// begin starts the bridge of a queue that has none.
func (g *Gateway) begin(ctx context.Context, api grpc.ClientConnInterface, name string, a attachment) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.bridge[name] != nil {
		return
	}
	b := newBridge(g, api, name, a)
	g.bridge[name] = b
	running, end := context.WithCancelCause(context.WithoutCancel(ctx))
	b.stop = func() {
		end(errEnds)
		<-b.over
	}
	go func() {
		defer close(b.over)
		b.run(running)
	}()
}

// errEnds is the cause of the end of a bridge.
var errEnds = fmt.Errorf("the queue is attached to that broker no more, or the server ends: %w", navvy.ErrClosed)

// end ends, at once and together, the bridges that are not wanted as they are.
func (g *Gateway) end(wanted map[string]attachment) {
	g.mu.Lock()
	var ending []*bridge
	for name, b := range g.bridge {
		if want, ok := wanted[name]; !ok || want != b.attachment {
			ending = append(ending, b)
			delete(g.bridge, name)
		}
	}
	g.mu.Unlock()
	var all sync.WaitGroup
	for _, b := range ending {
		all.Go(b.stop)
	}
	all.Wait()
}
