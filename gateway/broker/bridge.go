package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/pause"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/worker/answer"
)

// bridge is one queue of the server's, attached to two of a broker's.
type bridge struct {
	attachment
	gateway *Gateway
	name    string
	// requests is the URL of the broker's queue of requests, without its password.
	requests string
	client   *client.Client
	log      *slog.Logger
	stop     func() // ends it, and waits for that
	over     chan struct{}

	mu   sync.Mutex
	why  error          // nothing comes from the broker
	open []*queue.Queue // that are used now
}

func newBridge(g *Gateway, api grpc.ClientConnInterface, name string, a attachment) *bridge {
	return &bridge{
		attachment: a, gateway: g, name: name, client: client.New(caller{api, a.owner}),
		log: g.opts.Logger.With("queue", name), over: make(chan struct{}), why: errConnecting,
	}
}

// errConnecting is the trouble of a bridge that has just begun.
var errConnecting = errors.New(client.BrokerConnecting)

func (b *bridge) trouble() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	why := b.why
	for _, q := range b.open {
		if why == nil {
			why = q.Down()
		}
	}
	if why == nil {
		return ""
	}
	return why.Error()
}

// note says what the trouble is, and logs it if it is another one.
func (b *bridge) note(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err == nil:
		b.log.Info("requests of a broker are answered", "owner", b.owner)
	case b.why == nil || b.why.Error() != err.Error():
		b.log.Error("requests of a broker are not answered: it is tried again", "error", err)
	}
	b.why = err
}

// run answers requests until ctx ends. What is wrong may be mended any time, at the
// broker: it is tried again for ever.
func (b *bridge) run(ctx context.Context) {
	tries := pause.Series{First: 500 * time.Millisecond, Longest: 30 * time.Second}
	for ctx.Err() == nil {
		began := time.Now()
		err := b.connect(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("it has ended by itself")
		}
		b.note(err)
		if time.Since(began) > tries.Longest {
			tries.Reset()
		}
		_ = tries.Wait(ctx) // the loop looks
	}
}

// connect opens both queues, and answers from one to the other.
func (b *bridge) connect(ctx context.Context) (err error) {
	slots := b.broker.Concurrency
	if slots == 0 {
		slots = navvy.DefaultBrokerConcurrency
	}
	var open []*queue.Queue
	defer func() { err = errors.Join(err, closeAll(ctx, open)) }()
	for i, u := range []string{b.broker.Requests, b.broker.Responses} {
		o := &queue.Options{
			Lease: cmp.Or(b.broker.Lease, navvy.DefaultBrokerLease), Outstanding: []int{slots, 1}[i], Logger: b.log,
		}
		if g := &b.gateway.opts; g.Claims != nil && queue.Enveloped(u) {
			o.Claims, o.ClaimOver = g.Claims, g.ClaimOver
		}
		q, err := queue.Open(ctx, u, b.gateway.drivers, o)
		if err != nil {
			return err
		}
		open = append(open, q)
	}
	b.requests = open[0].Name()
	b.note(nil)
	b.use(open)
	defer b.use(nil)
	// A server that ends gives its requests back: whoever takes them finds their tasks.
	return answer.New(open[0], open[1], b.answer, &answer.Options{
		Slots: slots, Attempts: math.MaxInt32, Logger: b.log,
	}).Run(ctx, ctx)
}

// use says which queues are used from now on.
func (b *bridge) use(open []*queue.Queue) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open = open
}

// closeTime is how long the last words to a broker may take.
const closeTime = 10 * time.Second

func closeAll(ctx context.Context, queues []*queue.Queue) (err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
	defer cancel()
	for _, q := range queues {
		err = errors.Join(err, q.Close(ctx))
	}
	if err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}
