package servicebusqueue

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
)

const (
	maxPeek      = 1000
	peekTogether = 100
)

// Peek implements driver.Upkeep: all messages, also those that somebody has, which Service
// Bus does not tell from others.
func (c *conn) Peek(ctx context.Context, most int) ([]*driver.Seen, error) {
	ctx, leave, err := c.enter(ctx, callTimeout)
	if err != nil {
		return nil, err
	}
	defer leave()
	c.inlet.RLock()
	defer c.inlet.RUnlock()
	var list []*driver.Seen
	from := int64(0)
	for most = min(most, maxPeek); len(list) < most; {
		ms, err := c.receiver.PeekMessages(ctx, min(most-len(list), peekTogether), &azservicebus.PeekMessagesOptions{FromSequenceNumber: &from})
		if err != nil {
			return nil, c.failed(ctx, "peek", err)
		}
		if len(ms) == 0 {
			break
		}
		for _, m := range ms {
			d := c.delivery(m)
			if !c.dead {
				d.Attempt = delivered(m)
			}
			list = append(list, &driver.Seen{Delivery: d})
			from = value(m.SequenceNumber) + 1
		}
	}
	return list, nil
}

// Count implements driver.Upkeep. It asks the management, which takes the right to manage.
// Service Bus does not tell those that wait from those that somebody has.
func (c *conn) Count(ctx context.Context) (n driver.Count, err error) {
	n.Leased = driver.Unknown
	ctx, leave, err := c.enter(ctx, callTimeout)
	if err != nil {
		return n, err
	}
	defer leave()
	client, end, err := c.administrator()
	if err != nil {
		return n, err
	}
	defer end()
	answer, err := client.GetQueueRuntimeProperties(ctx, c.name, nil)
	switch err = c.failed(ctx, "count", err); {
	case errors.Is(err, navvy.ErrDenied):
		return n, fmt.Errorf("to count messages takes the right to manage: %w", err)
	case err != nil:
		return n, err
	case answer == nil:
		return n, fmt.Errorf("servicebusqueue: %s: count: there is no such queue: %w", c.name, navvy.ErrNotFound)
	case c.dead:
		n.Waiting = int64(answer.DeadLetterMessageCount)
	default:
		n.Waiting, n.Dead = int64(answer.ActiveMessageCount), int64(answer.DeadLetterMessageCount)
	}
	return n, nil
}

// Move implements driver.Upkeep.
func (c *conn) Move(ctx context.Context, d *driver.Delivery, to driver.Place) error {
	switch {
	case to == driver.Behind && c.dead:
		return fmt.Errorf("servicebusqueue: %s%s: move: nobody can send dead letters: %w", c.name, DeadSuffix, navvy.ErrUnsupported)
	case to == driver.Home && !c.dead:
		return fmt.Errorf("servicebusqueue: %s is no queue of dead letters: its name does not end in %s: %w", c.name, DeadSuffix, navvy.ErrInvalid)
	}
	ctx, leave, err := c.enter(ctx, callTimeout)
	if err != nil {
		return err
	}
	defer leave()
	sender, end, err := c.outlet()
	if err != nil {
		return c.failed(ctx, "move", err)
	}
	defer end(ctx)
	copied := again(tokenOf(d).message)
	if !c.keepsID(ctx, copied) {
		copied.Properties.MessageID = rand.Text()
		copied.ApplicationProperties[keyID] = base64.StdEncoding.EncodeToString([]byte(d.ID))
	}
	if err := c.failed(ctx, "move", sender.SendAMQPAnnotatedMessage(ctx, copied, nil)); err != nil {
		return err
	}
	return c.settle(ctx, d, "complete", func(r *azservicebus.Receiver, m *azservicebus.ReceivedMessage) error {
		return r.CompleteMessage(ctx, m, nil)
	})
}

// outlet is a sender to the queue, also from its dead letters.
func (c *conn) outlet() (s *azservicebus.Sender, end func(context.Context), err error) {
	if c.sender != nil {
		return c.sender, func(context.Context) {}, nil
	}
	s, err = c.client.NewSender(c.name, nil)
	return s, func(ctx context.Context) { _ = s.Close(ctx) }, err
}

// keepsID tells whether a copy can have the ID of its message. A queue that detects
// duplicates forgets a second message of an ID, and with it what is then taken off; only
// the management tells whether it does, to those who may ask.
func (c *conn) keepsID(ctx context.Context, m *azservicebus.AMQPAnnotatedMessage) bool {
	if id, ok := m.Properties.MessageID.(string); !ok || id == "" {
		return false // its ID is its place, which changes
	}
	select {
	case c.unique <- struct{}{}:
		defer func() { <-c.unique }()
	case <-ctx.Done():
		return false
	}
	if c.twice == nil {
		keeps := c.keepsTwice(ctx)
		c.twice = &keeps
	}
	return *c.twice
}

func (c *conn) keepsTwice(ctx context.Context) bool {
	client, end, err := c.administrator()
	if err != nil {
		return false
	}
	defer end()
	answer, err := client.GetQueue(ctx, c.name, nil)
	return err == nil && answer != nil && !value(answer.RequiresDuplicateDetection)
}

// again is a message as it was sent, without what Service Bus has added.
func again(m *azservicebus.ReceivedMessage) *azservicebus.AMQPAnnotatedMessage {
	raw := m.RawAMQPMessage
	copied := &azservicebus.AMQPAnnotatedMessage{
		ApplicationProperties: maps.Clone(raw.ApplicationProperties), Body: raw.Body, Footer: raw.Footer,
		Properties: &azservicebus.AMQPAnnotatedMessageProperties{}, Header: &azservicebus.AMQPAnnotatedMessageHeader{Durable: true},
	}
	if copied.ApplicationProperties == nil {
		copied.ApplicationProperties = map[string]any{}
	}
	for _, name := range []string{"DeadLetterReason", "DeadLetterErrorDescription"} {
		delete(copied.ApplicationProperties, name)
	}
	if raw.Properties != nil {
		*copied.Properties = *raw.Properties
		copied.Properties.AbsoluteExpiryTime, copied.Properties.CreationTime = nil, nil
	}
	if raw.Header != nil {
		copied.Header.TTL, copied.Header.Priority = raw.Header.TTL, raw.Header.Priority
	}
	if key, ok := raw.MessageAnnotations["x-opt-partition-key"]; ok {
		copied.MessageAnnotations = map[any]any{"x-opt-partition-key": key}
	}
	return copied
}
