package natsqueue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/navvy-run/navvy"
)

// consume finds or makes the consumer when somebody first receives: who only sends leaves
// it alone. Its leases are the longest that anybody asked for, since they cannot differ.
func (c *conn) consume(ctx context.Context) (lease time.Duration, err error) {
	c.making.Lock()
	defer c.making.Unlock()
	if c.lease > 0 {
		return c.lease, nil
	}
	info, err := c.info(ctx)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		_, err = c.js.CreateConsumer(ctx, c.stream, jetstream.ConsumerConfig{
			Durable: c.consumer, FilterSubject: c.name, AckPolicy: jetstream.AckExplicitPolicy, AckWait: c.wanted,
			MaxDeliver: -1, MaxAckPending: -1, MaxWaiting: 100_000,
		})
		if err == nil || errors.Is(err, jetstream.ErrConsumerExists) {
			info, err = c.info(ctx) // somebody else may have made it meanwhile
		}
	}
	if err != nil {
		return 0, c.wrap("make consumer "+c.consumer, err)
	}
	if err := c.fits(&info.Config); err != nil {
		return 0, err
	}
	if info.Config.AckWait < c.wanted {
		info.Config.AckWait = c.wanted
		if _, err := c.js.UpdateConsumer(ctx, c.stream, info.Config); err != nil {
			return 0, c.wrap("lengthen the leases of consumer "+c.consumer, err)
		}
	}
	c.lease = info.Config.AckWait
	return c.lease, nil
}

func (c *conn) info(ctx context.Context) (*jetstream.ConsumerInfo, error) {
	consumer, err := c.js.Consumer(ctx, c.stream, c.consumer)
	if err != nil {
		return nil, err
	}
	return consumer.CachedInfo(), nil
}

// fits refuses a consumer of our name that was made for something else.
func (c *conn) fits(cfg *jetstream.ConsumerConfig) error {
	differs := ""
	switch {
	case cfg.AckPolicy != jetstream.AckExplicitPolicy:
		differs = "acknowledges " + cfg.AckPolicy.String() + ", not explicit"
	case cfg.FilterSubject != c.name && (cfg.FilterSubject != "" || len(cfg.FilterSubjects) > 0):
		differs = fmt.Sprintf("is for the subject %q", cfg.FilterSubject)
	case cfg.MaxDeliver > 0:
		differs = fmt.Sprintf("gives up after %d deliveries", cfg.MaxDeliver)
	case len(cfg.BackOff) > 0:
		differs = "has a backoff"
	default:
		return nil
	}
	return fmt.Errorf("natsqueue: consumer %s of stream %s is there, and %s: remove it, or take another queue: %w", c.consumer, c.stream, differs, navvy.ErrConflict)
}
