package storagequeue_test

import (
	"net/http"
	"sync"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azqueue/v2"

	"github.com/navvy-run/navvy/queue/storagequeue/azuritetest"
)

// client is a bare client of a new queue.
func client(t testing.TB, a *azuritetest.Azurite, name string) *azqueue.QueueClient {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 200}
	t.Cleanup(transport.CloseIdleConnections)
	q, err := azqueue.NewQueueClientFromConnectionString(a.ConnectionString(), name, &azqueue.ClientOptions{ClientOptions: azcore.ClientOptions{
		Transport: &http.Client{Transport: transport}, Retry: policy.RetryOptions{MaxRetries: -1},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// bare does what the portable benchmark does with the SDK alone: a hundred send, one asks
// for 32 at once, and as many delete at once as the driver does.
func bare(a *azuritetest.Azurite) func(*testing.B, [][]byte) {
	return func(b *testing.B, bodies [][]byte) {
		b.Helper()
		q := client(b, a, "bare")
		if _, err := q.Create(b.Context(), nil); err != nil {
			b.Fatal(err)
		}
		forever, lease, most := int32(-1), int32(60), int32(32)
		b.ResetTimer()
		var all sync.WaitGroup
		const senders = 100
		for s := range senders {
			all.Go(func() {
				for i := s; i < len(bodies); i += senders {
					if _, err := q.EnqueueMessage(b.Context(), string(bodies[i]), &azqueue.EnqueueMessageOptions{TimeToLive: &forever}); err != nil {
						b.Error(err)
					}
				}
			})
		}
		slots := make(chan bool, 32)
		for n := 0; n < len(bodies); {
			answer, err := q.DequeueMessages(b.Context(), &azqueue.DequeueMessagesOptions{NumberOfMessages: &most, VisibilityTimeout: &lease})
			if err != nil {
				b.Fatal(err)
			}
			n += len(answer.Messages)
			for _, m := range answer.Messages {
				slots <- true
				all.Go(func() {
					if _, err := q.DeleteMessage(b.Context(), *m.MessageID, *m.PopReceipt, nil); err != nil {
						b.Error(err)
					}
					<-slots
				})
			}
		}
		all.Wait()
	}
}
