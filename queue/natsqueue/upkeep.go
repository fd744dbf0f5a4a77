package natsqueue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
)

// maxPeek bounds what is shown at once: each is a question of its own.
const maxPeek = 1000

// Peek implements driver.Upkeep: messages of the stream from the first on that is not known
// to be acknowledged, also those that somebody has. In a stream that keeps what is
// acknowledged such ones may be among them.
func (c *conn) Peek(ctx context.Context, most int) ([]*driver.Seen, error) {
	stream, err := c.js.Stream(ctx, c.stream)
	if err != nil {
		return nil, c.wrap("peek", err)
	}
	from, delivered, err := c.floor(ctx)
	if err != nil {
		return nil, err
	}
	var list []*driver.Seen
	for len(list) < min(most, maxPeek) {
		m, err := stream.GetMsg(ctx, from, jetstream.WithGetMsgSubject(c.name))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return list, nil
		} else if err != nil {
			return nil, c.wrap("peek", err)
		}
		d := read(c.stream, m.Sequence, m.Header, m.Data, m.Time)
		d.Token = nil
		list = append(list, &driver.Seen{Delivery: d, Leased: m.Sequence <= delivered})
		from = m.Sequence + 1
	}
	return list, nil
}

// floor gives the first place of the stream that may not be acknowledged, and the last one
// that was delivered.
func (c *conn) floor(ctx context.Context) (from, delivered uint64, err error) {
	info, err := c.info(ctx)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return 1, 0, nil
	} else if err != nil {
		return 0, 0, c.wrap("find consumer "+c.consumer, err)
	}
	return info.AckFloor.Stream + 1, info.Delivered.Stream, nil
}

// Count implements driver.Upkeep. What was given back counts as leased until it is
// delivered again.
func (c *conn) Count(ctx context.Context) (n driver.Count, err error) {
	info, err := c.info(ctx)
	switch {
	case err == nil:
		n.Waiting, n.Leased = int64(info.NumPending), int64(info.NumAckPending)
	case !errors.Is(err, jetstream.ErrConsumerNotFound):
		return n, c.wrap("count", err)
	default:
		if n.Waiting, err = c.onSubject(ctx, c.name); err != nil {
			return n, err
		}
	}
	n.Dead, err = c.onSubject(ctx, c.name+DeadSuffix)
	return n, err
}

// onSubject tells how many messages streams have on a subject; none if no stream has it.
func (c *conn) onSubject(ctx context.Context, subject string) (int64, error) {
	name, err := c.js.StreamNameBySubject(ctx, subject)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0, nil
	} else if err != nil {
		return 0, c.wrap("find the stream of "+subject, err)
	}
	stream, err := c.js.Stream(ctx, name)
	if err != nil {
		return 0, c.wrap("count", err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(subject))
	if err != nil {
		return 0, c.wrap("count", err)
	}
	return int64(info.State.Subjects[subject]), nil
}

// Move implements driver.Upkeep. The server knows the message's id from before, and would
// forget a second one of it: the id that it sees is another, and the message's is beside it.
func (c *conn) Move(ctx context.Context, d *driver.Delivery, to driver.Place) error {
	t, _ := d.Token.(token)
	m := &nats.Msg{Subject: c.name, Data: d.Body, Header: maps.Clone(t.header)}
	if m.Header == nil {
		m.Header = nats.Header{}
	}
	if to == driver.Home {
		name, ok := strings.CutSuffix(c.name, DeadSuffix)
		if !ok {
			return fmt.Errorf("natsqueue: %s is no queue of dead letters: its name does not end in %s: %w", c.name, DeadSuffix, navvy.ErrInvalid)
		}
		m.Subject = name
		delete(m.Header, headerReason)
		delete(m.Header, headerTried)
	}
	for name := range m.Header {
		if strings.HasPrefix(name, "Nats-") { // the server's: what was expected of the stream then
			delete(m.Header, name)
		}
	}
	m.Header[headerID], m.Header[headerOriginal] = []string{"moved-" + t.place}, []string{d.ID}
	if m.Header.Get(headerSent) == "" {
		m.Header[headerSent] = []string{d.Enqueued.UTC().Format(time.RFC3339Nano)}
	}
	if err := one(c.publish(ctx, []*nats.Msg{m})); err != nil {
		return c.wrap("move to "+m.Subject, err)
	}
	return one(c.Ack(ctx, []*driver.Delivery{d}))
}
