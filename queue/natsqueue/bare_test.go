package natsqueue_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/navvy-run/navvy/queue/natsqueue/natstest"
)

// bare is the benchmark with the client library: a hundred senders who publish without
// waiting for each other, and one receiver who fetches batches and has each of them
// acknowledged, with confirmation, without waiting for the one before.
func bare(b *testing.B, s *natstest.Server, bodies [][]byte) {
	b.Helper()
	ctx := context.Background()
	out, in := connect(b, s), connect(b, s)
	defer out.Close()
	defer in.Close()
	jsOut, err := jetstream.New(out)
	if err != nil {
		b.Fatal(err)
	}
	jsIn, err := jetstream.New(in)
	if err != nil {
		b.Fatal(err)
	}
	name := fmt.Sprintf("bare%d", serial.Add(1))
	stream, err := jsOut.CreateStream(ctx, jetstream.StreamConfig{Name: name, Subjects: []string{name}, Retention: jetstream.WorkQueuePolicy})
	if err != nil {
		b.Fatal(err)
	}
	_, err = stream.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: "c", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Minute, MaxAckPending: -1})
	if err != nil {
		b.Fatal(err)
	}
	consumer, err := jsIn.Consumer(ctx, name, "c")
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	var all sync.WaitGroup
	const senders = 100
	for s := range senders {
		all.Go(func() {
			for i := s; i < len(bodies); i += senders {
				future, err := jsOut.PublishAsync(name, bodies[i])
				if err != nil {
					b.Error(err)
					return
				}
				select {
				case <-future.Ok():
				case err := <-future.Err():
					b.Error(err)
				}
			}
		})
	}
	slots := make(chan bool, 1000)
	for n := 0; n < len(bodies); {
		n += fetch(ctx, b, consumer, func(m jetstream.Msg) {
			slots <- true
			all.Go(func() {
				if err := m.DoubleAck(ctx); err != nil {
					b.Error(err)
				}
				<-slots
			})
		})
	}
	all.Wait()
}

// fetch waits for one message, and then takes what there is.
func fetch(ctx context.Context, b *testing.B, consumer jetstream.Consumer, take func(jetstream.Msg)) (n int) {
	b.Helper()
	for _, get := range []func() (jetstream.MessageBatch, error){
		func() (jetstream.MessageBatch, error) { return consumer.FetchNoWait(1000) },
		func() (jetstream.MessageBatch, error) { return consumer.Fetch(1, jetstream.FetchContext(ctx)) },
	} {
		batch, err := get()
		if err != nil {
			b.Fatal(err)
		}
		for m := range batch.Messages() {
			n++
			take(m)
		}
		if n > 0 {
			return n
		}
	}
	return n
}

func connect(tb testing.TB, s *natstest.Server) *nats.Conn {
	tb.Helper()
	nc, err := nats.Connect("nats://" + s.Addr)
	if err != nil {
		tb.Fatal(err)
	}
	return nc
}
