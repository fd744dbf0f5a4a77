package rabbitqueue_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"

	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/drivertest"
	"github.com/navvy-run/navvy/queue/rabbitqueue"
	"github.com/navvy-run/navvy/queue/rabbitqueue/rabbittest"
)

// shared is the broker of all tests that leave it as it is.
var shared = sync.OnceValues(func() (*rabbittest.Broker, error) { return rabbittest.Start() })

var used atomic.Bool

func TestMain(m *testing.M) {
	code := m.Run()
	if used.Load() {
		if b, err := shared(); err == nil {
			b.Stop()
		}
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// broker gives the shared one.
func broker(t testing.TB) *rabbittest.Broker {
	t.Helper()
	used.Store(true)
	b, err := shared()
	need(t, err)
	return b
}

// own starts a broker for one test.
func own(t testing.TB, config ...string) *rabbittest.Broker {
	t.Helper()
	b, err := rabbittest.Start(config...)
	need(t, err)
	t.Cleanup(b.Stop)
	return b
}

// need skips what needs a broker where none is installed, but not in CI.
func need(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, rabbittest.ErrMissing) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

var serial atomic.Int64

func fresh() string { return "q" + strconv.FormatInt(serial.Add(1), 10) }

func harness(broker func(testing.TB) *rabbittest.Broker, options string) *drivertest.Harness {
	return &drivertest.Harness{
		Driver: rabbitqueue.Driver,
		URL:    func(t testing.TB) string { return broker(t).URL(fresh()) + options },
		Want: driver.Capabilities{
			Correlation: true, Reason: true, Attempts: options == "", Binary: true, Held: true,
			Waiting: true, MaxBody: 128 << 20, MaxBatch: 1000,
		},
		Own: func(t testing.TB) *drivertest.Restartable {
			b := own(t)
			h := harness(func(testing.TB) *rabbittest.Broker { return b }, options)
			h.URL = func(t testing.TB) string { return settled(t, b, b.URL(fresh())+options) }
			return &drivertest.Restartable{
				Harness: h,
				Kill:    func(testing.TB) { b.Kill() },
				Restart: func(t testing.TB) { need(t, b.Restart()) },
			}
		},
		Bare: func(b *testing.B, bodies [][]byte) { bare(b, broker(b), bodies) },
	}
}

// settled makes a queue that survives: RabbitMQ writes down that there is a new quorum
// queue some seconds later, or when there is another one, and without that it is lost.
func settled(t testing.TB, b *rabbittest.Broker, url string) string {
	t.Helper()
	open(t, url, nil)
	if _, err := connect(t, b).QueueDeclare("last", true, false, false, false, amqp.Table{amqp.QueueTypeArg: "quorum"}); err != nil {
		t.Fatal(err)
	}
	return url
}

func TestQuorum(t *testing.T) {
	t.Parallel()
	drivertest.Run(t, harness(broker, ""))
}

func TestClassic(t *testing.T) {
	t.Parallel()
	drivertest.Run(t, harness(broker, "?type=classic"))
}

func Benchmark(b *testing.B) { drivertest.Bench(b, harness(broker, "")) }

// connect connects as a plain client.
func connect(t testing.TB, b *rabbittest.Broker) *amqp.Channel {
	t.Helper()
	c, err := amqp.Dial("amqp://" + b.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.CloseDeadline(time.Now().Add(time.Second)) })
	ch, err := c.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

// bare does with the client library alone what the benchmark of package queue does: a
// hundred senders who each wait for the confirmation of a persistent message, and a
// receiver that acknowledges.
func bare(b *testing.B, broker *rabbittest.Broker, bodies [][]byte) {
	out, in, name := connect(b, broker), connect(b, broker), fresh()
	_, err := out.QueueDeclare(name, true, false, false, false, amqp.Table{amqp.QueueTypeArg: "quorum"})
	if err = errors.Join(err, out.Confirm(false), in.Qos(1000, 0, false)); err != nil {
		b.Fatal(err)
	}
	deliveries, err := in.Consume(name, "", false, false, false, false, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	var all sync.WaitGroup
	const senders = 100
	for s := range senders {
		all.Go(func() {
			for i := s; i < len(bodies); i += senders {
				dc, err := out.PublishWithDeferredConfirm("", name, true, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: bodies[i]})
				if err != nil {
					b.Error(err)
					return
				}
				if ok, err := dc.WaitContext(context.Background()); !ok || err != nil {
					b.Error(ok, err)
				}
			}
		})
	}
	for range bodies {
		d := <-deliveries
		if err := d.Ack(false); err != nil {
			b.Fatal(err)
		}
	}
	all.Wait()
}

// open opens a queue of the driver.
func open(t testing.TB, url string, o *queue.Options) *queue.Queue {
	t.Helper()
	q, err := tryOpen(t, url, o)
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

func tryOpen(t testing.TB, url string, o *queue.Options) (*queue.Queue, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), drivertest.Patience)
	defer cancel()
	return queue.Open(ctx, url, map[string]driver.Driver{"amqp": rabbitqueue.Driver, "amqps": rabbitqueue.Driver}, o)
}
