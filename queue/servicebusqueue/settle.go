package servicebusqueue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
)

// maxReason is how long the reason of a dead letter may be, in bytes.
const maxReason = 4000

// each does something for each delivery, all at once: the SDK has no calls for many.
func (c *conn) each(ctx context.Context, ds []*driver.Delivery, do func(context.Context, *driver.Delivery) error) []error {
	ctx, leave, err := c.enter(ctx, settleTimeout)
	if err != nil {
		return driver.Each(len(ds), err)
	}
	defer leave()
	errs := make([]error, len(ds))
	var all sync.WaitGroup
	for i, d := range ds {
		all.Go(func() { errs[i] = do(ctx, d) })
	}
	all.Wait()
	if errors.Join(errs...) == nil {
		return nil
	}
	return errs
}

// leased gives the receiver, and a message as it knows it: one that came otherwise is known
// by the token of its lock alone. The function lets go of the receiver.
func (c *conn) leased(d *driver.Delivery) (r *azservicebus.Receiver, m *azservicebus.ReceivedMessage, free func()) {
	c.inlet.RLock()
	t := tokenOf(d)
	m = t.message
	if t.from != c.receiver {
		m = &azservicebus.ReceivedMessage{LockToken: m.LockToken}
	}
	return c.receiver, m, c.inlet.RUnlock
}

func tokenOf(d *driver.Delivery) *token {
	t, _ := d.Token.(*token)
	return t
}

// settle settles a message. A lock that is not there any more because a call before, whose
// answer was lost, did settle it, is well: nobody else can have it while its lease lasts.
func (c *conn) settle(ctx context.Context, d *driver.Delivery, what string, how func(*azservicebus.Receiver, *azservicebus.ReceivedMessage) error) error {
	r, m, free := c.leased(d)
	defer free()
	err := c.failed(ctx, what, how(r, m))
	t := tokenOf(d)
	if errors.Is(err, navvy.ErrLeaseLost) && t.asked && time.Now().Before(d.Until) {
		return nil
	}
	if errors.Is(err, navvy.ErrUnavailable) || ctx.Err() != nil {
		t.asked = true
	}
	return err
}

// Ack implements driver.Queue.
func (c *conn) Ack(ctx context.Context, ds []*driver.Delivery) []error {
	return c.each(ctx, ds, func(ctx context.Context, d *driver.Delivery) error {
		return c.settle(ctx, d, "complete", func(r *azservicebus.Receiver, m *azservicebus.ReceivedMessage) error {
			return r.CompleteMessage(ctx, m, nil)
		})
	})
}

// Renew implements driver.Queue.
func (c *conn) Renew(ctx context.Context, ds []*driver.Delivery) []error {
	return c.each(ctx, ds, func(ctx context.Context, d *driver.Delivery) error {
		r, m, free := c.leased(d)
		defer free()
		err := r.RenewMessageLock(ctx, m, nil)
		if err == nil {
			d.Until = until(m)
		}
		return c.failed(ctx, "renew", err)
	})
}

// Nack implements driver.Queue. It cannot wait. Where nobody receives, what was asked for is
// taken back first: else the message may be on its way to us again when we close.
func (c *conn) Nack(ctx context.Context, d *driver.Delivery, _ time.Duration) error {
	ctx, leave, err := c.enter(ctx, settleTimeout)
	if err != nil {
		return err
	}
	defer leave()
	if c.waiting.Load() == 0 {
		if err := c.withdraw(ctx); err != nil {
			return c.failed(ctx, "give back", err)
		}
	}
	return c.settle(ctx, d, "give back", func(r *azservicebus.Receiver, m *azservicebus.ReceivedMessage) error {
		return r.AbandonMessage(ctx, m, nil)
	})
}

// DeadLetter implements driver.Queue. Dead letters of QUEUE are in QUEUE/$DeadLetterQueue.
func (c *conn) DeadLetter(ctx context.Context, d *driver.Delivery, reason string) error {
	if c.dead {
		return fmt.Errorf("servicebusqueue: %s%s holds dead letters, which have none of their own: give the message back, or acknowledge it: %w", c.name, DeadSuffix, navvy.ErrUnsupported)
	}
	ctx, leave, err := c.enter(ctx, settleTimeout)
	if err != nil {
		return err
	}
	defer leave()
	if len(reason) > maxReason {
		reason = strings.ToValidUTF8(reason[:maxReason], "")
	}
	return c.settle(ctx, d, "move to the dead letters", func(r *azservicebus.Receiver, m *azservicebus.ReceivedMessage) error {
		return r.DeadLetterMessage(ctx, m, &azservicebus.DeadLetterOptions{Reason: &reason})
	})
}
