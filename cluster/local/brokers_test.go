package local_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy/cluster"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/drivertest"
	"github.com/navvy-run/navvy/queue/rabbitqueue/rabbittest"
	"github.com/navvy-run/navvy/queue/redisqueue/redistest"
	"github.com/navvy-run/navvy/queue/servicebusqueue/servicebustest"
	"github.com/navvy-run/navvy/queue/storagequeue/azuritetest"
)

// outer is a broker that somebody else runs.
type outer struct {
	base       string // queue.url
	connection string // what base is, if it is a connection string
	url        func(name string) string
	secret     string
}

// at is a broker whose queues are below a URL.
func at(base, secret string) *outer {
	return &outer{base: base, secret: secret, url: func(name string) string { return base + "/" + name }}
}

// outers start brokers of the kinds that no other test here has, each with a password.
var outers = map[config.QueueKind]func(t *testing.T) *outer{
	config.QueueRedis: func(t *testing.T) *outer {
		const password = "redis-hush-word"
		return at("redis://:"+password+"@"+redistest.Start(t, "--requirepass", password).Addr, password)
	},
	config.QueueRabbitMQ: func(t *testing.T) *outer {
		b, err := rabbittest.Start()
		if errors.Is(err, rabbittest.ErrMissing) && os.Getenv("CI") == "" {
			t.Skip(err)
		} else if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Stop)
		return at(strings.TrimSuffix(b.URL(""), "/"), "")
	},
	config.QueueStorage: func(t *testing.T) *outer {
		c := azuritetest.Start(t).ConnectionString()
		return &outer{base: c, connection: c, secret: azuritetest.Key, url: func(name string) string { return "azqueue:///" + name + "" }}
	},
	config.QueueServiceBus: func(t *testing.T) *outer {
		s := servicebustest.Start(t)
		return &outer{base: s.ConnectionString(), connection: s.ConnectionString(), url: func(name string) string { return "azservicebus:///" + name }}
	},
}

// answered sends requests to a broker, and receives their answers: each is right, and bears its
// request's id where the broker has correlation ids.
func (w *world) answered(o *outer, n int) {
	w.t.Helper()
	ends := [2]*queue.Queue{}
	for i, name := range []string{"requests", "responses"} {
		q, err := queue.Open(w.ctx(), o.url(name), brokers(o.connection), nil)
		if err != nil {
			w.t.Fatal(err)
		}
		defer q.Close(w.ctx()) //nolint:errcheck // all was confirmed
		ends[i] = q
	}
	want := map[string]string{} // ids by answers
	for i := range n {
		id := fmt.Sprint("id-", i)
		want[fmt.Sprint("hello request ", i, " hush-hush shown")] = id
		if err := ends[0].Send(w.ctx(), queue.Message{ID: id, Body: fmt.Append(nil, "request ", i)}); err != nil {
			w.t.Fatal(err)
		}
	}
	for seen := map[string]bool{}; len(seen) < n; {
		list, err := ends[1].Receive(w.ctx(), n)
		if err != nil {
			w.t.Fatalf("after %d answers: %v", len(seen), err)
		}
		for _, l := range list {
			answer := string(drivertest.Body(w.t, l))
			id, ok := want[answer]
			if !ok || l.Correlation() != "" && l.Correlation() != id || l.Correlation() == "" && ends[1].Capabilities().Correlation {
				w.t.Errorf("the answer to %q is %q", l.Correlation(), answer)
			}
			seen[answer] = true
			if err := l.Ack(w.ctx()); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

// Over each kind of broker a cluster is made, answers, scales, tells no secret, and goes, and
// the queues stay.
func TestBrokers(t *testing.T) {
	t.Parallel()
	for kind, start := range outers {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			o := start(t)
			w := newWorld(t, "TEST_SECRET=hush-hush", "BROKER="+o.base)
			c, _ := shares(t, "over-"+string(kind))
			c.Queue = config.Queue{Kind: kind, Request: "requests", Response: "responses", URL: &config.Value{Env: "BROKER"}, Lease: config.Duration(10 * time.Second)}
			c.Workers.Labels = nil
			if err := config.Validate(c); err != nil {
				t.Fatal(err)
			}
			list := w.apply(c)
			w.well(c)
			w.answered(o, 100)
			for _, secret := range []string{"hush-hush", o.secret} {
				if secret != "" {
					w.noSecret(c.Name, list, secret)
				}
			}
			control := cluster.New(w.Driver, nil)
			if _, err := control.Scale(w.ctx(), c.Name, 1); err != nil {
				t.Error(err)
			}
			if s, err := control.Status(w.ctx(), c.Name); err != nil || len(s.Resources) != 5 || s.GaugesErr != nil || len(s.Gauges.Queues) != 2 {
				t.Errorf("%+v, %v", s, err)
			}
			if p, err := control.Destroy(w.ctx(), c.Name); err != nil || p.Count(cluster.Remove) != 5 {
				t.Errorf("%+v, %v", p, err)
			}
			w.nothing()
			q, err := queue.Open(w.ctx(), o.url("requests"), brokers(o.connection), &queue.Options{MustExist: true})
			if err != nil {
				t.Fatalf("the broker's queue is gone: %v", err)
			}
			if err := q.Close(w.ctx()); err != nil {
				t.Error(err)
			}
		})
	}
}
