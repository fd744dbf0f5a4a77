package rabbitqueue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/navvy-run/navvy/queue/driver"
)

// The headers of a message that this package knows.
const (
	reasonHeader = "x-navvy-reason"   // why a message is among the dead letters
	triedHeader  = "x-navvy-tried"    // and how often it had been delivered
	deathHeader  = "x-death"          // the broker's account of the same
	countHeader  = "x-delivery-count" // of quorum queues: how often it came before
)

// open opens a lane.
func (b *inbox) open(w *wire) (*lane, error) {
	ch, err := w.Channel()
	if err != nil {
		return nil, err
	}
	l := &lane{b: b, ch: ch, first: 1}
	l.lost, l.lose = context.WithCancelCause(context.Background())
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.current
	b.current, b.lanes[l] = l, true
	b.c.work.Go(func() { l.watch(closed) }) // Close waits for whoever opens
	if before != nil {
		before.leave()
	}
	return l, nil
}

// start has the broker send over a lane.
func (b *inbox) start(l *lane, to *consumer) error {
	if err := l.ch.Qos(to.prefetch, 0, false); err != nil {
		return err
	}
	deliveries, err := l.ch.Consume(b.c.address.queue, to.tag, false, false, false, false, nil)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	l.consumer = to
	b.c.work.Go(func() { l.fill(to, deliveries) })
	return nil
}

// fill puts what comes to a consumer into the inbox.
func (l *lane) fill(from *consumer, deliveries <-chan amqp.Delivery) {
	defer close(from.over)
	for raw := range deliveries {
		l.put(from, l.delivery(raw))
	}
	b := l.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if l.consumer == from { // the broker may have ended it, too
		l.consumer = nil
	}
	b.notify()
	l.leave()
}

func (l *lane) put(from *consumer, d *held) {
	b := l.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if l.dead {
		return
	}
	e := l.entry(d.raw.DeliveryTag)
	e.at, e.from = time.Now(), from
	l.unsettled++
	from.unsettled++
	b.held++
	b.ready = append(b.ready, d)
	b.notify()
}

// delivery reads what came.
func (l *lane) delivery(raw amqp.Delivery) *held {
	d := &held{lane: l, raw: raw}
	d.Delivery = driver.Delivery{
		ID: raw.MessageId, Correlation: raw.CorrelationId, Body: raw.Body, Enqueued: raw.Timestamp,
		Reason: reason(raw.Headers), Lost: l.lost, Token: d,
	}
	if d.ID == "" {
		d.ID = name(&raw)
	}
	if n, ok := raw.Headers[triedHeader].(int64); ok {
		d.Tried = int(n)
	}
	if l.b.c.kind == quorum {
		d.Attempt = 1
		if n, ok := raw.Headers[countHeader].(int64); ok {
			d.Attempt += int(n)
		}
	}
	return d
}

// name is the ID of a message that its sender gave none, and the broker neither: it comes
// of all that the sender said, so that it is the same at each delivery. Two messages that
// are alike have the same.
func name(raw *amqp.Delivery) string {
	h := sha256.New()
	_ = json.NewEncoder(h).Encode([]string{ // a hash takes anything
		raw.Exchange, raw.RoutingKey, raw.CorrelationId, raw.ReplyTo, raw.Type, raw.AppId, raw.UserId,
		raw.ContentType, raw.ContentEncoding, strconv.FormatInt(raw.Timestamp.Unix(), 10),
	})
	h.Write(raw.Body)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// reason is why a message is among the dead letters: what DeadLetter was told, or what the
// broker says.
func reason(headers amqp.Table) string {
	if why, ok := headers[reasonHeader].(string); ok {
		return why
	}
	deaths, _ := headers[deathHeader].([]any)
	if len(deaths) == 0 {
		return ""
	}
	last, _ := deaths[0].(amqp.Table)
	why, _ := last["reason"].(string)
	return why
}

// Ack implements driver.Queue. The broker is told, and does not answer.
func (c *conn) Ack(_ context.Context, ds []*driver.Delivery) []error {
	list := make([]*held, len(ds))
	one := true
	for i, d := range ds {
		list[i], _ = d.Token.(*held)
		one = one && list[i].lane == list[0].lane
	}
	if one && len(list) > 0 {
		return list[0].lane.acknowledge(list)
	}
	byLane, at := map[*lane][]*held{}, map[*lane][]int{}
	for i, d := range list {
		byLane[d.lane], at[d.lane] = append(byLane[d.lane], d), append(at[d.lane], i)
	}
	var errs []error
	for l, ds := range byLane {
		for i, err := range l.acknowledge(ds) {
			if errs == nil {
				errs = make([]error, len(list))
			}
			errs[at[l][i]] = err
		}
	}
	return errs
}

func (l *lane) acknowledge(ds []*held) []error { return l.settle(ds, true, l.ch.Ack) }

// giveBack has the broker deliver a message again.
func (d *held) giveBack() error {
	errs := d.lane.settle([]*held{d}, false, func(tag uint64, multiple bool) error {
		return d.lane.ch.Nack(tag, multiple, true)
	})
	if errs != nil {
		return errs[0]
	}
	return nil
}

// Nack implements driver.Queue. If nobody receives here, the message is for somebody else:
// the broker is told first to send nothing more, else it came back at once and lay here.
func (c *conn) Nack(ctx context.Context, d *driver.Delivery, _ time.Duration) error {
	b := c.inbox
	b.mu.Lock()
	for b.waiting == 0 && ctx.Err() == nil && c.ctx.Err() == nil && (b.changing || b.current != nil && b.current.consumer != nil) {
		b.halt()
		b.await(ctx, 0)
	}
	b.mu.Unlock()
	if ctx.Err() != nil {
		return fmt.Errorf("rabbitqueue: queue %s: give back: %w", c.address.queue, context.Cause(ctx))
	}
	h, _ := d.Token.(*held)
	return h.giveBack()
}
