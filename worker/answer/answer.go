// Package answer is a worker without a server: it takes requests from one queue, has a
// service work on them, and sends the answers to another queue. A request is acknowledged
// when the broker has confirmed its answer, so that a crash between yields a second answer
// with the same correlation id, never none.
package answer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/internal/pause"
	"github.com/navvy-run/navvy/queue"
)

// Service works on one request; several at once. When ctx ends it stops, and its result
// does not count. An error that wraps navvy.ErrUnavailable says that the service is away for
// now: the request waits for it, without blame. One that wraps navvy.ErrInvalid says that
// this request can never be answered. After any other the request is given back.
type Service func(ctx context.Context, r *Request) ([]byte, error)

// Request is what a service works on.
type Request struct {
	// ID names the request; it is the same at each delivery.
	ID string
	// Attempt counts deliveries from 1; 0 where neither the broker nor this worker knows.
	Attempt int
	// Body is exactly what was sent. It is the service's own.
	Body []byte
}

// Options are the settings of a Worker.
type Options struct {
	// Slots is how many requests are worked on at once. Defaults to 10.
	Slots int
	// Timeout is how long the service may work on one request. Defaults to no bound.
	Timeout time.Duration
	// Attempts is how many deliveries a request has, whatever ended them, before it goes to
	// the dead letters. Defaults to 5.
	Attempts int
	// BodyAttempts is how many deliveries a request has at most whose body cannot be had,
	// since it is gone or damaged, or its place fails (queue.Lease.Body). Defaults to 5.
	BodyAttempts int
	// Backoff is the pause after the first failure; it doubles with each, up to
	// LongestBackoff. Default to 1 s and 5 min.
	Backoff, LongestBackoff time.Duration
	// Ready waits until the service can be called, before requests are taken: they wait in
	// the queue meanwhile. Its error ends Run unless it was told to end. Defaults to always.
	Ready func(ctx context.Context) error
	// Logger hears of requests that fail. Defaults to one that discards.
	Logger *slog.Logger
	// Tracer makes the spans OperationProcess, of kind consumer, and in it OperationInvoke, of
	// kind client, which is in the context that the service gets. Defaults to none.
	Tracer trace.Tracer
	// System and Kind tell in these spans of which broker the requests are (OpenTelemetry's
	// messaging.system), and what kind of service works on them.
	System, Kind string
}

func (o *Options) filled() Options {
	var f Options
	if o != nil {
		f = *o
	}
	if f.Slots <= 0 {
		f.Slots = 10
	}
	if f.Attempts <= 0 {
		f.Attempts = 5
	}
	if f.BodyAttempts <= 0 {
		f.BodyAttempts = 5
	}
	if f.Backoff <= 0 {
		f.Backoff = time.Second
	}
	if f.LongestBackoff <= 0 {
		f.LongestBackoff = 5 * time.Minute
	}
	if f.Logger == nil {
		f.Logger = slog.New(slog.DiscardHandler)
	}
	return f
}

// Stats count what became of deliveries.
type Stats struct {
	// Answered were acknowledged after their answer; Failed given back after a failure;
	// Dead moved to the dead letters; Lost taken away while they were worked on; Returned
	// given back because the worker ended.
	Answered, Failed, Dead, Lost, Returned int64
}

// Worker answers requests.
type Worker struct {
	requests, responses *queue.Queue
	service             Service
	opts                Options
	failures            failures
	tracing             tracing

	answered, failed, dead, lost, returned atomic.Int64
}

// New makes a worker. The queues stay the caller's, who closes them after Run; requests
// must be open for as many leases at once as there are slots.
func New(requests, responses *queue.Queue, service Service, o *Options) *Worker {
	w := &Worker{requests: requests, responses: responses, service: service, opts: o.filled()}
	w.failures.count = !requests.Capabilities().Attempts
	w.tracing = newTracing(&w.opts)
	return w
}

// Stats counts since New. It may be called at any time.
func (w *Worker) Stats() Stats {
	return Stats{w.answered.Load(), w.failed.Load(), w.dead.Load(), w.lost.Load(), w.returned.Load()}
}

// errEnd is the cause of the end of work that has had its time after the worker was told to end.
var errEnd = errors.New("the worker ends")

// Run answers requests until soft ends; what is worked on may then end by itself until hard
// does, and goes back to the queue at once if it has not. An error is the requests' queue's,
// which does not mend by waiting. Run is called once.
func (w *Worker) Run(soft, hard context.Context) error {
	working, end := context.WithCancelCause(context.WithoutCancel(soft))
	defer end(nil)
	defer context.AfterFunc(hard, func() { end(errEnd) })()
	slots := make(chan struct{}, w.opts.Slots)
	var all sync.WaitGroup
	defer all.Wait()
	for {
		free, err := take(soft, slots)
		if err != nil {
			return nil //nolint:nilerr // it was told to end
		}
		leases, err := w.receive(soft, free)
		for range free - len(leases) {
			<-slots
		}
		if soft.Err() != nil && err != nil {
			return nil
		} else if err != nil {
			return err
		}
		for _, l := range leases {
			all.Go(func() {
				defer func() { <-slots }()
				w.handle(working, l)
			})
		}
	}
}

// receive takes requests, as soon as there are any and the service can be called.
func (w *Worker) receive(ctx context.Context, most int) ([]*queue.Lease, error) {
	if w.opts.Ready != nil {
		if err := w.opts.Ready(ctx); err != nil {
			return nil, fmt.Errorf("the service: %w", err)
		}
	}
	leases, err := w.requests.Receive(ctx, most)
	if err != nil {
		return nil, fmt.Errorf("requests: %w", err)
	}
	return leases, nil
}

// take takes the slots that are free; it waits for one at least.
func take(ctx context.Context, slots chan struct{}) (n int, err error) {
	select {
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case slots <- struct{}{}:
	}
	for n = 1; ; n++ {
		select {
		case slots <- struct{}{}:
		default:
			return n, nil
		}
	}
}

// handle works on one request, and settles it.
func (w *Worker) handle(working context.Context, l *queue.Lease) {
	attempt := w.failures.attempt(l)
	log := w.opts.Logger.With("request", l.ID(), "attempt", attempt)
	working, span := w.tracing.process(working, w.requests, l, attempt)
	ctx, stop := l.Context(working)
	defer stop()
	body, unread := l.Body(ctx)
	if attempt > w.opts.Attempts && !isStrange(unread) {
		why := fmt.Errorf("it was delivered %d times and never answered", attempt-1)
		finish(span, w.bury(working, log, l, why), why)
		return
	}
	err := unread
	if err == nil {
		body, err = w.work(ctx, log, &Request{ID: l.ID(), Attempt: attempt, Body: body})
	}
	if err == nil {
		err = w.respond(ctx, l, body)
	}
	finish(span, w.settle(ctx, log, l, attempt, unread, err), err)
}

// settle ends a delivery: err is why there is no answer, unread that of its body.
func (w *Worker) settle(ctx context.Context, log *slog.Logger, l *queue.Lease, attempt int, unread, err error) outcome {
	switch {
	case l.Lost() != nil:
		w.lost.Add(1)
		log.Warn("the lease of a request was lost while it was worked on: it comes again", "error", l.Lost())
		return outcomeLost
	case errors.Is(context.Cause(ctx), errEnd):
		return w.giveBack(log, l)
	case err == nil:
		return w.acknowledge(ctx, log, l)
	case isStrange(unread):
		return w.refuse(ctx, log, l, err)
	case unread != nil && attempt >= w.opts.BodyAttempts:
		return w.bury(ctx, log, l, err)
	case attempt >= w.opts.Attempts || errors.Is(err, navvy.ErrInvalid):
		return w.bury(ctx, log, l, err)
	default:
		return w.fail(ctx, log, l, attempt, err)
	}
}

// work has the service work on a request; one that is away is waited for.
func (w *Worker) work(ctx context.Context, log *slog.Logger, r *Request) ([]byte, error) {
	tries := pause.Series{First: 100 * time.Millisecond, Longest: 10 * time.Second}
	for {
		body, err := w.invoke(ctx, r)
		if !errors.Is(err, navvy.ErrUnavailable) || ctx.Err() != nil {
			return body, err
		}
		log.Warn("the service is away; the request waits for it", "error", err)
		if err := tries.Wait(ctx); err != nil {
			return nil, err
		}
	}
}

func (w *Worker) invoke(ctx context.Context, r *Request) (_ []byte, err error) {
	ctx, span := w.tracing.invoke(ctx, r)
	defer func() { endSpan(span, err) }()
	if w.opts.Timeout <= 0 {
		return w.service(ctx, r)
	}
	cause := fmt.Errorf("no answer within %s", w.opts.Timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, w.opts.Timeout, cause)
	defer cancel()
	body, err := w.service(ctx, r)
	if context.Cause(ctx) == cause { //nolint:errorlint // that very one
		return nil, cause // also if the service gave something: it was told to stop
	}
	return body, err
}

// answerSuffix makes the ID of an answer of that of its request, so that a broker that
// forgets second messages keeps one answer.
const answerSuffix = ".answer"

// respond sends the answer, and returns when it is confirmed.
func (w *Worker) respond(ctx context.Context, l *queue.Lease, body []byte) error {
	m := queue.Message{ID: l.ID() + answerSuffix, Body: body}
	if w.responses.Capabilities().Correlation {
		m.Correlation = l.Correlation()
		if m.Correlation == "" {
			m.Correlation = l.ID()
		}
	}
	if err := w.responses.Send(ctx, m); err != nil {
		return fmt.Errorf("its answer cannot be sent: %w", err)
	}
	return nil
}

func (w *Worker) acknowledge(ctx context.Context, log *slog.Logger, l *queue.Lease) outcome {
	if err := l.Ack(ctx); err != nil {
		w.lost.Add(1)
		log.Warn("an answered request could not be acknowledged: it will be answered again", "error", err)
		return outcomeLost
	}
	w.failures.forget(l)
	w.answered.Add(1)
	return outcomeAnswered
}

// giveBack returns a request at once, for somebody else.
func (w *Worker) giveBack(log *slog.Logger, l *queue.Lease) outcome {
	ctx, cancel := context.WithTimeout(context.Background(), settleTime)
	defer cancel()
	w.returned.Add(1)
	if err := l.Nack(ctx, 0); err != nil {
		log.Warn("a request could not be given back: it comes again when its lease is over", "error", err)
	}
	return outcomeReturned
}

// settleTime is how long a request may take to be given back when the worker ends.
const settleTime = 10 * time.Second

// isStrange tells whether it is this worker that cannot have the body of a request: another
// one, or this one when it is started otherwise, may.
func isStrange(err error) bool {
	return errors.Is(err, navvy.ErrUnsupported) || errors.Is(err, navvy.ErrDenied)
}

// refuse gives a request back for somebody else, and is in no hurry to see it again: it is
// no dead letter because of this worker, however often it comes.
func (w *Worker) refuse(ctx context.Context, log *slog.Logger, l *queue.Lease, why error) outcome {
	log.Error("a request cannot be read here, and is left to others", "error", why, "after", w.opts.LongestBackoff)
	return w.later(ctx, log, l, w.opts.LongestBackoff)
}

// fail gives a request back for a later try.
func (w *Worker) fail(ctx context.Context, log *slog.Logger, l *queue.Lease, attempt int, why error) outcome {
	pause := w.backoff(attempt)
	log.Warn("a request failed and is tried again", "error", why, "after", pause)
	return w.later(ctx, log, l, pause)
}

func (w *Worker) later(ctx context.Context, log *slog.Logger, l *queue.Lease, pause time.Duration) outcome {
	w.failed.Add(1)
	if err := l.Nack(ctx, pause); err != nil {
		log.Warn("a request could not be given back: it comes again when its lease is over", "error", err)
	}
	return outcomeFailed
}

func (w *Worker) backoff(attempt int) time.Duration {
	d := w.opts.Backoff
	for range attempt - 1 {
		if d *= 2; d >= w.opts.LongestBackoff {
			break
		}
	}
	return min(d, w.opts.LongestBackoff)
}

// bury moves a request to the dead letters.
func (w *Worker) bury(ctx context.Context, log *slog.Logger, l *queue.Lease, because error) outcome {
	why := strings.TrimSuffix(because.Error(), ": "+navvy.ErrInvalid.Error()) // which is for programs
	if err := l.DeadLetter(ctx, why); err != nil {
		log.Warn("a request could not be moved to the dead letters: it comes again", "error", err)
		return outcomeLost
	}
	w.failures.forget(l)
	w.dead.Add(1)
	log.Error("a request is a dead letter", "error", why)
	return outcomeDead
}
