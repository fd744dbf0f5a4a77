package rabbitqueue

import (
	"context"
	"errors"
	"fmt"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
)

// Peek implements driver.Upkeep. RabbitMQ shows a message only by delivering it: quorum
// queues count that, and RabbitMQ 4 drops what was delivered too often.
func (c *conn) Peek(context.Context, int) ([]*driver.Seen, error) {
	return nil, fmt.Errorf("rabbitqueue: queue %s: peek: RabbitMQ shows a message only by delivering it: %w", c.address.queue, navvy.ErrUnsupported)
}

// Count implements driver.Upkeep. RabbitMQ tells over AMQP what is ready, and not what
// somebody has.
func (c *conn) Count(ctx context.Context) (n driver.Count, err error) {
	n.Leased = driver.Unknown
	w, err := c.wire(ctx, &c.inbox.in)
	if err != nil {
		return n, err
	}
	for _, one := range []struct {
		name string
		to   *int64
	}{{c.address.queue, &n.Waiting}, {c.address.queue + DeadSuffix, &n.Dead}} {
		*one.to, err = within(ctx, w, func() (int64, error) { return ready(w, one.name) })
		if errors.Is(err, navvy.ErrNotFound) && one.to == &n.Dead {
			*one.to, err = 0, nil // no dead letter was there yet
		}
		if err != nil {
			return n, fmt.Errorf("rabbitqueue: queue %s: count: %w", one.name, err)
		}
	}
	return n, nil
}

// ready is how many messages of a queue wait.
func ready(w *wire, name string) (n int64, err error) {
	err = w.ask(func(ch *amqp.Channel) error {
		q, err := ch.QueueDeclarePassive(name, true, false, false, false, nil)
		n = int64(q.Messages)
		return err
	})
	return n, err
}

// isDeath tells whether a header says that a message is a dead letter.
func isDeath(header string) bool {
	return header == reasonHeader || header == triedHeader || header == deathHeader ||
		strings.HasPrefix(header, "x-first-death-") || strings.HasPrefix(header, "x-last-death-")
}

// Move implements driver.Upkeep.
func (c *conn) Move(ctx context.Context, d *driver.Delivery, to driver.Place) error {
	h, _ := d.Token.(*held)
	if err := context.Cause(h.lane.lost); err != nil {
		return err
	}
	m := &letter{queue: c.address.queue, Publishing: again(&h.raw, h.raw.MessageId)}
	m.Expiration = h.raw.Expiration
	if h.raw.UserId == c.address.user { // the broker takes nobody else's
		m.UserId = h.raw.UserId
	}
	if to == driver.Home {
		name, ok := strings.CutSuffix(c.address.queue, DeadSuffix)
		if !ok {
			return fmt.Errorf("rabbitqueue: queue %s is none of dead letters: its name does not end in %s: %w", c.address.queue, DeadSuffix, navvy.ErrInvalid)
		}
		m.queue = name
		for header := range m.Headers {
			if isDeath(header) {
				delete(m.Headers, header)
			}
		}
		if m.MessageId == "" {
			m.MessageId = d.ID
		}
	}
	if len(m.Headers) == 0 {
		m.Headers = nil
	}
	if c.publish(ctx, []*letter{m}); m.err != nil {
		return fmt.Errorf("move to %s: %w", m.queue, m.err)
	}
	if errs := h.lane.acknowledge([]*held{h}); errs != nil {
		return errs[0]
	}
	return nil
}
