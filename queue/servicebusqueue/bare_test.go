package servicebusqueue_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/servicebusqueue/servicebustest"
)

// client is a bare client.
func client(t testing.TB, b *servicebustest.Broker) *azservicebus.Client {
	t.Helper()
	c, err := azservicebus.NewClientFromConnectionString(b.ConnectionString(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return c
}

// bare does what the portable benchmark does with the SDK alone: of a hundred who send those
// at once share batches as the portable type makes them, one asks for as many as the driver
// does at most, and as many complete at once.
func bare(broker *servicebustest.Broker) func(*testing.B, [][]byte) {
	return func(b *testing.B, bodies [][]byte) {
		b.Helper()
		open(b, "azservicebus:///bare", broker.ConnectionString(), nil) // which makes it
		c := client(b, broker)
		sender, err := c.NewSender("bare", nil)
		if err != nil {
			b.Fatal(err)
		}
		receiver, err := c.NewReceiverForQueue("bare", nil)
		if err != nil {
			b.Fatal(err)
		}
		b.ResetTimer()
		var all sync.WaitGroup
		const flights, batch = 4, 25
		for f := range flights {
			all.Go(func() {
				for i := f * batch; i < len(bodies); i += flights * batch {
					sendBatch(b, sender, bodies[i:min(i+batch, len(bodies))])
				}
			})
		}
		slots := make(chan bool, 100)
		for n := 0; n < len(bodies); {
			ms, err := receiver.ReceiveMessages(b.Context(), min(500, len(bodies)-n), &azservicebus.ReceiveMessagesOptions{TimeAfterFirstMessage: 5 * time.Millisecond})
			if err != nil {
				b.Fatal(err)
			}
			n += len(ms)
			for _, m := range ms {
				slots <- true
				all.Go(func() {
					if err := receiver.CompleteMessage(b.Context(), m, nil); err != nil {
						b.Error(err)
					}
					<-slots
				})
			}
		}
		all.Wait()
	}
}

func sendBatch(b *testing.B, sender *azservicebus.Sender, bodies [][]byte) {
	b.Helper()
	batch, err := sender.NewMessageBatch(b.Context(), nil)
	if err != nil {
		b.Error(err)
		return
	}
	for _, body := range bodies {
		if err := batch.AddMessage(&azservicebus.Message{Body: body}, nil); err != nil {
			b.Error(err)
		}
	}
	if err := sender.SendMessageBatch(b.Context(), batch, nil); err != nil {
		b.Error(err)
	}
}

// open opens a queue, which is closed with the test.
func open(t testing.TB, url, connection string, o *queue.Options) *queue.Queue {
	t.Helper()
	q, err := tryOpen(t.Context(), url, connection, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return q
}
