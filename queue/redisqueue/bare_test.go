package redisqueue_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/navvy-run/navvy/queue/redisqueue/redistest"
)

const batch = 1000

// bare is the benchmark with the client library: a hundred senders whose entries go
// together in pipelines, and one receiver who reads, acknowledges and deletes in batches.
func bare(b *testing.B, s *redistest.Server, bodies [][]byte) {
	b.Helper()
	ctx := context.Background()
	client := redis.NewClient(&redis.Options{Addr: s.Addr, DisableIdentity: true})
	defer client.Close()
	stream := fmt.Sprintf("bare%d", serial.Add(1))
	if err := client.XGroupCreateMkStream(ctx, stream, "g", "0").Err(); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	type request struct {
		body []byte
		done chan error
	}
	const senders = 100
	requests := make(chan request, senders)
	var all, piping sync.WaitGroup
	piping.Go(func() {
		for r := range requests {
			pipe := client.Pipeline()
			list := []request{r}
			pipe.XAdd(ctx, &redis.XAddArgs{Stream: stream, Values: []any{"body", r.body}})
			for len(requests) > 0 && len(list) < batch {
				r := <-requests
				list = append(list, r)
				pipe.XAdd(ctx, &redis.XAddArgs{Stream: stream, Values: []any{"body", r.body}})
			}
			_, err := pipe.Exec(ctx)
			for _, r := range list {
				r.done <- err
			}
		}
	})
	for s := range senders {
		all.Go(func() {
			done := make(chan error, 1)
			for i := s; i < len(bodies); i += senders {
				requests <- request{bodies[i], done}
				if err := <-done; err != nil {
					b.Error(err)
				}
			}
		})
	}
	for n := 0; n < len(bodies); {
		streams, err := client.XReadGroup(ctx, &redis.XReadGroupArgs{
			Group: "g", Consumer: "c", Streams: []string{stream, ">"}, Count: batch, Block: time.Second,
		}).Result()
		if err != nil {
			b.Fatal(err)
		}
		ids := make([]string, len(streams[0].Messages))
		for i, m := range streams[0].Messages {
			ids[i] = m.ID
		}
		n += len(ids)
		all.Go(func() {
			_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
				p.XAck(ctx, stream, "g", ids...)
				p.XDel(ctx, stream, ids...)
				return nil
			})
			if err != nil {
				b.Error(err)
			}
		})
	}
	all.Wait()
	close(requests)
	piping.Wait()
}
