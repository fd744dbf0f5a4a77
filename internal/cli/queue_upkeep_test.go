package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/memqueue"
)

// uncounted is a queue whose credentials may not count.
type uncounted struct{ driver.Queue }

func (uncounted) Count(context.Context) (driver.Count, error) {
	return driver.Count{}, fmt.Errorf("count: %w", navvy.ErrDenied)
}

// makeDead makes dead letters with these ids, and gives them and the queue that they are of.
func makeDead(t *testing.T, denied bool, ids []string) (dead, home *queue.Queue) {
	t.Helper()
	b := &memqueue.Broker{}
	drivers := map[string]driver.Driver{"mem": func(u *url.URL, o *driver.Options) (driver.Dial, error) {
		dial, err := b.Driver(u, o)
		if err != nil || !denied {
			return dial, err
		}
		return func(ctx context.Context) (driver.Queue, error) {
			q, err := dial(ctx)
			return uncounted{q}, err
		}, nil
	}}
	open := func(url string, o *queue.Options) *queue.Queue {
		q, err := queue.Open(t.Context(), url, drivers, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = q.Close(context.WithoutCancel(t.Context())) })
		return q
	}
	home = open("mem://q", nil)
	for _, id := range ids {
		if err := home.Send(t.Context(), queue.Message{ID: id, Body: []byte("tick")}); err != nil {
			t.Fatal(err)
		}
		leases, err := home.Receive(t.Context(), 1)
		if err == nil {
			err = leases[0].DeadLetter(t.Context(), "x")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return open("mem://q.dead", &queue.Options{MustExist: true, Outstanding: redriveHeld}), home
}

// Ids are not unique: messages of RabbitMQ without one have that of their content.
func TestRedriveAlike(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		dead, ids, want []string
		denied, stopped bool
	}{
		"all":                {dead: []string{"a", "a", "b", "a", "b"}, want: []string{"a", "a", "b", "a", "b"}},
		"named":              {dead: []string{"a", "a", "b", "a", "c"}, ids: []string{"a", "b"}, want: []string{"a", "b"}},
		"uncounted":          {dead: []string{"a", "b", "c"}, denied: true, want: []string{"a", "b", "c"}},
		"uncounted, alike":   {dead: []string{"a", "b", "a", "c"}, denied: true, stopped: true, want: []string{"a", "b"}},
		"uncounted, named":   {dead: []string{"a", "a", "c", "b"}, ids: []string{"a", "b"}, denied: true, want: []string{"a", "b"}},
		"all, one of a kind": {dead: []string{"a", "b"}, want: []string{"a", "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dead, home := makeDead(t, c.denied, c.dead)
			r := &redriving{q: dead, ids: c.ids, done: map[string]bool{}}
			if err := r.run(t.Context()); err != nil || r.stopped != c.stopped || r.n != len(c.want) {
				t.Errorf("%d are sent, stopped %t, %v; want %d", r.n, r.stopped, err, len(c.want))
			}
			list, err := home.Peek(t.Context(), 100)
			var got []string
			for i := range list {
				got = append(got, list[i].ID)
			}
			left, err2 := dead.Peek(t.Context(), 100)
			if err := errors.Join(err, err2); err != nil || !slices.Equal(got, c.want) || len(left) != len(c.dead)-len(c.want) {
				t.Errorf("%v are home and %d left, %v; want %v", got, len(left), err, c.want)
			}
		})
	}
}

// All that there were are sent, and those that fail again meanwhile only as often as others
// were there: it ends.
func TestRedriveFailingAgain(t *testing.T) {
	t.Parallel()
	dead, home := makeDead(t, false, []string{"a", "b", "c"})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			leases, err := home.Receive(ctx, 1)
			if err != nil {
				return
			}
			_ = leases[0].DeadLetter(ctx, "again")
		}
	}()
	r := &redriving{q: dead, done: map[string]bool{}}
	err := r.run(t.Context())
	cancel()
	<-ended
	if err != nil || r.n != 3 || len(r.done) != 3 {
		t.Errorf("%d are sent, %v, %v; want 3 and each", r.n, r.done, err)
	}
}

// What somebody has does not come, and is told; what is gone by the end is not.
func TestRedriveLeft(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		settle bool
		want   int64
	}{"held": {want: 1}, "acknowledged": {settle: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dead, _ := makeDead(t, false, []string{"a", "b", "c"})
			leases, err := dead.Receive(t.Context(), 1)
			if err != nil {
				t.Fatal(err)
			}
			if c.settle { // once the others are sent
				defer time.AfterFunc(brokerWait/2, func() { _ = leases[0].Ack(context.WithoutCancel(t.Context())) }).Stop()
			}
			r := &redriving{q: dead, done: map[string]bool{}}
			if err := r.run(t.Context()); err != nil || r.n != 2 || r.left != c.want {
				t.Errorf("%d are sent and %d left, %v; want 2 and %d", r.n, r.left, err, c.want)
			}
		})
	}
}
