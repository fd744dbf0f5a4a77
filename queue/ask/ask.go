// Package ask sends requests to one queue and collects their answers from another: those of
// this call, by their correlation ids, in the order of the requests.
package ask

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue"
)

// Options are the settings of an Asker.
type Options struct {
	// Window is how many requests may be without an answer that was given: sent, worked on,
	// or answered before an earlier one. The queue of the answers must be open for more
	// leases than that. Defaults to 1000.
	Window int
	// Unordered gives answers as they come.
	Unordered bool
	// Patience is how long to wait while no answer comes to this run; those to others do
	// not count. Defaults to for ever.
	Patience time.Duration
}

// Asker asks. It is for one Run.
type Asker struct {
	requests, responses *queue.Queue
	opts                Options
	run                 string // begins the ids of its requests

	window   chan struct{}
	begun    atomic.Int64 // requests that have an id
	sent     atomic.Int64
	answered atomic.Int64
	total    atomic.Int64 // of the requests, once all are known; -1 before
	all      chan struct{}

	mu      sync.Mutex
	next    int64
	waiting map[int64]*queue.Lease // answers whose turn has not come
	copies  map[int64][]*queue.Lease
	seen    map[int64]bool // of those from next on, and all of them if unordered
}

// New makes an Asker. Both queues stay the caller's. The error wraps navvy.ErrUnsupported
// if answers cannot be told apart for want of correlation ids.
func New(requests, responses *queue.Queue, o *Options) (*Asker, error) {
	for _, q := range []*queue.Queue{requests, responses} {
		if !q.Capabilities().Correlation {
			return nil, fmt.Errorf("queue %s: messages of this broker carry no correlation id, by which answers are found: put ?envelope=json to the URLs here and at the workers: %w", q.Name(), navvy.ErrUnsupported)
		}
	}
	a := &Asker{requests: requests, responses: responses, run: rand.Text(), all: make(chan struct{}), waiting: map[int64]*queue.Lease{}, copies: map[int64][]*queue.Lease{}, seen: map[int64]bool{}}
	if o != nil {
		a.opts = *o
	}
	if a.opts.Window <= 0 {
		a.opts.Window = 1000
	}
	a.window = make(chan struct{}, a.opts.Window)
	a.total.Store(-1)
	return a, nil
}

// Progress tells how many requests were sent and how many answers given; and how many
// requests there are, -1 while nobody knows. It may be called at any time.
func (a *Asker) Progress() (sent, answered, total int64) {
	return a.sent.Load(), a.answered.Load(), a.total.Load()
}

// sendersAtOnce is how many requests are on their way to the broker at once, in batches.
const sendersAtOnce = 256

// Run sends a request for each input and calls give with each answer, one after the other.
// An answer is taken off its queue after give has returned; one that comes twice is given
// once. It ends when all are answered, with the first error of inputs, give or a queue, or
// with the cause of ctx's end. When its patience ends it gives all answers that have come,
// in the order of their requests, and then the error is a *GaveUpError.
func (a *Asker) Run(ctx context.Context, inputs iter.Seq2[[]byte, error], give func(index int64, answer []byte) error) error {
	outer := ctx
	g, ctx := errgroup.WithContext(outer)
	collecting, done := context.WithCancel(ctx)
	defer done()
	g.Go(func() error { return a.send(ctx, inputs) })
	g.Go(func() error {
		err := a.collect(collecting, give)
		if err != nil && a.over() {
			return nil
		}
		return err
	})
	g.Go(func() error {
		select {
		case <-a.all:
		case <-ctx.Done():
		}
		done()
		return nil
	})
	err := g.Wait()
	if errors.Is(err, errTired) {
		return a.giveUp(outer, give)
	}
	return err
}

// over tells whether all requests are answered.
func (a *Asker) over() bool {
	total := a.total.Load()
	return total >= 0 && a.answered.Load() == total
}

// send sends the inputs, as far ahead of the answers as the window is.
func (a *Asker) send(ctx context.Context, inputs iter.Seq2[[]byte, error]) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(sendersAtOnce)
	n := int64(0)
	for body, err := range inputs {
		if err != nil {
			_ = g.Wait()
			return err
		}
		select {
		case a.window <- struct{}{}:
		case <-ctx.Done():
			if err := g.Wait(); err != nil {
				return err
			}
			return context.Cause(ctx)
		}
		id := a.run + "." + strconv.FormatInt(n, 10)
		n++
		a.begun.Store(n)
		g.Go(func() error {
			if err := a.requests.Send(ctx, queue.Message{ID: id, Body: body}); err != nil {
				return err
			}
			a.sent.Add(1)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	a.total.Store(n)
	a.checkAll()
	return nil
}

func (a *Asker) checkAll() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.over() {
		return
	}
	select {
	case <-a.all:
	default:
		close(a.all)
	}
}

// collect takes answers until ctx ends, or no more come to this run.
func (a *Asker) collect(ctx context.Context, give func(int64, []byte) error) error {
	var acks sync.WaitGroup
	defer acks.Wait()
	others := newStrangers(a.responses, &acks)
	waiting, cancel := a.patient(ctx)
	defer func() { cancel() }()
	for {
		leases, err := a.responses.Receive(waiting, 100)
		if err != nil {
			return err
		}
		mine := false
		for _, l := range leases {
			index, ok := a.index(l)
			if !ok {
				others.giveBack(waiting, l)
				continue
			}
			mine = true
			if err := a.take(ctx, &acks, index, l, give); err != nil {
				return err
			}
		}
		a.checkAll()
		if mine {
			cancel()
			waiting, cancel = a.patient(ctx)
		}
		if err := others.rest(waiting, mine); err != nil {
			return err
		}
	}
}

// index is which of this run's requests a message answers.
func (a *Asker) index(l *queue.Lease) (int64, bool) {
	run, text, ok := strings.Cut(l.Correlation(), ".")
	if !ok || run != a.run {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n >= 0
}

// take takes an answer, and gives what can be given by now.
func (a *Asker) take(ctx context.Context, acks *sync.WaitGroup, index int64, l *queue.Lease, give func(int64, []byte) error) error {
	if old := a.waiting[index]; old != nil && old.Claim() != "" && old.Claim() == l.Claim() {
		// The same message again: whoever acknowledges it removes the body of both.
		a.waiting[index], a.copies[index] = l, append(a.copies[index], old)
		return nil
	}
	if index < a.next || a.seen[index] { // a worker died between answer and acknowledgement
		ack(acks, l)
		return nil
	}
	a.seen[index] = true
	if a.opts.Unordered {
		return a.give(ctx, acks, index, l, give)
	}
	a.waiting[index] = l
	for {
		l, ok := a.waiting[a.next]
		if !ok {
			return nil
		}
		delete(a.waiting, a.next)
		delete(a.seen, a.next)
		a.next++
		if err := a.give(ctx, acks, a.next-1, l, give); err != nil {
			return err
		}
	}
}

// ackTime is how long an answer that was given may take to leave its queue, also after the
// last one.
const ackTime = 10 * time.Second

func (a *Asker) give(ctx context.Context, acks *sync.WaitGroup, index int64, l *queue.Lease, give func(int64, []byte) error) error {
	body, err := l.Body(ctx)
	if err != nil {
		return fmt.Errorf("the answer to input %d: %w", index, err)
	}
	if err := give(index, body); err != nil {
		return err
	}
	for _, l := range append(a.copies[index], l) {
		ack(acks, l)
	}
	delete(a.copies, index)
	a.answered.Add(1)
	<-a.window
	return nil
}

func ack(acks *sync.WaitGroup, l *queue.Lease) {
	acks.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), ackTime)
		defer cancel()
		_ = l.Ack(ctx) // else it comes again, to a run that is over, and expires there
	})
}
