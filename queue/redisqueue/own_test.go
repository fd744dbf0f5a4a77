package redisqueue_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/drivertest"
	"github.com/navvy-run/navvy/queue/redisqueue"
	"github.com/navvy-run/navvy/queue/redisqueue/redistest"
)

func openWith(t *testing.T, rawURL string, o *queue.Options) (*queue.Queue, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), drivertest.Patience)
	defer cancel()
	drivers := map[string]driver.Driver{"redis": redisqueue.Driver, "rediss": redisqueue.Driver}
	return queue.Open(ctx, rawURL, drivers, o)
}

// open opens a queue, which is closed with the test.
func open(t *testing.T, rawURL string, o *queue.Options) (*queue.Queue, error) {
	t.Helper()
	q, err := openWith(t, rawURL, o)
	if err == nil {
		t.Cleanup(func() {
			if err := q.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	return q, err
}

func mustOpen(t *testing.T, rawURL string, o *queue.Options) *queue.Queue {
	t.Helper()
	q, err := open(t, rawURL, o)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// plain is a client that knows nothing of navvy.
func plain(t *testing.T, s *redistest.Server) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: s.Addr, DB: 3, DisableIdentity: true, Protocol: 2})
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func streamOf(t *testing.T, rawURL string) string {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(u.Path, "/")
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

// A client that knows nothing of us sends and reads bytes as they are.
func TestForeign(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	raw := queueURL(s)
	q, c, stream := mustOpen(t, raw, nil), plain(t, s), streamOf(t, raw)
	for _, test := range []struct {
		values []any
		want   string
	}{
		{[]any{"body", "a\x00\xff"}, "a\x00\xff"},
		{[]any{"body", "b", "other", "x"}, "b"},
		{[]any{"text", "c\xff"}, "c\xff"},
		{[]any{"text", "d", "correlation", "r"}, "d"},
		{[]any{"z", "1", "a", "2"}, `{"a":"2","z":"1"}`},
	} {
		id, err := c.XAdd(t.Context(), &redis.XAddArgs{Stream: stream, Values: test.values}).Result()
		if err != nil {
			t.Fatal(err)
		}
		l := receive(t, q)
		if string(drivertest.Body(t, l)) != test.want || l.ID() != id || l.Attempt() != 1 || time.Since(l.Enqueued()) > time.Minute {
			t.Errorf("%v came as %q, message %s of %s, attempt %d", test.values, drivertest.Body(t, l), l.ID(), l.Enqueued(), l.Attempt())
		}
		if err := l.Ack(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Send(t.Context(), queue.Message{ID: "i", Correlation: "r", Body: []byte("\x00\xff")}); err != nil {
		t.Fatal(err)
	}
	entries, err := c.XRange(t.Context(), stream, "-", "+").Result()
	if err != nil || len(entries) != 1 {
		t.Fatalf("%d entries, %v: those that were acknowledged must be gone", len(entries), err)
	}
	v := entries[0].Values
	if len(v) != 3 || v["id"] != "i" || v["correlation"] != "r" || v["body"] != "\x00\xff" {
		t.Errorf("the entry is %q", v)
	}
}

// What cannot go well is told at once, and without the password.
func TestRefused(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--requirepass", "right")
	free := redistest.Start(t)
	const secret = "s3cr3t"
	for name, test := range map[string]struct {
		url  string
		want error
	}{
		"nobody there":         {"redis://127.0.0.1:1/q", navvy.ErrUnavailable},
		"no such host":         {"redis://nowhere.invalid/q", navvy.ErrUnavailable},
		"no password":          {"redis://" + s.Addr + "/q", navvy.ErrDenied},
		"the wrong password":   {"redis://:" + secret + "@" + s.Addr + "/q", navvy.ErrDenied},
		"the wrong user":       {"redis://who:" + secret + "@" + s.Addr + "/q", navvy.ErrDenied},
		"no such database":     {"redis://" + free.Addr + "/q?db=99", navvy.ErrInvalid},
		"a database of a name": {"redis://" + free.Addr + "/q?db=x", navvy.ErrInvalid},
		"no queue":             {"redis://" + free.Addr + "/", navvy.ErrInvalid},
		"half a hash tag":      {"redis://" + free.Addr + "/q%7B", navvy.ErrInvalid},
		"dead of nothing":      {"redis://" + free.Addr + "/.dead", navvy.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begun := time.Now()
			_, err := open(t, test.url, nil)
			if !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("the password is told: %v", err)
			}
			if took := time.Since(begun); took > 20*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// A key that is something else is left alone.
func TestOtherKey(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	raw := queueURL(s)
	if err := plain(t, s).Set(t.Context(), streamOf(t, raw), "mine", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, raw, nil); !errors.Is(err, navvy.ErrConflict) || !strings.Contains(err.Error(), "is a string") {
		t.Errorf("%v, want a conflict that names what is there", err)
	}
}

// Where memory is full nothing can be sent, and all else can be done, so that there is room again.
func TestFull(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	raw := queueURL(s)
	q, c := mustOpen(t, raw, nil), plain(t, s)
	if err := q.Send(t.Context(), queue.Message{Body: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if err := c.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	send := direct(t, raw)
	errs := send.Send(t.Context(), []*driver.Message{{ID: "y", Body: []byte("y")}})
	if len(errs) != 1 || !errors.Is(errs[0], navvy.ErrExhausted) {
		t.Errorf("send: %v", errs)
	}
	if err := receive(t, q).Nack(t.Context(), 0); err != nil {
		t.Error(err)
	}
	if err := receive(t, q).Ack(t.Context()); err != nil {
		t.Error(err)
	}
}

func direct(t *testing.T, raw string) driver.Queue {
	t.Helper()
	return directFor(t, raw, time.Minute)
}

// directFor is a connection without package queue, which would renew what it has.
func directFor(t *testing.T, raw string, lease time.Duration) driver.Queue {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	dial, err := redisqueue.Driver(u, &driver.Options{Lease: lease, Outstanding: 1, Create: true})
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
