package natsqueue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
)

// pullTime is how long the server waits for messages on our behalf.
const pullTime = 30 * time.Second

// pull is a subject to which the server sends what one asks for.
type pull struct {
	inbox string
	sub   *nats.Subscription
	msgs  chan *nats.Msg
}

// Receive implements driver.Queue.
func (c *conn) Receive(ctx context.Context, most int) ([]*driver.Delivery, error) {
	if !c.begin() {
		return nil, c.wrap("receive", errGone)
	}
	defer c.busy.Done()
	lease, err := c.consume(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil, nil
		}
		return nil, err
	}
	most = min(most, maxBatch)
	for ctx.Err() == nil {
		ms, err := c.fetch(ctx, most)
		if len(ms) > 0 {
			return c.deliveries(ms, lease)
		}
		if err != nil && ctx.Err() == nil {
			return nil, c.wrap("receive", err)
		}
	}
	return nil, nil
}

// begin counts one who receives, unless the connection is closed.
func (c *conn) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return false
	}
	c.busy.Add(1)
	return true
}

// getPull gives one that nobody uses.
func (c *conn) getPull() (*pull, error) {
	c.mu.Lock()
	if last := len(c.pulls) - 1; last >= 0 {
		p := c.pulls[last]
		c.pulls = c.pulls[:last]
		c.mu.Unlock()
		return p, nil
	}
	c.mu.Unlock()
	p := &pull{inbox: nats.NewInbox(), msgs: make(chan *nats.Msg, maxBatch+10)}
	var err error
	p.sub, err = c.nc.ChanSubscribe(p.inbox, p.msgs)
	return p, err
}

func (c *conn) putPull(p *pull) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pulls = append(c.pulls, p)
}

// fetch gives what the server has, at most so many, or waits until it has some. The server
// ends what it gives with a message that is none.
func (c *conn) fetch(ctx context.Context, most int) ([]*nats.Msg, error) {
	p, err := c.getPull()
	if err != nil {
		return nil, err
	}
	request, err := json.Marshal(map[string]any{"batch": most, "no_wait": true, "expires": pullTime})
	if err != nil {
		return nil, err
	}
	if err := c.nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+c.stream+"."+c.consumer, p.inbox, request); err != nil {
		return nil, err
	}
	var ms []*nats.Msg
	for len(ms) < most {
		select {
		case m := <-p.msgs:
			status := m.Header.Get("Status")
			if len(m.Data) == 0 && status != "" {
				c.putPull(p)
				return ms, ended(status, m.Header.Get("Description"))
			}
			ms = append(ms, m)
		case <-ctx.Done():
			return append(ms, p.leave(c.closed)...), nil
		case <-c.ctx.Done():
			return ms, context.Cause(c.ctx)
		}
	}
	c.putPull(p)
	return ms, nil
}

// ended says why the server gives no more.
func ended(status, description string) error {
	switch status {
	case "404", "408": // there is nothing, or the time is over
		return nil
	case "503":
		return fmt.Errorf("the stream or our consumer is not there: %w", nats.ErrNoResponders)
	default:
		return fmt.Errorf("the server ended it: %s %s: %w", status, description, navvy.ErrUnavailable)
	}
}

// leave has the server give no more, and what it has given.
func (p *pull) leave(closed <-chan struct{}) []*nats.Msg {
	over := p.sub.StatusChanged(nats.SubscriptionClosed)
	if p.sub.Drain() != nil {
		return nil // the connection is gone, and leases end by themselves
	}
	select {
	case <-over:
	case <-closed:
	}
	var ms []*nats.Msg
	for {
		select {
		case m := <-p.msgs:
			if m != nil && m.Header.Get("Status") == "" {
				ms = append(ms, m)
			}
		default:
			return ms
		}
	}
}

// deliveries makes them of the client's messages.
func (c *conn) deliveries(ms []*nats.Msg, lease time.Duration) ([]*driver.Delivery, error) {
	// The server does not say when a lease began, and what comes may have been under way, or
	// waited here, for a while: it is taken to have begun earlier rather than later.
	until := time.Now().Add(lease - min(lease/10, time.Second))
	ds := make([]*driver.Delivery, 0, len(ms))
	var errs []error
	for _, m := range ms {
		meta, err := m.Metadata()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		d := read(meta.Stream, meta.Sequence.Stream, m.Header, m.Data, meta.Timestamp)
		t, _ := d.Token.(token)
		t.subject, t.conn = m.Reply, c
		d.Attempt, d.Until, d.Token = int(meta.NumDelivered), until, t
		ds = append(ds, &d)
	}
	if len(ds) == 0 {
		return nil, fmt.Errorf("natsqueue: %s: messages that are none of JetStream: %w", c.name, errors.Join(errs...))
	}
	return ds, nil
}

// read reads a message of a stream.
func read(stream string, seq uint64, header nats.Header, body []byte, came time.Time) driver.Delivery {
	place := fmt.Sprintf("%s-%d", stream, seq)
	d := driver.Delivery{
		ID: cmp.Or(header.Get(headerOriginal), header.Get(headerID), place), Correlation: header.Get(headerCorrelation),
		Reason: header.Get(headerReason), Body: body, Enqueued: came, Token: token{place: place, header: header},
	}
	if sent, err := time.Parse(time.RFC3339Nano, header.Get(headerSent)); err == nil {
		d.Enqueued = sent
	}
	d.Tried, _ = strconv.Atoi(header.Get(headerTried))
	return d
}
