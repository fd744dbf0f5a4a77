package redisqueue_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/redisqueue/redistest"
)

// Who waits is woken when a message is given back, at once or for soon: he does not wait
// until he would have looked anyway.
func TestWoken(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	raw := queueURL(s)
	q, other := mustOpen(t, raw, nil), mustOpen(t, raw, nil)
	for _, delay := range []time.Duration{0, time.Second} {
		if err := q.Send(t.Context(), queue.Message{Body: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		l := receive(t, q)
		got := make(chan *queue.Lease, 1)
		go func() {
			leases, err := other.Receive(t.Context(), 1)
			if err != nil {
				t.Error(err)
				leases = []*queue.Lease{nil}
			}
			got <- leases[0]
		}()
		blocked(t, s)
		begun := time.Now()
		if err := l.Nack(t.Context(), delay); err != nil {
			t.Fatal(err)
		}
		again := <-got
		if again == nil {
			t.FailNow()
		}
		if took := time.Since(begun); took < delay || took > delay+3*time.Second || again.Attempt() != 2 {
			t.Errorf("attempt %d came %s after it was given back for %s", again.Attempt(), took, delay)
		}
		if err := again.Ack(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// blocked waits until somebody is blocked in the broker.
func blocked(t *testing.T, s *redistest.Server) {
	t.Helper()
	c := plain(t, s)
	for {
		info, err := c.InfoMap(t.Context(), "clients").Result()
		if err != nil {
			t.Fatal(err)
		}
		if info["Clients"]["blocked_clients"] != "0" {
			return
		}
	}
}

// A receiver whose leases are short does not rob one whose leases are long.
func TestLeasesDiffer(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	raw := queueURL(s)
	long := direct(t, raw) // a minute, and nobody renews it
	short := mustOpen(t, raw, &queue.Options{Lease: time.Second})
	if err := short.Send(t.Context(), queue.Message{Body: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	ds, err := long.Receive(t.Context(), 1)
	if err != nil || len(ds) != 1 {
		t.Fatalf("%d deliveries, %v", len(ds), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if leases, err := short.Receive(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%d leases, %v", len(leases), err)
	}
	if errs := long.Ack(t.Context(), ds); errs != nil {
		t.Error(errs)
	}
}

// A consumer that died after the broker gave it a message, and before it wrote down its
// lease, does not keep it, and is removed.
func TestDeadConsumer(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	raw := queueURL(s)
	q, c, stream := mustOpen(t, raw, nil), plain(t, s), streamOf(t, raw)
	if err := q.Send(t.Context(), queue.Message{Body: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	seen := "{" + stream + "}:seen"
	if err := c.ZAdd(t.Context(), seen, redis.Z{Score: 1, Member: "ghost"}).Err(); err != nil {
		t.Fatal(err)
	}
	err := c.XReadGroup(t.Context(), &redis.XReadGroupArgs{Group: "navvy", Consumer: "ghost", Streams: []string{stream, ">"}}).Err()
	if err != nil {
		t.Fatal(err)
	}
	l := receive(t, q)
	if string(l.Body()) != "x" || l.Attempt() != 2 {
		t.Errorf("attempt %d: %q", l.Attempt(), l.Body())
	}
	if err := c.ZAdd(t.Context(), seen, redis.Z{Score: 1, Member: "ghost"}).Err(); err != nil {
		t.Fatal(err)
	}
	if err := l.Nack(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, q).Ack(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, consumer := range consumers(t, c, stream) {
		if consumer == "ghost" {
			t.Error("the consumer is still there")
		}
	}
}

func consumers(t *testing.T, c *redis.Client, stream string) (names []string) {
	t.Helper()
	list, err := c.XInfoConsumers(t.Context(), stream, "navvy").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range list {
		names = append(names, l.Name)
	}
	return names
}

// A connection that is closed leaves nothing behind.
func TestNothingLeft(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	raw := queueURL(s)
	c, stream := plain(t, s), streamOf(t, raw)
	q, err := openWith(t, raw, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Send(t.Context(), queue.Message{Body: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, q).Ack(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := consumers(t, c, stream); len(got) != 1 {
		t.Errorf("consumers %v, want one", got)
	}
	if err := q.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := consumers(t, c, stream); len(got) != 0 {
		t.Errorf("consumers %v are left", got)
	}
	for _, key := range []string{"held", "seen"} {
		if n, err := c.Exists(t.Context(), "{"+stream+"}:"+key).Result(); n != 0 || err != nil {
			t.Errorf("%s is left: %d, %v", key, n, err)
		}
	}
}

// A queue that is removed ends the wait.
func TestRemoved(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	raw := queueURL(s)
	q := mustOpen(t, raw, nil)
	got := make(chan error, 1)
	go func() {
		_, err := q.Receive(t.Context(), 1)
		got <- err
	}()
	blocked(t, s)
	if err := plain(t, s).Del(t.Context(), streamOf(t, raw)).Err(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("%v, want %v", err, navvy.ErrNotFound)
	}
}
