package team

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	domain "github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/pause"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/ask"
	"github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/redisqueue"
	"github.com/navvy-run/navvy/queue/redisqueue/redistest"
	"github.com/navvy-run/navvy/test/lifetest"
)

// TestBroker lets the broker, the server and workers die at random while requests of a
// broker are answered by a server's queue: each is answered, under its own correlation id.
// A failure prints its seed, see TestPromises.
func TestBroker(t *testing.T) {
	t.Parallel()
	lifetest.Run(t, 5*time.Second, func(t *testing.T, seed uint64) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			redis := redistest.Start(t)
			m := newTeam(t, options{server: []string{"--dispatch", []string{"pull", "push", "round-robin"}[rng.IntN(3)]}})
			for _, name := range []string{"w0", "w1"} {
				m.hire(name, m.addr, 2+rng.IntN(3))
			}
			attached := domain.Broker{Requests: "redis://" + redis.Addr + "/in", Responses: "redis://" + redis.Addr + "/out", Lease: 3 * time.Second}
			work := domain.Spec{Service: &domain.Service{Form: `cgi-raw:/bin/sh -c 'sleep 0.0$(($$%10)); cat'`}}
			_, err := m.admin.SetQueue(t.Context(), "scores", client.QueueChange{Create: true, Work: &work, Broker: &attached})
			m.must(err)
			m.askWhile(&attached, func(ctx context.Context) { m.killBeside(ctx, redis, rng) })
			m.end()
		})
	})
}

// askWhile sends requests to a broker and collects their answers, while something happens.
func (m *team) askWhile(b *domain.Broker, happens func(context.Context)) {
	const requests = 300
	ctx, cancel := context.WithTimeout(m.Context(), 2*patience)
	defer cancel()
	var ends []*queue.Queue
	for _, u := range []string{b.Requests, b.Responses} {
		q, err := queue.Open(ctx, u, map[string]driver.Driver{"redis": redisqueue.Driver}, &queue.Options{Outstanding: 1000, Lease: 10 * time.Second})
		m.must(err)
		ends = append(ends, q)
	}
	asker, err := ask.New(ends[0], ends[1], nil)
	m.must(err)
	happening, stop := context.WithCancel(ctx)
	over := make(chan struct{})
	go func() {
		defer close(over)
		happens(happening)
	}()
	inputs := func(yield func([]byte, error) bool) {
		for i := range requests {
			if i%20 == 19 {
				_ = pause.For(happening, 100*time.Millisecond)
			}
			if !yield(fmt.Append(nil, "request ", i), nil) {
				return
			}
		}
	}
	answers := 0
	err = asker.Run(ctx, inputs, func(index int64, body []byte) error {
		answers++
		if want := fmt.Sprint("request ", index); string(body) != want {
			return fmt.Errorf("answer %d is %q", index, body)
		}
		return nil
	})
	stop()
	<-over
	if err != nil || answers != requests {
		sent, answered, _ := asker.Progress()
		m.Errorf("%d answers given, %d of %d: %v", answers, answered, sent, err)
	}
	for _, q := range ends {
		err = errors.Join(err, q.Close(ctx))
	}
	m.must(err)
}

// killBeside kills the server, workers and the broker, some at a time, and brings them
// back. No task can lose three workers.
func (m *team) killBeside(ctx context.Context, redis *redistest.Server, rng *rand.Rand) {
	workers, brokers := 0, 0
	for range 4 + rng.IntN(4) {
		if pause.For(ctx, time.Duration(rng.IntN(700))*time.Millisecond) != nil {
			break
		}
		switch n := rng.IntN(10); {
		case n < 4 && workers < 2:
			workers++
			c := m.crews[fmt.Sprint("w", rng.IntN(2))]
			c.kill()
			m.work(c)
		case n < 6 && brokers < 2:
			brokers++
			redis.Kill(m)
			_ = pause.For(ctx, time.Duration(rng.IntN(500))*time.Millisecond)
			redis.Restart(m)
		default:
			m.server.kill()
			m.begin()
		}
	}
	for _, c := range m.crews {
		if c.ended() {
			m.work(c)
		}
	}
}
