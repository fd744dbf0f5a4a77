package local_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/cluster"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/unit"
	"github.com/navvy-run/navvy/queue/natsqueue/natstest"
)

// changed applies by a plan, which may lose what there is.
func (w *world) changed(c *config.Cluster) {
	w.t.Helper()
	if _, err := cluster.New(w.Driver, &cluster.Options{Lose: true}).Apply(w.ctx(), c); err != nil {
		w.t.Fatal(err)
	}
	w.well(c)
}

// A cluster goes from its own server to a broker and back, its queues are renamed, and its
// workers answer all the time, also one that is started again.
func TestKinds(t *testing.T) {
	t.Parallel()
	base := "nats://" + natstest.Start(t, nil).Addr
	w := newWorld(t, "TEST_SECRET=hush-hush")
	c, _ := shares(t, "kinds")
	c.Workers.Labels, c.Workers.Count = nil, 1
	own := c.Queue
	w.apply(c)
	w.well(c)

	c.Queue = config.Queue{Kind: config.QueueNATS, Request: "requests", Response: "out", URL: &config.Value{Text: base}}
	w.changed(c)
	if g, err := w.Gauge(w.ctx(), c.Name); err != nil || len(g.Queues) != 2 {
		t.Errorf("%+v, %v", g, err)
	}
	c.Queue.Request = "in"
	w.changed(c)
	was := w.unit(c.Name, "worker-001").Pid
	w.kill(was, syscall.SIGKILL)
	w.eventually("it is up again", func() bool { s := w.unit(c.Name, "worker-001"); return s.Phase == unit.Up && s.Pid != was })
	if got := w.through(base, "you"); got != "hello you hush-hush shown" {
		t.Errorf("%q", got)
	}

	c.Queue = own
	w.changed(c)
	if got := w.answers(c.Name, "requests", "you"); !slices.Equal(got, []string{"hello you hush-hush shown"}) {
		t.Errorf("%q", got)
	}
	if _, err := os.Stat(w.dir(c.Name, "secrets", "requests.url")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the broker's URL is kept: %v", err)
	}
}

// asksNobody sends a request to a queue that somebody has made beside the cluster's.
func (w *world) asksNobody(cluster string) {
	w.t.Helper()
	w.client(cluster, func(c *client.Client) error {
		spec := &navvy.Spec{Service: &navvy.Service{Form: "echo"}}
		if _, err := c.SetQueue(w.ctx(), "another", client.QueueChange{Work: spec, Create: true}); err != nil {
			return err
		}
		_, err := c.Messages("another").Send(w.ctx(), []client.OutMessage{{Body: []byte("x")}}, client.SendOptions{})
		return err
	})
}

// What is in any queue of the server is told before the server goes; so is that nobody knows
// what there is. A queue that could not be removed meanwhile is removed later.
func TestServerHolds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := echoes("holds", 0)
	w.apply(c)
	w.asksNobody(c.Name)
	nats := onNATS(c.Name, "nats://127.0.0.1:1", "requests", "responses")
	_, err := cluster.New(w.Driver, nil).Apply(w.ctx(), nats)
	if lose, is := errors.AsType[*cluster.LoseError](err); !is || len(lose.Lost) != 1 || !strings.Contains(lose.Lost[0].Holds, "1 wait, 0 run, 0 answers, 0 dead letters, in another") {
		t.Fatal(err)
	}

	w.stop(c.Name, "server")
	queue := w.observed(c.Name, "queue", "requests")
	if server := w.observed(c.Name, "server", "server"); !strings.Contains(server.Holds, "not known") || !strings.Contains(queue.Holds, "not known") || queue.Health != driver.HealthUnknown {
		t.Errorf("%+v, %+v", server, queue)
	}
	if err := w.Remove(w.ctx(), c.Name, queue); err != nil {
		t.Error(err)
	}
	if w.observed(c.Name, "queue", "requests") == nil {
		t.Fatal("it is forgotten, and the server has it")
	}
	list := w.compiled(c)
	w.put(c.Name, list[1:2])
	if err := w.Remove(w.ctx(), c.Name, w.observed(c.Name, "queue", "requests")); err != nil {
		t.Error(err)
	}
	if o := w.observed(c.Name, "queue", "requests"); o != nil {
		t.Errorf("%+v", o)
	}
}

// A server whose record is lost is not taken for somebody else's.
func TestLostRecords(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := echoes("records", 0)
	w.apply(c)
	w.asksNobody(c.Name)
	if err := os.RemoveAll(w.dir(c.Name, "made")); err != nil {
		t.Fatal(err)
	}
	if o := w.observed(c.Name, "server", "server"); o == nil || o.Health != driver.HealthFailed || o.Holds == "" {
		t.Errorf("%+v", o)
	}
}

// A variable that is taken out of the file is taken away, and one that somebody has put there
// is seen and not told.
func TestVariables(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := echoes("variables", 0)
	c.Workers.Environment = map[string]config.Value{"A": {Text: "shown"}, "B": {Text: "too"}}
	w.apply(c)
	w.well(c)
	delete(c.Workers.Environment, "B")
	differs := func(want, extra string) {
		t.Helper()
		p, err := cluster.New(w.Driver, nil).Plan(w.ctx(), c)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(p.Changes, func(change cluster.Change) bool {
			return change.Kind == "queue" && len(change.Differences) == 2 && change.Differences[0].Key == "environment."+extra && change.Differences[0].Want == "" &&
				change.Differences[1] == cluster.Difference{Key: "variables", Is: want, Want: "A"}
		}) {
			t.Errorf("%+v", p.Changes)
		}
	}
	differs("A B", "B")
	w.changed(c)
	w.client(c.Name, func(c *client.Client) error {
		spec := &navvy.Spec{Service: &navvy.Service{Form: "echo", Env: []string{"A=shown", "PASSWORD=hush-hush"}}, Retry: navvy.Retry{Max: 4}}
		_, err := c.SetQueue(t.Context(), "requests", client.QueueChange{Work: spec})
		return err
	})
	differs("A PASSWORD", "PASSWORD")
	w.noSecret(c.Name, nil, "hush-hush")
}

// A server whose port somebody else has when it is to run again gets another one, and its
// workers go there.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := echoes("taken-port", 1)
	c.Monitor.Kind = config.MonitorPrometheus
	w.apply(c)
	w.well(c)
	var mark struct {
		Ports struct {
			GRPC int `json:"grpc"`
		} `json:"ports"`
	}
	text, err := os.ReadFile(w.dir(c.Name, "cluster.json"))
	if err == nil {
		err = json.Unmarshal(text, &mark)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.stop(c.Name, "server")
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", mark.Ports.GRPC)) //nolint:noctx // it does not wait
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w.changed(c)
	if got := w.answers(c.Name, "requests", "x"); !slices.Equal(got, []string{"x"}) {
		t.Errorf("%q", got)
	}
}

// stop removes a unit behind the cluster's back.
func (w *world) stop(cluster, name string) {
	w.t.Helper()
	m, err := unit.OpenSupervised(w.dir(cluster, "units"), []string{navvyBinary, "cluster", "supervise"}, nil)
	if err == nil {
		err = errors.Join(m.Remove(w.ctx(), name), m.Close())
	}
	if err != nil {
		w.t.Fatal(err)
	}
}
