package broker_test

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/navvy-run/navvy/queue"
)

// strangers is how many answers of other runs are in the queue before a map's own.
const strangers = 5000

// A map's answers that come behind thousands of another run's are found, also on brokers
// that cannot wait with a message, and those others are all there afterwards, as they were.
func TestStrangers(t *testing.T) {
	t.Parallel()
	t.Run("amqp", strangersOnRabbit)
	for _, name := range []string{"azservicebus", "redis", "nats"} {
		t.Run(name, func(t *testing.T) { strangersOn(t, brokers[name]) })
	}
}

func strangersOnRabbit(t *testing.T) {
	t.Parallel()
	b := startRabbit(t)
	ch := bare(t, b.url("out"))
	// The queue is made as navvy makes it.
	if _, said, code := run(t, "", "queue", "send", b.url("out"), "first"); code != 0 {
		t.Fatal(said)
	}
	if _, said, code := run(t, "", "queue", "recv", b.url("out")); code != 0 {
		t.Fatal(said)
	}
	want := map[string]bool{} // whether it was found
	for i := range strangers {
		p := amqp.Publishing{
			DeliveryMode: amqp.Persistent, MessageId: fmt.Sprint("old-", i), CorrelationId: fmt.Sprintf("OTHERRUN.%d", i),
			Body: fmt.Appendf(nil, "other\x00\xff %d", i), Headers: amqp.Table{"x-mine": int64(i)}, ContentType: "application/x-old",
			ContentEncoding: "none", ReplyTo: "there", Type: "answer", AppId: "app", Timestamp: time.Unix(1_700_000_000+int64(i), 0),
		}
		if i%3 == 0 { // whoever answers by other means may leave all that out
			p = amqp.Publishing{Body: p.Body, CorrelationId: p.CorrelationId}
		}
		want[lettersOf(p.Headers, p.MessageId, p.CorrelationId, p.ContentType, p.ContentEncoding, p.ReplyTo, p.Type, p.AppId, p.Timestamp, p.Body)] = true
		if err := ch.PublishWithContext(t.Context(), "", "out", true, false, p); err != nil {
			t.Fatal(err)
		}
	}
	mapBehind(t, b)
	for i := range strangers {
		d, ok, err := ch.Get("out", true)
		for wait := time.Now().Add(time.Minute); err == nil && !ok && time.Now().Before(wait); { // what was held goes back when its connection ends
			d, ok, err = ch.Get("out", true)
		}
		if err != nil || !ok {
			t.Fatalf("%d of %d are there, %v", i, strangers, err)
		}
		if delete(d.Headers, "x-delivery-count"); len(d.Headers) == 0 {
			d.Headers = nil
		}
		if key := lettersOf(d.Headers, d.MessageId, d.CorrelationId, d.ContentType, d.ContentEncoding, d.ReplyTo, d.Type, d.AppId, d.Timestamp, d.Body); !want[key] {
			t.Fatalf("not as it was, or twice: %s, redelivered: %v, %d are missing", key, d.Redelivered, len(want))
		} else {
			delete(want, key)
		}
	}
}

func strangersOn(t *testing.T, start func(*testing.T) *broker) {
	t.Parallel()
	b := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	q, err := queue.Open(ctx, b.url("out"), b.drivers, &queue.Options{Outstanding: strangers})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close(context.Background()) //nolint:errcheck // all is settled by then
	ms, want := make([]queue.Message, strangers), map[string]bool{}
	for i := range ms {
		ms[i] = queue.Message{ID: fmt.Sprint("old-", i), Correlation: fmt.Sprintf("OTHERRUN.%d", i), Body: fmt.Appendf(nil, "other\x00\xff %d", i)}
		want[ms[i].ID+" "+ms[i].Correlation+" "+string(ms[i].Body)] = true
	}
	if err := q.Send(ctx, ms...); err != nil {
		t.Fatal(err)
	}
	mapBehind(t, b)
	for len(want) > 0 {
		leases, err := q.Receive(ctx, 500)
		if err != nil {
			t.Fatalf("%d are missing: %v", len(want), err)
		}
		for _, l := range leases {
			body, err := l.Body(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if key := l.ID() + " " + l.Correlation() + " " + string(body); !want[key] {
				t.Errorf("not as it was, or twice: %q", key)
			} else {
				delete(want, key)
			}
			if err := l.Ack(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// lettersOf is all that a message says, in short.
func lettersOf(parts ...any) string {
	return fmt.Sprintf("%#v", parts)
}

// bare is a channel of the broker's client library alone.
func bare(t *testing.T, url string) *amqp.Channel {
	t.Helper()
	c, err := amqp.Dial(url[:strings.LastIndexByte(url, '/')] + "/")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	ch, err := c.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

// mapBehind has a worker answer a map, behind whatever is in the queue of the answers.
func mapBehind(t *testing.T, b *broker) {
	t.Helper()
	w := &workers{t: t, env: b.env, args: []string{"worker", "start", "--requests", b.url("in"), "--responses", b.url("out"), "--service", "echo"}}
	w.all = []*exec.Cmd{w.start()}
	failed := true
	defer func() { w.end(failed, 0) }()
	out, said, code := runWith(t, b.env, "a\nb\nc\n", "map", "--queue", b.url("in"), "--responses", b.url("out"), "--patience", "4m")
	if failed = code != 0 || out != "a\nb\nc\n"; failed {
		t.Fatalf("map: exit code %d, %q: %s", code, out, said)
	}
}
