package mstc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/navvy-run/navvy"
)

// What the contract has on the broker: durable, classic, without arguments. Clients declare
// it again, just so.
const (
	exchange      = "mstc.exchange"
	workQueue     = "mstc.queue.work"
	responseQueue = "mstc.queue.response" // of the first generation; nothing is read from it or sent to it here
)

// directReply begins what RabbitMQ has in place of a queue for answers that go right to a
// client's channel.
const directReply = "amq.rabbitmq.reply-to."

// session is what there is while the broker can be reached: a connection for requests and
// one for answers, since a broker that is short of memory does not read from those who
// publish, and acknowledgements would wait, too.
type session struct {
	in, out *wire
	returns chan amqp.Return

	turn   chan struct{} // full while somebody publishes: one at a time, who knows what comes back
	ending chan struct{} // closed before the connections are
}

// connect opens a session, and declares what the contract has.
func connect(ctx context.Context, a *address) (_ *session, err error) {
	s := &session{turn: make(chan struct{}, 1), ending: make(chan struct{})}
	defer func() {
		if err != nil {
			s.close()
			err = fmt.Errorf("mstc: broker %w", err)
		}
	}()
	if s.in, err = dial(ctx, a); err != nil {
		return nil, err
	}
	if s.out, err = dial(ctx, a); err != nil {
		return nil, err
	}
	// A broker that does not answer calls is noticed by its heartbeats.
	defer context.AfterFunc(ctx, func() { _ = s.in.plain.Close(); _ = s.out.plain.Close() })()
	if err := declare(s.in.ch); err != nil {
		return nil, fmt.Errorf("%s: %w", a.at, classify(err))
	}
	s.returns = s.out.ch.NotifyReturn(make(chan amqp.Return, 1))
	if err := s.out.ch.Confirm(false); err != nil {
		return nil, fmt.Errorf("%s: %w", a.at, classify(err))
	}
	return s, nil
}

// declare makes exchange and queues, if they are not there.
func declare(ch *amqp.Channel) error {
	if err := ch.ExchangeDeclare(exchange, amqp.ExchangeDirect, true, false, false, false, nil); err != nil {
		return fmt.Errorf("exchange %s: %w", exchange, err)
	}
	for _, queue := range []string{workQueue, responseQueue} {
		if _, err := ch.QueueDeclare(queue, true, false, false, false, nil); err != nil {
			return fmt.Errorf("queue %s: %w", queue, err)
		}
	}
	return ch.QueueBind(workQueue, workQueue, exchange, false, nil)
}

// close ends the session, when a confirmation that is under way has come, or does not come:
// an answer that the broker has, and of which nobody knows it, is sent once more.
func (s *session) close() {
	close(s.ending)
	patience := time.NewTimer(lastWord)
	defer patience.Stop()
	select {
	case s.turn <- struct{}{}:
	case <-patience.C:
	}
	var all sync.WaitGroup
	for _, w := range []*wire{s.in, s.out} {
		if w != nil {
			all.Go(w.close)
		}
	}
	all.Wait()
}

// errNobody says that a reply has no queue to go to: its client has left.
var errNobody = errors.New("nobody waits for it: the queue for the answer is gone")

// enter waits for the turn to publish.
func (s *session) enter(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.ending:
	case s.turn <- struct{}{}:
		select {
		case <-s.ending:
			<-s.turn
		default:
			return nil
		}
	}
	return fmt.Errorf("mstc: the connection to the broker is about to end: %w", navvy.ErrUnavailable)
}

// publish sends a reply, and returns when the broker has it; also if ctx ends meanwhile, unless
// that takes longer than lastWord. It gives errNobody if there is no such queue.
func (s *session) publish(ctx context.Context, to, correlation, body []byte) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer func() { <-s.turn }()
	select {
	case <-s.returns: // of one whose sender has not waited
	default:
	}
	queue := string(to)
	// For what is no queue RabbitMQ answers a mandatory message with "no queue", and delivers it.
	mandatory := !strings.HasPrefix(queue, directReply)
	confirmed, err := s.out.ch.PublishWithDeferredConfirmWithContext(ctx, "", queue, mandatory, false, amqp.Publishing{
		ContentType: "application/json", CorrelationId: string(correlation), Body: body,
	})
	if err != nil {
		return classify(err)
	}
	ctx, cancel := outlive(ctx, lastWord)
	defer cancel(nil)
	defer context.AfterFunc(s.out.gone, func() { cancel(context.Cause(s.out.gone)) })()
	taken, err := confirmed.WaitContext(ctx)
	switch {
	case taken:
	case s.out.gone.Err() != nil:
		return context.Cause(s.out.gone)
	case err != nil:
		return err
	}
	select {
	case _, open := <-s.returns: // it comes before the confirmation
		if open {
			return errNobody
		}
	default:
	}
	if !taken {
		return fmt.Errorf("mstc: the broker does not take an answer to queue %s: %w", queue, navvy.ErrUnavailable)
	}
	return nil
}
