package natsqueue_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/drivertest"
	"github.com/navvy-run/navvy/queue/natsqueue"
	"github.com/navvy-run/navvy/queue/natsqueue/natstest"
)

func open(t *testing.T, rawURL string) (*queue.Queue, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), drivertest.Patience)
	defer cancel()
	q, err := queue.Open(ctx, rawURL, map[string]driver.Driver{"nats": natsqueue.Driver, "tls": natsqueue.Driver}, nil)
	if err == nil {
		t.Cleanup(func() {
			if err := q.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	return q, err
}

func mustOpen(t *testing.T, rawURL string) *queue.Queue {
	t.Helper()
	q, err := open(t, rawURL)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func direct(t *testing.T, rawURL string, lease time.Duration) driver.Queue {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	dial, err := natsqueue.Driver(u, &driver.Options{Lease: lease, Outstanding: 1, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	c, err := dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func receive(t *testing.T, q *queue.Queue) *queue.Lease {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), drivertest.Patience)
	defer cancel()
	leases, err := q.Receive(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	return leases[0]
}

// plain is a client that knows nothing of navvy, and the subject of a queue.
func plain(t *testing.T, s *natstest.Server, rawURL string) (*nats.Conn, jetstream.JetStream, string) {
	t.Helper()
	nc := connect(t, s)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	return nc, js, strings.TrimPrefix(u.Path, "/")
}

// A client that knows nothing of us sends and reads bytes as they are.
func TestForeign(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, nil)
	raw := queueURL(s)
	q := mustOpen(t, raw)
	nc, _, subject := plain(t, s, raw)
	name := strings.ReplaceAll(subject, ".", "_")
	if err := nc.Publish(subject, []byte("a\x00\xff")); err != nil {
		t.Fatal(err)
	}
	l := receive(t, q)
	if string(drivertest.Body(t, l)) != "a\x00\xff" || l.ID() != name+"-1" || l.Attempt() != 1 || time.Since(l.Enqueued()) > time.Minute {
		t.Errorf("%q, message %s of %s, attempt %d", drivertest.Body(t, l), l.ID(), l.Enqueued(), l.Attempt())
	}
	if err := l.Ack(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A client that knows nothing of us reads what we sent, and what was acknowledged is gone.
func TestStored(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, nil)
	raw := queueURL(s)
	q := mustOpen(t, raw)
	_, js, subject := plain(t, s, raw)
	for i, m := range []queue.Message{{Body: []byte("first")}, {ID: "i", Correlation: "r", Body: []byte("\x00\xff")}} {
		if err := q.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if err := receive(t, q).Ack(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	stream, err := js.Stream(t.Context(), strings.ReplaceAll(subject, ".", "_"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context())
	if err != nil || info.State.Msgs != 1 {
		t.Fatalf("%+v, %v: what was acknowledged must be gone", info, err)
	}
	m, err := stream.GetLastMsgForSubject(t.Context(), subject)
	if err != nil {
		t.Fatal(err)
	}
	if string(m.Data) != "\x00\xff" || m.Header.Get("Nats-Msg-Id") != "i" || m.Header.Get("Correlation-Id") != "r" || len(m.Header) != 2 {
		t.Errorf("%q with %v", m.Data, m.Header)
	}
}

// What cannot go well is told at once, and without the password.
func TestRefused(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, &natstest.Options{Username: "u", Password: "right"})
	without := natstest.Start(t, &natstest.Options{NoJetStream: true})
	const secret = "s3cr3t"
	for name, test := range map[string]struct {
		url  string
		want error
	}{
		"nobody there":       {"nats://127.0.0.1:1/q", navvy.ErrUnavailable},
		"no such host":       {"nats://nowhere.invalid/q", navvy.ErrUnavailable},
		"no password":        {"nats://" + s.Addr + "/q", navvy.ErrDenied},
		"the wrong password": {"nats://u:" + secret + "@" + s.Addr + "/q", navvy.ErrDenied},
		"the wrong token":    {"nats://" + secret + "@" + s.Addr + "/q", navvy.ErrDenied},
		"no TLS":             {"tls://u:right@" + s.Addr + "/q", navvy.ErrInvalid},
		"no JetStream":       {"nats://" + without.Addr + "/q", navvy.ErrUnavailable},
		"a wildcard":         {"nats://" + s.Addr + "/q.*", navvy.ErrInvalid},
		"all":                {"nats://" + s.Addr + "/q.%3E", navvy.ErrInvalid},
		"a blank":            {"nats://" + s.Addr + "/a%20b", navvy.ErrInvalid},
		"two dots":           {"nats://" + s.Addr + "/a..b", navvy.ErrInvalid},
		"a slash":            {"nats://" + s.Addr + "/a/b", navvy.ErrInvalid},
		"the server's own":   {"nats://" + s.Addr + "/$SYS", navvy.ErrInvalid},
		"no queue":           {"nats://" + s.Addr, navvy.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begun := time.Now()
			_, err := open(t, test.url)
			if !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
			if err != nil && name != "the wrong token" && strings.Contains(err.Error(), secret) {
				t.Errorf("the password is told: %v", err)
			}
			if took := time.Since(begun); took > 20*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// A stream of the user's that has the subject is used as it is.
func TestOwnStream(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, nil)
	raw := queueURL(s)
	_, js, subject := plain(t, s, raw)
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "mine", Subjects: []string{"q.>"}, Storage: jetstream.MemoryStorage})
	if err != nil {
		t.Fatal(err)
	}
	q := mustOpen(t, raw)
	if err := q.Send(t.Context(), queue.Message{Body: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	l := receive(t, q)
	if err := l.DeadLetter(t.Context(), "two\nlines"); err != nil {
		t.Fatal(err)
	}
	dead := receive(t, mustOpen(t, raw+natsqueue.DeadSuffix))
	if dead.Reason() != "two lines" || dead.ID() != l.ID() || !dead.Enqueued().Equal(l.Enqueued()) {
		t.Errorf("reason %q, message %s of %s", dead.Reason(), dead.ID(), dead.Enqueued())
	}
	if err := dead.Ack(t.Context()); err != nil {
		t.Fatal(err)
	}
	if name, err := js.StreamNameBySubject(t.Context(), subject); name != "mine" || err != nil {
		t.Errorf("the stream is %s, %v", name, err)
	}
}

// A queue that was found, and whose dead letters have no place, says so.
func TestNoDeadLetters(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, nil)
	raw := queueURL(s)
	q := mustOpen(t, raw)
	_, js, subject := plain(t, s, raw)
	if err := js.DeleteStream(t.Context(), strings.ReplaceAll(subject, ".", "_")+"_dead"); err != nil {
		t.Fatal(err)
	}
	if err := q.Send(t.Context(), queue.Message{Body: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, q).DeadLetter(t.Context(), "why"); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("%v, want %v", err, navvy.ErrNotFound)
	}
}

// What is there, and made for something else, is left alone.
func TestConflicts(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, nil)
	_, js, _ := plain(t, s, "nats://x/q")
	for _, cfg := range []jetstream.StreamConfig{
		{Name: "a_b", Subjects: []string{"elsewhere"}},
		{Name: "c", Subjects: []string{"c", "c.dead"}, Retention: jetstream.WorkQueuePolicy},
		{Name: "d", Subjects: []string{"d"}},
	} {
		if _, err := js.CreateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := js.CreateConsumer(t.Context(), "c", jetstream.ConsumerConfig{Durable: "other"}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateConsumer(t.Context(), "d", jetstream.ConsumerConfig{Durable: "navvy_d", MaxDeliver: 3}); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, "nats://"+s.Addr+"/a.b"); !errors.Is(err, navvy.ErrConflict) || !strings.Contains(err.Error(), "a_b") {
		t.Errorf("a stream with another subject: %v", err)
	}
	for name, want := range map[string]string{"c": "another consumer", "d": "3 deliveries"} {
		_, err := mustOpen(t, "nats://"+s.Addr+"/"+name).Receive(t.Context(), 1)
		if !errors.Is(err, navvy.ErrConflict) || !strings.Contains(err.Error(), want) {
			t.Errorf("queue %s: %v, want a conflict that says %q", name, err, want)
		}
	}
}

// The server forgets a second message of an id.
func TestTwice(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, nil)
	q := mustOpen(t, queueURL(s))
	for _, id := range []string{"a", "a", "b"} {
		if err := q.Send(t.Context(), queue.Message{ID: id, Body: []byte(id)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"a", "b"} {
		l := receive(t, q)
		if l.ID() != want {
			t.Errorf("message %s, want %s", l.ID(), want)
		}
		if err := l.Ack(t.Context()); err != nil {
			t.Error(err)
		}
	}
	bad := queue.Message{ID: "two\r\nlines", Body: []byte("x")}
	if err := q.Send(t.Context(), bad); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("an id of two lines: %v", err)
	}
}

// Why Capabilities.Detects is false: the server takes an acknowledgement, and a renewal, of
// whoever once had the message. If this fails it has learnt to tell, and so can we.
func TestLateAck(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, nil)
	raw := queueURL(s)
	first, second := direct(t, raw, time.Second), direct(t, raw, time.Second)
	if errs := first.Send(t.Context(), []*driver.Message{{ID: "a", Body: []byte("x")}}); errs != nil {
		t.Fatal(errs)
	}
	ds, err := first.Receive(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	again, err := second.Receive(t.Context(), 1)
	if err != nil || len(again) != 1 || again[0].Attempt != 2 {
		t.Fatalf("%d deliveries, %v", len(again), err)
	}
	if errs := first.Renew(t.Context(), ds); errs != nil {
		t.Errorf("renew: %v", errs)
	}
	if errs := first.Ack(t.Context(), ds); errs != nil {
		t.Errorf("acknowledge: %v", errs)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if gone, err := second.Receive(ctx, 1); len(gone) > 0 || err != nil {
		t.Errorf("%d deliveries, %v: it was acknowledged", len(gone), err)
	}
}

// Leases do not get shorter by who asks for shorter ones: they are one consumer's.
func TestLeasesDiffer(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, nil)
	raw := queueURL(s)
	long, short := direct(t, raw, time.Minute), direct(t, raw, time.Second)
	for _, c := range []driver.Queue{long, short} {
		if errs := c.Send(t.Context(), []*driver.Message{{ID: "of " + time.Now().String(), Body: []byte("x")}}); errs != nil {
			t.Fatal(errs)
		}
		ds, err := c.Receive(t.Context(), 1)
		if err != nil || len(ds) != 1 {
			t.Fatalf("%d deliveries, %v", len(ds), err)
		}
		if left := time.Until(ds[0].Until); left < 30*time.Second || left > time.Minute {
			t.Errorf("a lease of %s, want a minute", left)
		}
	}
}
