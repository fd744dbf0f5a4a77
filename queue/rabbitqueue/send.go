package rabbitqueue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
)

// sender is a channel for publishing, on which the broker confirms.
type sender struct {
	*amqp.Channel
	w      *wire
	closed chan *amqp.Error

	// What no queue takes comes back before it is confirmed. Who keeps the list answers
	// when it has noted all that came before.
	asked chan question
	over  chan struct{} // closed when the channel is

	mu   sync.Mutex
	said error // why the channel was closed, once that is known
}

// question asks which of the letters came back.
type question struct {
	letters  []*letter
	answered chan struct{}
}

// note keeps the list of the letters that came back.
func (s *sender) note(returns <-chan amqp.Return) {
	defer close(s.over)
	back := map[string]int{}
	for {
		select {
		case r, ok := <-returns:
			if !ok {
				return
			}
			back[r.RoutingKey+"\x00"+r.MessageId]++
		case q := <-s.asked:
			for _, m := range q.letters {
				if len(back) == 0 {
					break
				}
				key := m.queue + "\x00" + m.MessageId
				if back[key] == 0 {
					continue
				}
				m.err = fmt.Errorf("there is no queue %s: %w", m.queue, navvy.ErrNotFound)
				if back[key]--; back[key] == 0 {
					delete(back, key)
				}
			}
			close(q.answered)
		}
	}
}

// undelivered tells the letters that came back, since there is no queue for them.
func (s *sender) undelivered(letters []*letter) {
	q := question{letters, make(chan struct{})}
	select {
	case s.asked <- q:
		<-q.answered
	case <-s.over: // the channel is closed
	}
}

// letter is something to publish.
type letter struct {
	queue string
	amqp.Publishing

	confirmed *amqp.DeferredConfirmation
	err       error
}

// Send implements driver.Queue.
func (c *conn) Send(ctx context.Context, ms []*driver.Message) []error {
	letters, all := make([]letter, len(ms)), make([]*letter, 0, len(ms))
	for i, m := range ms {
		letters[i] = letter{queue: c.address.queue, Publishing: amqp.Publishing{
			MessageId: m.ID, CorrelationId: m.Correlation, Body: m.Body,
			DeliveryMode: amqp.Persistent, Timestamp: time.Now(),
		}}
		switch {
		case len(m.Body) > maxBody:
			letters[i].err = fmt.Errorf("rabbitqueue: a body of %d bytes, and the most is %d: %w", len(m.Body), maxBody, navvy.ErrInvalid)
		case len(m.ID) > longestName || len(m.Correlation) > longestName:
			letters[i].err = fmt.Errorf("rabbitqueue: ids have at most %d bytes: %w", longestName, navvy.ErrInvalid)
		default:
			all = append(all, &letters[i])
		}
	}
	c.publish(ctx, all)
	var errs []error
	for i := range letters {
		if letters[i].err != nil && errs == nil {
			errs = make([]error, len(ms))
		}
		if errs != nil {
			errs[i] = letters[i].err
		}
	}
	return errs
}

// publish publishes letters, and notes what becomes of each. While it waits for the broker
// others publish.
func (c *conn) publish(ctx context.Context, letters []*letter) {
	if len(letters) == 0 {
		return
	}
	s, sent := c.hand(ctx, letters)
	if s == nil {
		return
	}
	for _, m := range letters[:sent] {
		m.err = s.confirmed(ctx, m)
	}
	s.undelivered(letters[:sent])
	if s.fix(letters); ctx.Err() != nil || s.IsClosed() {
		c.drop(s) // the next ones need another: nobody waits for what is on this one
	}
	for _, m := range letters {
		if m.err != nil {
			m.err = c.fault("send", m.err)
		}
	}
}

// hand hands letters to the broker, in their order, and tells how many.
func (c *conn) hand(ctx context.Context, letters []*letter) (s *sender, sent int) {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		fail(letters, context.Cause(ctx))
		return nil, 0
	case <-c.ctx.Done():
		fail(letters, c.lost())
		return nil, 0
	}
	s, err := c.ready(ctx)
	if err != nil {
		fail(letters, err)
		return nil, 0
	}
	for i, m := range letters {
		if err := s.send(ctx, m); err != nil {
			fail(letters[i:], err)
			return s, i
		}
	}
	return s, len(letters)
}

func fail(letters []*letter, err error) {
	for _, m := range letters {
		m.err = err
	}
}

// ready gives the channel for publishing.
func (c *conn) ready(ctx context.Context) (*sender, error) {
	w, err := c.wire(ctx, &c.out)
	if err != nil {
		return nil, err
	}
	if s := c.sender.Load(); s != nil {
		return s, nil
	}
	s, err := within(ctx, w, func() (*sender, error) {
		ch, err := w.Channel()
		if err != nil {
			return nil, err
		}
		s := &sender{Channel: ch, w: w, asked: make(chan question), over: make(chan struct{})}
		s.closed = ch.NotifyClose(make(chan *amqp.Error, 1))
		go s.note(ch.NotifyReturn(make(chan amqp.Return))) // which ends with the channel
		return s, ch.Confirm(false)
	})
	if err != nil {
		return nil, c.fault("send", err)
	}
	c.sender.Store(s)
	return s, nil
}

// send hands a letter to the connection.
func (s *sender) send(ctx context.Context, m *letter) (err error) {
	if err := s.w.stream.room(ctx); err != nil {
		return err
	}
	m.confirmed, err = s.PublishWithDeferredConfirm("", m.queue, true, false, m.Publishing)
	if err != nil {
		return s.why(err)
	}
	return nil
}

// confirmed waits until the broker has answered.
func (s *sender) confirmed(ctx context.Context, m *letter) error {
	select {
	case <-m.confirmed.Done():
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.w.gone.Done():
		return s.w.lost()
	}
	switch {
	case m.confirmed.Acked():
		return nil
	case s.IsClosed():
		return s.why(amqp.ErrClosed)
	}
	return errFull
}

// errFull is what the broker refused without a reason: the queue is as long as it may be,
// or is in trouble.
var errFull = fmt.Errorf("the broker did not accept the message: the queue may be full: %w", navvy.ErrExhausted)

// why is why the channel was closed.
func (s *sender) why(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.said != nil {
		return s.said
	}
	s.said = fmt.Errorf("%w: %w", err, navvy.ErrUnavailable)
	select {
	case said := <-s.closed:
		if said != nil {
			s.said = classify(said)
		}
	default:
	}
	return s.said
}

// fix blames the one who is to blame: a broker with a lower bound closes the channel for a
// body that is too long, and does not say which it was. The others can be sent again.
func (s *sender) fix(letters []*letter) {
	var size, most int
	s.mu.Lock()
	said := s.said
	s.mu.Unlock()
	if !errors.Is(said, navvy.ErrInvalid) {
		return
	}
	if _, err := fmt.Sscanf(said.Error(), "PRECONDITION_FAILED - message size %d is larger than configured max size %d", &size, &most); err != nil {
		return
	}
	for _, m := range letters {
		if m.err != nil && len(m.Body) <= most {
			m.err = errAgain
		}
	}
}

// errAgain is what can be sent again, over another channel.
var errAgain = fmt.Errorf("another message ended the channel: %w", navvy.ErrExhausted)

// drop gives a channel up.
func (c *conn) drop(s *sender) {
	if !c.sender.CompareAndSwap(s, nil) {
		return
	}
	c.inbox.mu.Lock()
	defer c.inbox.mu.Unlock()
	c.inbox.spawn(func() { _ = s.Close() }) // the broker answers, or the connection ends
}

// DeadLetter implements driver.Queue: the message is in the queue of dead letters before it
// leaves its own.
func (c *conn) DeadLetter(ctx context.Context, d *driver.Delivery, reason string) error {
	h, _ := d.Token.(*held)
	if err := context.Cause(h.lane.lost); err != nil {
		return err
	}
	m := &letter{queue: c.address.queue + DeadSuffix, Publishing: again(&h.raw, d.ID)}
	m.Headers[reasonHeader], m.Headers[triedHeader] = reason, int64(d.Attempt)
	c.publish(ctx, []*letter{m})
	if errors.Is(m.err, navvy.ErrNotFound) && c.opts.Create {
		if _, m.err = within(ctx, c.out, func() (bool, error) { return true, makeDead(c.out, c.address) }); m.err == nil {
			c.publish(ctx, []*letter{m})
		}
	}
	if m.err != nil {
		if !errors.Is(m.err, navvy.ErrUnavailable) && !errors.Is(m.err, navvy.ErrExhausted) {
			_ = h.giveBack() // nobody tries it again; else it goes back by itself
		}
		return fmt.Errorf("dead letter: %w", m.err)
	}
	if errs := h.lane.acknowledge([]*held{h}); errs != nil {
		return errs[0]
	}
	return nil
}

// again is a message as it came, without what was for its first way.
func again(raw *amqp.Delivery, id string) amqp.Publishing {
	p := amqp.Publishing{
		Headers: amqp.Table{}, ContentType: raw.ContentType, ContentEncoding: raw.ContentEncoding,
		DeliveryMode: amqp.Persistent, Priority: raw.Priority, CorrelationId: raw.CorrelationId, ReplyTo: raw.ReplyTo,
		MessageId: id, Timestamp: raw.Timestamp, Type: raw.Type, AppId: raw.AppId, Body: raw.Body,
	}
	for name, value := range raw.Headers {
		switch name {
		case countHeader, "CC", "BCC": // the broker's count; copies for others
		default:
			p.Headers[name] = value
		}
	}
	return p
}
