package mstc

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/gateway/records"
	"github.com/navvy-run/navvy/internal/pause"
)

// consumer is the name of what takes requests, on its channel.
const consumer = "navvy"

// take takes requests as long as there is room for them, one after another: the broker
// sends the next when it knows that the last was taken. So what waits beyond the room stays
// with the broker, for others too, and at most one request is in doubt when a connection
// breaks.
func (g *Gateway) take(ctx context.Context, s *session) error {
	defer context.AfterFunc(s.out.gone, func() { _ = s.in.plain.Close() })() // without the one the other is of no use
	for {
		waiting, cancel := context.WithCancelCause(ctx)
		stop := context.AfterFunc(s.in.gone, func() { cancel(context.Cause(s.in.gone)) })
		err := g.until(waiting, g.hasRoom)
		stop()
		cancel(nil)
		if err == nil {
			err = g.takeSome(ctx, s)
		}
		if err != nil {
			return err
		}
	}
}

// takeSome takes requests until there is no room.
func (g *Gateway) takeSome(ctx context.Context, s *session) error {
	ch := s.in.ch
	if err := ch.Qos(1, 0, false); err != nil {
		return classify(err)
	}
	deliveries, err := ch.Consume(workQueue, consumer, false, false, false, false, nil)
	if err != nil {
		return classify(err)
	}
	for {
		var d amqp.Delivery
		var open bool
		select {
		case <-ctx.Done():
			return context.Cause(ctx) // what is on its way goes back
		case d, open = <-deliveries:
		}
		if !open {
			if s.in.gone.Err() == nil {
				return fmt.Errorf("mstc: the broker sends nothing more of queue %s: was it removed? %w", workQueue, navvy.ErrUnavailable)
			}
			return context.Cause(s.in.gone)
		}
		full, err := g.takeOne(ctx, ch, &d)
		if err != nil || full {
			return err
		}
	}
}

// takeOne takes a request, and tells the broker. It tells whether that was the last one for
// which there is room; then nothing is consumed any more.
func (g *Gateway) takeOne(ctx context.Context, ch *amqp.Channel, d *amqp.Delivery) (full bool, err error) {
	inDoubt, err := g.accept(ctx, d)
	if err != nil {
		return false, fmt.Errorf("mstc: a request cannot be kept: %w", err)
	}
	g.mu.Lock()
	full = !g.hasRoom()
	g.mu.Unlock()
	if full {
		if err := ch.Cancel(consumer, false); err != nil {
			return false, classify(err)
		}
	}
	if err := ch.Ack(d.DeliveryTag, false); err != nil {
		return false, classify(err)
	}
	// An acknowledgement has no answer; what is answered behind it tells that it has arrived.
	if err := ch.Qos(1, 0, false); err != nil {
		return false, classify(err)
	}
	if inDoubt == "" {
		return full, nil
	}
	return full, g.records.Apply(context.WithoutCancel(ctx), records.Removal(inDoubt))
}

// accept makes a request durable, with the answer that is owed, and returns the name of the
// record that tells so if it comes again. A request that nobody waits for and that is none
// leaves nothing.
func (g *Gateway) accept(ctx context.Context, d *amqp.Delivery) (inDoubt string, err error) {
	of := sum(d)
	// RabbitMQ says of whatever was delivered before that it is sent again, or else lost it in
	// a crash of its own. Two that have the same id are one, if the first is in doubt.
	if d.Redelivered || named(d) {
		if inDoubt, err = g.doubtful(ctx, of); err != nil || inDoubt != "" {
			return inDoubt, err
		}
	}
	now := g.opts.Clock().UTC()
	name := newName(now)
	in := &intent{Version: recordVersion, ReplyTo: []byte(d.ReplyTo), Correlation: []byte(d.CorrelationId), Came: now, name: intentPrefix + name}
	if in.Request, err = parse(d.Body); err != nil {
		if in.ReplyTo = []byte(d.ReplyTo); d.ReplyTo == "" {
			g.logger.Warn("a request of nobody is none", "error", err, "body", echo(d.Body))
			return "", nil
		}
		in.Reply = refusedAs(err, d.Body)
	}
	inDoubt = doubtPrefix + of + "/" + name
	err = g.records.Apply(ctx, write(in.name, in), write(inDoubt, &doubt{Version: recordVersion, Came: now, Named: named(d)}))
	if err != nil {
		return "", err
	}
	g.owe(ctx, in)
	return inDoubt, nil
}

// owe sees to an answer, until ctx ends.
func (g *Gateway) owe(ctx context.Context, in *intent) {
	g.set(func() { g.owed++ })
	g.settling.Go(func() {
		if err := g.settle(ctx, in); err != nil && ctx.Err() == nil {
			g.logger.Error("a request of an MSTC client is not answered before the next start", "request", in.name, "job", in.Job, "error", err)
		}
		g.set(func() { g.owed-- })
	})
}

// again tells whether what went wrong may be mended any time.
func again(err error) bool {
	return errors.Is(err, navvy.ErrUnavailable) || errors.Is(err, navvy.ErrExhausted) || errors.Is(err, navvy.ErrClosed) || errors.Is(err, context.Canceled)
}

// outlive gives a context that ends so long after ctx has, with its cause.
func outlive(ctx context.Context, d time.Duration) (context.Context, context.CancelCauseFunc) {
	longer, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(d, func() { cancel(context.Cause(ctx)) })
		context.AfterFunc(longer, func() { timer.Stop() })
	})
	context.AfterFunc(longer, func() { stop() })
	return longer, cancel
}

// persist tries until it is over, or ctx ends: what fails with an error of again is tried
// again.
func (g *Gateway) persist(ctx context.Context, what string, try func() error) error {
	tries := pause.Series{First: retryFirst, Longest: retryLongest}
	said := ""
	for {
		err := try()
		switch {
		case err == nil: // also if ctx ended meanwhile: it is done
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !again(err):
			return err
		}
		if said != err.Error() {
			said = err.Error()
			g.logger.Warn("it is tried again", "what", what, "error", err)
		}
		if err := tries.Wait(ctx); err != nil {
			return err
		}
	}
}
