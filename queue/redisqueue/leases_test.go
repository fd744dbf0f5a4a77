package redisqueue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/drivertest"
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

// A consumer that died as soon as the broker had given it a message does not keep it, and is
// removed: both if it is known, and if it was forgotten while its question was on its way.
func TestDeadConsumer(t *testing.T) {
	t.Parallel()
	for name, known := range map[string]string{"known": "ghost-1000", "forgotten": "*"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t)
			raw := queueURL(s)
			q, c, stream := mustOpen(t, raw, nil), plain(t, s), streamOf(t, raw)
			if err := q.Send(t.Context(), queue.Message{Body: []byte("x")}); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			err := c.XReadGroup(t.Context(), &redis.XReadGroupArgs{Group: "navvy", Consumer: "ghost-1000", Streams: []string{stream, ">"}}).Err()
			if err != nil {
				t.Fatal(err)
			}
			due(t, c, stream, known)
			l := receive(t, q)
			if took := time.Since(begun); string(drivertest.Body(t, l)) != "x" || l.Attempt() != 2 || took < time.Second {
				t.Errorf("attempt %d after %s: %q", l.Attempt(), took, drivertest.Body(t, l))
			}
			if err := l.Ack(t.Context()); err != nil {
				t.Fatal(err)
			}
			// It has said nothing for a minute, and sixty times somebody looked.
			if err := c.ZAdd(t.Context(), "{"+stream+"}:seen", redis.Z{Score: 63, Member: "ghost-1000"}).Err(); err != nil {
				t.Fatal(err)
			}
			if err := q.Send(t.Context(), queue.Message{Body: []byte("y")}); err != nil {
				t.Fatal(err)
			}
			l = receive(t, q)
			if err := l.Nack(t.Context(), 0); err != nil { // which has somebody look
				t.Fatal(err)
			}
			if err := receive(t, q).Ack(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := consumers(t, c, stream); slices.Contains(got, "ghost-1000") {
				t.Errorf("the consumer is still there: %v", got)
			}
		})
	}
}

// due has somebody look at a consumer now; * is the look for forgotten ones.
func due(t *testing.T, c *redis.Client, stream, consumer string) {
	t.Helper()
	if err := c.ZAdd(t.Context(), "{"+stream+"}:seen", redis.Z{Score: 1, Member: consumer}).Err(); err != nil {
		t.Fatal(err)
	}
}

// What comes to one who waits is leased by that: nobody renews it, and somebody else gets it
// when the lease is over, though its first receiver is alive and goes on to ask.
func TestWaitersLease(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	raw := queueURL(s)
	o := &queue.Options{Lease: time.Second}
	q, c := mustOpen(t, raw, o), plain(t, s)
	first := directFor(t, raw, time.Second)
	got := make(chan []*driver.Delivery, 1)
	go func() {
		ds, err := first.Receive(t.Context(), 2)
		if err != nil {
			t.Error(err)
		}
		got <- ds
	}()
	blocked(t, s)
	begun := time.Now()
	if err := q.Send(t.Context(), queue.Message{Body: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	ds := <-got
	if len(ds) != 1 || ds[0].Attempt != 1 || ds[0].Until.After(time.Now().Add(time.Second)) {
		t.Fatalf("%d deliveries: %+v", len(ds), ds)
	}
	if n, err := c.Exists(t.Context(), "{"+streamOf(t, raw)+"}:held").Result(); n != 0 || err != nil {
		t.Errorf("the lease of what was just delivered is written down: %d, %v", n, err)
	}
	asking, end := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer end()
	if more, err := first.Receive(asking, 2); len(more) > 0 {
		t.Errorf("%d more, %v", len(more), err)
	}
	again := receive(t, q)
	if took := time.Since(begun); again.Attempt() != 2 || took < time.Second {
		t.Errorf("attempt %d came after %s", again.Attempt(), took)
	}
	for what, errs := range map[string][]error{
		"ack": first.Ack(t.Context(), ds), "renew": first.Renew(t.Context(), ds),
		"nack":        {first.Nack(t.Context(), ds[0], 0)},
		"dead letter": {first.DeadLetter(t.Context(), ds[0], "no")},
	} {
		if len(errs) != 1 || !errors.Is(errs[0], navvy.ErrLeaseLost) {
			t.Errorf("%s: %v, want %v", what, errs, navvy.ErrLeaseLost)
		}
	}
	if err := again.Ack(t.Context()); err != nil {
		t.Error(err)
	}
}

// Of several that are acknowledged together only that one is lost which somebody else had.
func TestOneIsLost(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	raw := queueURL(s)
	one := direct(t, raw)
	ds := three(t, one)
	if errs := one.Renew(t.Context(), ds[2:]); errs != nil {
		t.Fatal(errs)
	}
	if errs := one.Ack(t.Context(), ds[1:2]); errs != nil {
		t.Fatal(errs)
	}
	errs := one.Ack(t.Context(), ds)
	if len(errs) != 3 || errs[0] != nil || !errors.Is(errs[1], navvy.ErrLeaseLost) || errs[2] != nil {
		t.Errorf("%v, want the second to be lost", errs)
	}
	c, stream := plain(t, s), streamOf(t, raw)
	pending, err := c.XPending(t.Context(), stream, "navvy").Result()
	if err != nil || pending.Count != 0 {
		t.Errorf("%+v pending, %v", pending, err)
	}
	if n, err := c.Exists(t.Context(), "{"+stream+"}:held").Result(); n != 0 || err != nil {
		t.Errorf("leases are left: %d, %v", n, err)
	}
	if n, err := c.XLen(t.Context(), stream).Result(); n != 0 || err != nil {
		t.Errorf("%d entries are left, %v", n, err)
	}
}

// three are deliveries, each the first of its message.
func three(t *testing.T, c driver.Queue) []*driver.Delivery {
	t.Helper()
	var ms []*driver.Message
	for i := range 3 {
		ms = append(ms, &driver.Message{ID: fmt.Sprint(i), Body: []byte("x")})
	}
	if errs := c.Send(t.Context(), ms); errs != nil {
		t.Fatal(errs)
	}
	ds, err := c.Receive(t.Context(), 3)
	if err != nil || len(ds) != 3 {
		t.Fatalf("%d deliveries, %v", len(ds), err)
	}
	return ds
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
