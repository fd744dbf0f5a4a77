package servicebusqueue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
)

// linger is how long the rest of what was asked for is waited for when some of it is there.
const linger = 5 * time.Millisecond

// Receive implements driver.Queue. One receives at a time, as the SDK wants it.
func (c *conn) Receive(ctx context.Context, most int) ([]*driver.Delivery, error) {
	ctx, leave, err := c.enter(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer leave()
	c.waiting.Add(1)
	defer c.waiting.Add(-1)
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return nil, c.over()
	}
	ms, err := c.take(ctx, min(most, c.fetch))
	switch {
	case len(ms) > 0:
		return c.deliveries(ms), nil
	case ctx.Err() != nil:
		return nil, c.over()
	case err != nil:
		return nil, c.failed(ctx, "receive", err)
	default: // the SDK says nothing, and would connect again by itself
		return nil, fmt.Errorf("servicebusqueue: %s: receive: the connection is lost: %w", c.name, navvy.ErrUnavailable)
	}
}

// over is the error of a wait that came to nothing.
func (c *conn) over() error {
	if c.life.Err() != nil {
		return fmt.Errorf("servicebusqueue: %s: receive: %w", c.name, context.Cause(c.life))
	}
	return nil
}

// take asks for so many messages, and waits until there is one. More is asked for next time
// if all of them have come, and less if not: what comes when nobody asks any more the SDK
// gives back, which takes time, though Service Bus does not count it as a delivery.
func (c *conn) take(ctx context.Context, n int) (ms []*azservicebus.ReceivedMessage, err error) {
	c.inlet.RLock()
	defer c.inlet.RUnlock()
	defer func() {
		// The SDK panics at properties of Service Bus' own that somebody has given another type.
		if r := recover(); r != nil {
			err = fmt.Errorf("a message that the SDK cannot read: %v: %w", r, navvy.ErrUnavailable)
		}
	}()
	c.ahead = max(c.ahead, n)
	ms, err = c.receiver.ReceiveMessages(ctx, n, &azservicebus.ReceiveMessagesOptions{TimeAfterFirstMessage: linger})
	c.ahead -= len(ms)
	if len(ms) == n {
		c.fetch = min(2*n, maxFetch)
	} else {
		c.fetch = max(len(ms), 1)
	}
	return ms, err
}

// token is what a lease is known by.
type token struct {
	message *azservicebus.ReceivedMessage
	from    *azservicebus.Receiver
	asked   bool // it was to be settled, and perhaps is: no answer came
}

func (c *conn) deliveries(ms []*azservicebus.ReceivedMessage) []*driver.Delivery {
	ds := make([]*driver.Delivery, len(ms))
	for i, m := range ms {
		d := c.delivery(m)
		d.Attempt, d.Until, d.Token = c.attempt(m), until(m), &token{message: m, from: c.receiver}
		ds[i] = &d
	}
	return ds
}

// delivery is what a message says of itself.
func (c *conn) delivery(m *azservicebus.ReceivedMessage) driver.Delivery {
	d := driver.Delivery{
		ID: getID(m, keyID, m.MessageID), Correlation: getID(m, keyCorrelation, value(m.CorrelationID)), Reason: reason(m), Body: body(m),
		Enqueued: value(m.EnqueuedTime),
	}
	if d.ID == "" {
		d.ID = strconv.FormatInt(value(m.SequenceNumber), 10)
	}
	if c.dead {
		d.Tried = delivered(m)
		if value(m.DeadLetterReason) != tooOften { // then the last one is counted already
			d.Tried++
		}
	}
	return d
}

// tooOften is Service Bus' reason for moving what came too often to the dead letters.
const tooOften = "MaxDeliveryCountExceeded"

// delivered is how many deliveries of a message came to nothing.
func delivered(m *azservicebus.ReceivedMessage) int {
	if m.RawAMQPMessage != nil && m.RawAMQPMessage.Header != nil {
		return int(m.RawAMQPMessage.Header.DeliveryCount)
	}
	return 0
}

// value is what p points to, or nothing.
func value[T any](p *T) T {
	var v T
	if p != nil {
		v = *p
	}
	return v
}

// reason is why a message is among the dead letters: ours, or Service Bus' own.
func reason(m *azservicebus.ReceivedMessage) string {
	parts := []string{value(m.DeadLetterReason), value(m.DeadLetterErrorDescription)}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ": ")
}

// attempt counts from 1 what the message's header counts from 0. The SDK's own count is
// missing where the message has no properties.
func (c *conn) attempt(m *azservicebus.ReceivedMessage) int {
	if c.dead {
		return 0
	}
	return delivered(m) + 1
}

// body is what a message carries. We send bytes; others may send text, or a value of AMQP's,
// which becomes JSON.
func body(m *azservicebus.ReceivedMessage) []byte {
	b := m.RawAMQPMessage.Body
	var other any
	switch {
	case b.Data != nil:
		return slices.Concat(b.Data...)
	case b.Value == nil && b.Sequence == nil:
		return nil
	case b.Sequence != nil:
		other = slices.Concat(b.Sequence...)
	default:
		other = b.Value
	}
	switch v := other.(type) {
	case string:
		return []byte(v)
	case []byte:
		return v
	}
	text, err := json.Marshal(other)
	if err != nil {
		return fmt.Append(nil, other)
	}
	return text
}

// until is when a lock ends, rather too early. Service Bus tells it by its own clock: where
// that is ahead of this machine's no lock is believed to be longer than they can be, and
// where it is behind the lock is renewed once a second.
func until(m *azservicebus.ReceivedMessage) time.Time {
	now := time.Now()
	left := min(value(m.LockedUntil).Sub(now), maxLock)
	if left <= 0 {
		left = time.Second
	}
	return now.Add(left - left/50)
}

// withdraw takes back what was asked for and has not come. The SDK can do that only by the
// end of its link; what was received over it is settled by its token from then on.
func (c *conn) withdraw(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	default:
		return nil // somebody receives
	}
	if c.ahead == 0 {
		return nil
	}
	c.inlet.Lock()
	defer c.inlet.Unlock()
	next, err := c.newReceiver()
	if err == nil {
		err = c.receiver.Close(ctx)
		c.receiver, c.ahead, c.fetch = next, 0, 1
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil // what is wrong with the link is told by what follows
}
