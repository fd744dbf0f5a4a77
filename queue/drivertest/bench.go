package drivertest

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/navvy-run/navvy/queue"
)

// Bench measures send, receive and acknowledge through package queue, beside the same with
// the broker's client library.
func Bench(b *testing.B, h *Harness) {
	b.Helper()
	for _, size := range []int{100, 10_000} {
		bodies := func(n int) [][]byte {
			list := make([][]byte, n)
			for i := range list {
				list[i] = bytes.Repeat([]byte("x"), size)
			}
			return list
		}
		b.Run(fmt.Sprintf("portable/%d", size), func(b *testing.B) { h.bench(b, bodies(b.N)) })
		if h.Bare != nil {
			b.Run(fmt.Sprintf("bare/%d", size), func(b *testing.B) { h.Bare(b, bodies(b.N)) })
		}
	}
}

// bench has a hundred senders, and one who receives and acknowledges all that comes.
func (h *Harness) bench(b *testing.B, bodies [][]byte) {
	url := h.URL(b)
	o := &queue.Options{Lease: time.Minute, Outstanding: 1000}
	out, in := h.open(b, url, o), h.open(b, url, o)
	b.ResetTimer()
	var all sync.WaitGroup
	const senders = 100
	for s := range senders {
		all.Go(func() {
			for i := s; i < len(bodies); i += senders {
				if err := out.Send(b.Context(), queue.Message{Body: bodies[i]}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	slots := make(chan bool, 1000)
	for n := 0; n < len(bodies); {
		leases, err := in.Receive(context.Background(), 1000)
		if err != nil {
			b.Fatal(err)
		}
		n += len(leases)
		for _, l := range leases {
			slots <- true
			all.Go(func() {
				if err := l.Ack(context.Background()); err != nil {
					b.Error(err)
				}
				<-slots
			})
		}
	}
	all.Wait()
}
