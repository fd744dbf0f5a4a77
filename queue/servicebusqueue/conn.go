package servicebusqueue

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
)

// conn is a client of one queue.
type conn struct {
	*settings
	client  *azservicebus.Client
	sender  *azservicebus.Sender // nil for dead letters
	maxBody int

	unique chan struct{} // holds one while somebody looks at what follows
	twice  *bool         // whether a second message of an ID is kept; nil while nobody has asked

	turn    chan struct{} // held by the one who receives
	waiting atomic.Int64  // who receives, or waits to
	ahead   int           // how many messages may still come unasked, at most; of the turn
	fetch   int           // how many to ask for next; of the turn

	inlet    sync.RWMutex // read by who uses the receiver, written by who replaces it
	receiver *azservicebus.Receiver

	life  context.Context //nolint:containedctx // of the connection: ends with it, or with Close
	cut   context.CancelCauseFunc
	calls sync.RWMutex // read by each call, written by what ends the connection
	once  sync.Once    // of what ends it
}

var (
	errClosed = fmt.Errorf("servicebusqueue: the connection is closed: %w", navvy.ErrUnavailable)
	errSilent = fmt.Errorf("no answer came in time: %w", navvy.ErrUnavailable)
)

// enter begins a call, whose context ends with the connection, and after a time if one is
// given.
func (c *conn) enter(ctx context.Context, most time.Duration) (context.Context, func(), error) {
	c.calls.RLock()
	if c.life.Err() != nil {
		c.calls.RUnlock()
		return nil, nil, context.Cause(c.life)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.life, func() { cancel(context.Cause(c.life)) })
	release := func() {}
	if most > 0 {
		ctx, release = context.WithTimeoutCause(ctx, most, errSilent)
	}
	return ctx, func() {
		stop()
		release()
		cancel(nil)
		c.calls.RUnlock()
	}, nil
}

// Capabilities implements driver.Queue. Service Bus counts no deliveries of dead letters.
func (c *conn) Capabilities() driver.Capabilities {
	return driver.Capabilities{
		Correlation: true, Reason: true, Attempts: !c.dead, Binary: true, Detects: true, Peek: maxPeek, MaxBody: c.maxBody, MaxBatch: maxBatch,
	}
}

// Send implements driver.Queue. Messages go together as far as the service takes them.
func (c *conn) Send(ctx context.Context, ms []*driver.Message) []error {
	if c.sender == nil {
		return driver.Each(len(ms), fmt.Errorf("servicebusqueue: %s: nobody can send dead letters: send to the queue: %w", c.name, navvy.ErrUnsupported))
	}
	ctx, leave, err := c.enter(ctx, callTimeout)
	if err != nil {
		return driver.Each(len(ms), err)
	}
	defer leave()
	s := sending{conn: c, errs: make([]error, len(ms))}
	for i, m := range ms {
		out, err := c.outgoing(m)
		if err != nil {
			s.fail([]int{i}, err)
			continue
		}
		s.add(ctx, i, out)
	}
	s.flush(ctx)
	if !s.failed {
		return nil
	}
	return s.errs
}

// outgoing checks a message that package queue has let through.
func (c *conn) outgoing(m *driver.Message) (*azservicebus.Message, error) {
	for _, id := range []string{m.ID, m.Correlation} {
		if utf8.RuneCountInString(id) > maxID {
			return nil, fmt.Errorf("servicebusqueue: %s: send: an ID of %d characters, and the most is %d: %w", c.name, utf8.RuneCountInString(id), maxID, navvy.ErrInvalid)
		}
	}
	if len(m.Body) > c.maxBody {
		return nil, fmt.Errorf("servicebusqueue: %s: send: a body of %d bytes, and the most is %d: %w", c.name, len(m.Body), c.maxBody, navvy.ErrInvalid)
	}
	out := &azservicebus.Message{Body: m.Body, ApplicationProperties: map[string]any{}}
	if out.Body == nil {
		out.Body = []byte{} // else the SDK sends no body at all
	}
	out.MessageID = setID(out, keyID, m.ID)
	if m.Correlation != "" {
		out.CorrelationID = setID(out, keyCorrelation, m.Correlation)
	}
	return out, nil
}

// Properties with the base 64 of what AMQP cannot carry as text.
const (
	keyID          = "navvy-id"
	keyCorrelation = "navvy-correlation"
)

// setID gives an ID as it is sent. AMQP's text is UTF-8; another goes beside it.
func setID(m *azservicebus.Message, key, id string) *string {
	if !utf8.ValidString(id) {
		m.ApplicationProperties[key] = base64.StdEncoding.EncodeToString([]byte(id))
		id = strings.ToValidUTF8(id, "?")
	}
	return &id
}

// getID gives an ID as it was before it was sent.
func getID(m *azservicebus.ReceivedMessage, key, id string) string {
	if text, ok := m.ApplicationProperties[key].(string); ok {
		if other, err := base64.StdEncoding.DecodeString(text); err == nil {
			return string(other)
		}
	}
	return id
}

// sending is one call of Send.
type sending struct {
	*conn
	errs   []error
	failed bool
	lost   error // why nothing more is tried

	batch *azservicebus.MessageBatch
	at    []int // the messages of the batch
}

func (s *sending) fail(at []int, err error) {
	if err == nil {
		return
	}
	s.failed = true
	for _, i := range at {
		s.errs[i] = err
	}
	if errors.Is(err, navvy.ErrUnavailable) {
		s.lost = err
	}
}

// add puts a message into the batch; a full one is sent first.
func (s *sending) add(ctx context.Context, i int, m *azservicebus.Message) {
	for s.lost == nil {
		if s.batch == nil {
			batch, err := s.sender.NewMessageBatch(ctx, nil)
			if err != nil {
				s.fail([]int{i}, s.conn.failed(ctx, "send", err))
				return
			}
			s.batch = batch
		}
		err := s.batch.AddMessage(m, nil)
		switch {
		case err == nil:
			s.at = append(s.at, i)
			return
		case !errors.Is(err, azservicebus.ErrMessageTooLarge):
			s.fail([]int{i}, fmt.Errorf("servicebusqueue: %s: send: the message cannot be encoded: %w: %w", s.name, err, navvy.ErrInvalid))
			return
		case len(s.at) == 0: // as a batch it is too long, alone it may not be
			s.fail([]int{i}, s.conn.failed(ctx, "send", s.sender.SendMessage(ctx, m, nil)))
			return
		}
		s.flush(ctx)
	}
	s.fail([]int{i}, s.lost)
}

// flush sends the batch.
func (s *sending) flush(ctx context.Context) {
	if len(s.at) > 0 {
		s.fail(s.at, s.conn.failed(ctx, "send", s.sender.SendMessageBatch(ctx, s.batch, nil)))
	}
	s.batch, s.at = nil, nil
}

// Close implements driver.Queue. What has been lent and not settled comes again when its
// lock is over.
func (c *conn) Close() error {
	c.cut(errClosed)
	c.shut()
	return nil
}

// shut frees the SDK's client when its calls have ended: also that of a connection which was
// lost and nobody uses, since it would try to renew its claims without a pause.
func (c *conn) shut() {
	c.calls.Lock()
	defer c.calls.Unlock()
	c.once.Do(func() {
		if c.client == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		_ = c.client.Close(ctx) // which writes to the SDK's log what went wrong, and gives nothing
	})
}
