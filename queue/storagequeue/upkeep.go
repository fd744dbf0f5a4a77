package storagequeue

import (
	"context"
	"fmt"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azqueue/v2"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
)

// Peek implements driver.Upkeep. The service shows those that anybody may have now, and no
// more than it lends at once.
func (c *conn) Peek(ctx context.Context, most int) ([]*driver.Seen, error) {
	ctx, leave, err := c.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	n := int32(min(most, maxReceive))
	answer, err := c.client.PeekMessages(ctx, &azqueue.PeekMessagesOptions{NumberOfMessages: &n})
	if err != nil {
		return nil, c.failed(ctx, "peek", err)
	}
	list := make([]*driver.Seen, len(answer.Messages))
	for i, m := range answer.Messages {
		list[i] = &driver.Seen{Delivery: driver.Delivery{
			ID: value(m.MessageID), Body: c.decode(value(m.MessageText)), Attempt: int(value(m.DequeueCount)), Enqueued: value(m.InsertionTime),
		}}
	}
	return list, nil
}

// Count implements driver.Upkeep. The service counts all, also those that somebody has, and
// says that it may be wrong by some.
func (c *conn) Count(ctx context.Context) (n driver.Count, err error) {
	n.Leased = driver.Unknown
	ctx, leave, err := c.enter(ctx)
	if err != nil {
		return n, err
	}
	defer leave()
	if n.Waiting, err = c.about(ctx, c.client); err == nil && c.dead != nil {
		n.Dead, err = c.about(ctx, c.dead)
	}
	return n, err
}

// about is how many messages a queue has; none if it is not there.
func (c *conn) about(ctx context.Context, q *azqueue.QueueClient) (int64, error) {
	answer, err := q.GetProperties(ctx, nil)
	if code(err) == "QueueNotFound" && q == c.dead {
		return 0, nil
	}
	return int64(value(answer.ApproximateMessagesCount)), c.failed(ctx, "count", err)
}

// Move implements driver.Upkeep.
func (c *conn) Move(ctx context.Context, d *driver.Delivery, to driver.Place) error {
	ctx, leave, err := c.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	target := c.client
	if to == driver.Home {
		name, ok := strings.CutSuffix(c.name, DeadSuffix)
		if !ok {
			return fmt.Errorf("storagequeue: %s is no queue of dead letters: its name does not end in %s: %w", c.name, DeadSuffix, navvy.ErrInvalid)
		}
		if target, err = c.settings.client(name, c.transport); err != nil {
			return err
		}
	}
	t := c.token(d)
	if !t.copied {
		// Whoever has lost the lease must not copy what somebody else works on.
		if err := c.renew(ctx, d); err != nil {
			return err
		}
		forever := int32(-1)
		if _, err := target.EnqueueMessage(ctx, t.text, &azqueue.EnqueueMessageOptions{TimeToLive: &forever}); err != nil {
			return c.failed(ctx, "move", err)
		}
		t.copied = true
	}
	return c.remove(ctx, d)
}
