package broker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"testing"
	"time"

	domain "github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/internal/pause"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/drivertest"
	"github.com/navvy-run/navvy/queue/servicebusqueue"
	"github.com/navvy-run/navvy/queue/servicebusqueue/servicebustest"
)

// TestCloudWorker starts a worker by a CloudWorker's variables alone, which makes and serves
// queues in the stand-in of Service Bus, with TLS, as Azure has it.
func TestCloudWorker(t *testing.T) {
	s := servicebustest.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	port, trusted := secured(t, s.Address())
	w := &workers{t: t, args: []string{"worker", "start"}, env: []string{
		"SSL_CERT_FILE=" + trusted,
		"Queues__QueueType=servicebus", "Queues__ConnectionString=Endpoint=sb://localhost:" + port + "/;SharedAccessKeyName=" + servicebustest.Root, "Queues__MessageLease=00:00:10",
		"Queues__Request__QueueName=in", "Queues__Response__QueueName=out", "Worker__Concurrency=3", "CGI_FileName=cat",
	}}
	w.all = []*exec.Cmd{w.start()}
	failed := true
	defer func() { w.end(failed, 0) }()
	drivers := map[string]driver.Driver{"azservicebus": servicebusqueue.Driver(&servicebusqueue.Options{ConnectionString: s.ConnectionString()})}
	var ends [2]*queue.Queue
	for i, name := range []string{"in", "out"} {
		q, err := awaitQueue(ctx, "azservicebus:///"+name, drivers)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := q.Close(ctx); err != nil {
				t.Error(err)
			}
		}()
		ends[i] = q
	}
	const n = 20
	for i := range n {
		if err := ends[0].Send(ctx, queue.Message{ID: fmt.Sprint(i), Body: fmt.Append(nil, "request ", i)}); err != nil {
			t.Fatal(err)
		}
	}
	for range n {
		leases, err := ends[1].Receive(ctx, 1)
		if err != nil {
			t.Fatal(err)
		}
		var answer struct{ Stdout string }
		if err := json.Unmarshal(drivertest.Body(t, leases[0]), &answer); err != nil || answer.Stdout != "request "+leases[0].Correlation() {
			t.Errorf("the answer to %s is %q: %v", leases[0].Correlation(), drivertest.Body(t, leases[0]), err)
		}
		if err := leases[0].Ack(ctx); err != nil {
			t.Fatal(err)
		}
	}
	failed = t.Failed()
}

// awaitQueue opens a queue that somebody else makes.
func awaitQueue(ctx context.Context, url string, drivers map[string]driver.Driver) (*queue.Queue, error) {
	for {
		q, err := queue.Open(ctx, url, drivers, &queue.Options{MustExist: true})
		if !errors.Is(err, domain.ErrNotFound) {
			return q, err
		}
		if err := pause.For(ctx, 50*time.Millisecond); err != nil {
			return nil, err
		}
	}
}
