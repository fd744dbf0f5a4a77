package rabbitqueue_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/drivertest"
)

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), drivertest.Patience)
	t.Cleanup(cancel)
	return ctx
}

func send(t testing.TB, q *queue.Queue, bodies ...string) {
	t.Helper()
	for _, body := range bodies {
		if err := q.Send(within(t), queue.Message{Body: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
}

func receive(t testing.TB, q *queue.Queue) *queue.Lease {
	t.Helper()
	leases, err := q.Receive(within(t), 1)
	if err != nil {
		t.Fatal(err)
	}
	return leases[0]
}

func ack(t testing.TB, l *queue.Lease) {
	t.Helper()
	if err := l.Ack(within(t)); err != nil {
		t.Fatal(err)
	}
}

// What a client without properties sends is received as it is, under one ID.
func TestPlainSender(t *testing.T) {
	t.Parallel()
	b, name := broker(t), fresh()
	q, ch := open(t, b.URL(name), nil), connect(t, b)
	body := "caf\xe9 \x00"
	if err := ch.PublishWithContext(within(t), "", name, true, false, amqp.Publishing{Body: []byte(body)}); err != nil {
		t.Fatal(err)
	}
	l := receive(t, q)
	id := l.ID()
	if string(drivertest.Body(t, l)) != body || id == "" || l.Correlation() != "" || !l.Enqueued().IsZero() {
		t.Errorf("body %q, id %q, correlation %q, sent %s", drivertest.Body(t, l), id, l.Correlation(), l.Enqueued())
	}
	if err := l.Nack(within(t), 0); err != nil {
		t.Fatal(err)
	}
	l = receive(t, q)
	if l.ID() != id || l.Attempt() != 2 {
		t.Errorf("message %s came again as %s, attempt %d", id, l.ID(), l.Attempt())
	}
	ack(t, l)
}

// Such a client reads what was sent.
func TestPlainReceiver(t *testing.T) {
	t.Parallel()
	b, name := broker(t), fresh()
	q, ch := open(t, b.URL(name), nil), connect(t, b)
	body := "caf\xe9 \x00"
	if err := q.Send(within(t), queue.Message{ID: "7", Correlation: "6", Body: []byte(body)}); err != nil {
		t.Fatal(err)
	}
	d, ok, err := ch.Get(name, true)
	if err != nil || !ok || string(d.Body) != body || d.DeliveryMode != amqp.Persistent {
		t.Errorf("%v %v: %+v", ok, err, d)
	}
	if d.MessageId != "7" || d.CorrelationId != "6" || d.Timestamp.IsZero() {
		t.Errorf("message %q, correlation %q, sent %s", d.MessageId, d.CorrelationId, d.Timestamp)
	}
}

// Whoever cannot be reached, or let in, is told at once, and no secret with it.
func TestRefused(t *testing.T) {
	t.Parallel()
	b := broker(t)
	for name, c := range map[string]struct {
		url  string
		want error
	}{
		"host":     {"amqp://127.0.0.1:1/q", navvy.ErrUnavailable},
		"name":     {"amqp://no.such.host.invalid/q", navvy.ErrUnavailable},
		"password": {"amqp://guest:hunter2@" + b.Addr + "/q", navvy.ErrDenied},
		"user":     {"amqp://nobody:hunter2@" + b.Addr + "/q", navvy.ErrDenied},
		"vhost":    {b.URL("q") + "?vhost=none", navvy.ErrNotFound},
		"TLS":      {"amqps://" + b.Addr + "/q", navvy.ErrInvalid},
		"type":     {b.URL("q") + "?type=stream", navvy.ErrInvalid},
		"no queue": {b.URL(""), navvy.ErrInvalid},
		"no host":  {"amqp:///q", navvy.ErrInvalid},
		"long":     {b.URL(strings.Repeat("q", 251)), navvy.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := tryOpen(t, c.url, nil)
			if !errors.Is(err, c.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// A queue that exists is used as it is, unless the URL wants it of another kind.
func TestExisting(t *testing.T) {
	t.Parallel()
	b := broker(t)
	for name, c := range map[string]struct {
		durable  bool
		args     amqp.Table
		options  string
		attempts bool
		want     error
	}{
		"classic":           {durable: true},
		"transient":         {},
		"classic, lives":    {durable: true, args: amqp.Table{"x-message-ttl": 1000000, "x-dead-letter-exchange": "amq.fanout"}},
		"quorum, lives":     {durable: true, args: amqp.Table{"x-queue-type": "quorum", "x-message-ttl": 1000000, "x-delivery-limit": 7}, attempts: true},
		"classic as quorum": {durable: true, options: "?type=quorum", want: navvy.ErrConflict},
		"quorum as classic": {durable: true, args: amqp.Table{"x-queue-type": "quorum", "x-max-length": 7}, options: "?type=classic", want: navvy.ErrConflict},
		"stream":            {durable: true, args: amqp.Table{"x-queue-type": "stream"}, want: navvy.ErrConflict},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			queueName := fresh()
			if _, err := connect(t, b).QueueDeclare(queueName, c.durable, false, false, false, c.args); err != nil {
				t.Fatal(err)
			}
			if c.want != nil {
				_, err := tryOpen(t, b.URL(queueName)+c.options, nil)
				if !errors.Is(err, c.want) || !strings.Contains(err.Error(), "it ") {
					t.Errorf("%v, want %v", err, c.want)
				}
				return
			}
			q := open(t, b.URL(queueName)+c.options, nil)
			if got := q.Capabilities().Attempts; got != c.attempts {
				t.Errorf("it counts deliveries: %t, want %t", got, c.attempts)
			}
			send(t, q, "x")
			ack(t, receive(t, q))
		})
	}
}

// What the broker itself gives up is among the dead letters, with its reason.
func TestExpired(t *testing.T) {
	t.Parallel()
	b, name := broker(t), fresh()
	open(t, b.URL(name), nil)
	dead := open(t, b.URL(name+".dead"), nil)
	if err := connect(t, b).PublishWithContext(within(t), "", name, true, false, amqp.Publishing{Body: []byte("x"), Expiration: "1"}); err != nil {
		t.Fatal(err)
	}
	l := receive(t, dead)
	if l.Reason() != "expired" || string(drivertest.Body(t, l)) != "x" {
		t.Errorf("reason %q, body %q", l.Reason(), drivertest.Body(t, l))
	}
	ack(t, l)
	if _, err := connect(t, b).QueueDeclarePassive(name+".dead.dead", true, false, false, false, nil); err == nil {
		t.Error("looking at dead letters has made a queue for theirs")
	}
}

// A dead letter keeps what its sender said, and goes where it belongs though somebody has
// removed that queue.
func TestDeadLetter(t *testing.T) {
	t.Parallel()
	b, name := broker(t), fresh()
	q, ch := open(t, b.URL(name), nil), connect(t, b)
	if _, err := ch.QueueDelete(name+".dead", false, false, false); err != nil {
		t.Fatal(err)
	}
	sent := amqp.Publishing{Body: []byte("x"), ContentType: "text/plain", Headers: amqp.Table{"k": "v", "CC": []any{name + ".copy"}}, MessageId: "m", ReplyTo: "r"}
	if err := ch.PublishWithContext(within(t), "", name, true, false, sent); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, q).DeadLetter(within(t), "no"); err != nil {
		t.Fatal(err)
	}
	d, ok, err := ch.Get(name+".dead", true)
	if err != nil || !ok || d.ContentType != "text/plain" || d.Headers["k"] != "v" || d.Headers["CC"] != nil || d.Headers["x-navvy-reason"] != "no" || d.MessageId != "m" || d.ReplyTo != "r" {
		t.Errorf("%v %v: %+v", ok, err, d)
	}
}

// A queue that disappears is told to who receives and to who sends.
func TestDeleted(t *testing.T) {
	t.Parallel()
	b, name := broker(t), fresh()
	q := open(t, b.URL(name), nil)
	received := make(chan error, 1)
	begun := make(chan bool)
	go func() {
		close(begun)
		_, err := q.Receive(within(t), 1)
		received <- err
	}()
	<-begun
	if _, err := connect(t, b).QueueDelete(name, false, false, false); err != nil {
		t.Fatal(err)
	}
	if err := <-received; !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("receive: %v", err)
	}
	if err := q.Send(within(t), queue.Message{Body: []byte("x")}); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("send: %v", err)
	}
}

// A queue that refuses what it has no room for is waited for, as long as the sender likes.
func TestFull(t *testing.T) {
	t.Parallel()
	b, name := broker(t), fresh()
	args := amqp.Table{"x-max-length": 1, "x-overflow": "reject-publish"}
	if _, err := connect(t, b).QueueDeclare(name, true, false, false, false, args); err != nil {
		t.Fatal(err)
	}
	q := open(t, b.URL(name), nil)
	for i := 0; ; i++ {
		ctx, cancel := context.WithTimeout(within(t), 2*time.Second)
		err := q.Send(ctx, queue.Message{Body: []byte("x")})
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			break
		}
		if err != nil || i > 20 {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	ack(t, receive(t, q))
	ack(t, receive(t, q)) // the one that waited
}

// A broker with a lower bound than it has by itself refuses the one that is too long, and
// takes the others.
func TestLowerBound(t *testing.T) {
	t.Parallel()
	b := own(t, "max_message_size = 1000")
	q := open(t, b.URL("q"), nil)
	long := queue.Message{Body: bytes.Repeat([]byte("x"), 1001)}
	err := q.Send(within(t), queue.Message{Body: []byte("a")}, long, queue.Message{Body: []byte("b")})
	if !errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), "1000") {
		t.Errorf("%v, want invalid", err)
	}
	want := map[string]bool{"a": true, "b": true}
	for len(want) > 0 {
		l := receive(t, q)
		delete(want, string(drivertest.Body(t, l)))
		ack(t, l)
	}
}

// A broker out of memory takes nothing: who sends waits, as long as its context lasts, who
// receives goes on.
func TestAlarm(t *testing.T) {
	t.Parallel()
	b := own(t)
	q := open(t, b.URL("q"), nil)
	send(t, q, "before")
	if err := b.Control("set_vm_memory_high_watermark", "0.00001"); err != nil {
		t.Fatal(err)
	}
	var err error
	for i := 0; err == nil && i < 1000; i++ { // the alarm comes soon
		ctx, cancel := context.WithTimeout(within(t), 2*time.Second)
		err = q.Send(ctx, queue.Message{Body: make([]byte, 100_000)})
		cancel()
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("send: %v", err)
	}
	ack(t, receive(t, q))
	if err := b.Control("set_vm_memory_high_watermark", "0.6"); err != nil {
		t.Fatal(err)
	}
	send(t, q, "after")
}

// Work that takes longer than consumer_timeout is told that its lease is lost, and the
// message comes again; what was delivered later goes on.
func TestConsumerTimeout(t *testing.T) {
	t.Parallel()
	b := own(t)
	if err := b.ConsumerTimeout(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	q := open(t, b.URL("q"), &queue.Options{Lease: time.Second, Outstanding: 10})
	send(t, q, "late")
	late := receive(t, q)
	work, end := late.Context(t.Context())
	defer end()
	// Who waits now gets what comes when the first one is old, over another channel.
	quiet, cancel := context.WithTimeout(within(t), 3*time.Second)
	if _, err := q.Receive(quiet, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("receive: %v", err)
	}
	cancel()
	send(t, q, "fresh")
	fresh := receive(t, q)
	select {
	case <-work.Done():
	case <-within(t).Done():
		t.Fatal("nobody says that the lease is lost")
	}
	if err := context.Cause(work); !errors.Is(err, navvy.ErrLeaseLost) || !strings.Contains(err.Error(), "timed out") {
		t.Errorf("the work was ended by %v", err)
	}
	if err := fresh.Lost(); err != nil {
		t.Errorf("the other one was lost, too: %v", err)
	}
	if err := late.Ack(within(t)); !errors.Is(err, navvy.ErrLeaseLost) {
		t.Errorf("ack: %v", err)
	}
	ack(t, fresh)
	again := receive(t, q)
	if string(drivertest.Body(t, again)) != "late" || again.Attempt() != 2 {
		t.Errorf("%q, attempt %d", drivertest.Body(t, again), again.Attempt())
	}
	ack(t, again)
}
