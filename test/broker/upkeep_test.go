package broker_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/natsqueue"
	"github.com/navvy-run/navvy/queue/natsqueue/natstest"
	"github.com/navvy-run/navvy/queue/storagequeue/azuritetest"
)

// brokers are all that a queue can be on.
var brokers = map[string]func(*testing.T) *broker{
	"redis": startRedis, "amqp": startRabbit, "azservicebus": startServiceBus,
	"nats": func(t *testing.T) *broker {
		s := natstest.Start(t, nil)
		return &broker{url: func(queue string) string { return "nats://" + s.Addr + "/" + queue }, drivers: map[string]driver.Driver{"nats": natsqueue.Driver}}
	},
	"azqueue": func(t *testing.T) *broker {
		s := azuritetest.Start(t)
		return &broker{
			url: func(queue string) string {
				return "azqueue://" + azuritetest.Account + "/" + queue + "?interval=50ms&envelope=json"
			},
			env: []string{"AZURE_STORAGE_CONNECTION_STRING=" + s.ConnectionString()},
		}
	},
}

// By hand a broker's queue is looked at and counted, its dead letters are listed and sent
// back, all or some, and what is not wanted is removed.
func TestUpkeep(t *testing.T) {
	t.Parallel()
	for name, start := range brokers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t)
			u := &upkeep{t: t, b: b, url: b.url("work"), name: name}
			u.waiting()
			u.dead()
			u.gone()
		})
	}
}

type upkeep struct {
	t         *testing.T
	b         *broker
	url, name string
}

// ok runs navvy queue, which must go well.
func (u *upkeep) ok(args ...string) (out, said string) {
	u.t.Helper()
	out, said, code := runWith(u.t, u.b.env, "", append([]string{"queue"}, args...)...)
	if code != 0 {
		u.t.Fatalf("queue %s: exit code %d: %s", strings.Join(args, " "), code, said)
	}
	return out, said
}

// refused runs navvy queue, which must fail, and say something.
func (u *upkeep) refused(want int, says string, args ...string) {
	u.t.Helper()
	if _, said, code := runWith(u.t, u.b.env, "", append([]string{"queue"}, args...)...); code != want || !strings.Contains(said, says) {
		u.t.Errorf("queue %s: exit code %d, want %d, and %q in %q", strings.Join(args, " "), code, want, says, said)
	}
}

type message struct {
	ID, Body, Reason string
	Attempts         int
}

func (u *upkeep) list(args ...string) (list []message) {
	u.t.Helper()
	out, _ := u.ok(append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		u.t.Fatalf("%s: %v", out, err)
	}
	return list
}

func (u *upkeep) counts() (n struct{ Waiting, Leased, Dead *int64 }) {
	u.t.Helper()
	out, _ := u.ok("show", u.url, "-o", "json")
	if err := json.Unmarshal([]byte(out), &n); err != nil {
		u.t.Fatalf("%s: %v", out, err)
	}
	return n
}

func (u *upkeep) waiting() {
	for _, verb := range []string{"peek", "dlq", "show", "redrive"} {
		u.refused(1, "hint: navvy queue send", verb, u.url)
	}
	u.refused(1, "hint: navvy queue send", "purge", u.url, "--yes")
	for i := range 3 {
		u.ok("send", u.url, fmt.Sprint("message ", i))
	}
	if n := u.counts(); n.Waiting == nil || *n.Waiting != 3 || n.Dead == nil || *n.Dead != 0 {
		u.t.Errorf("%+v", n)
	}
	if u.name == "amqp" {
		u.refused(2, "RabbitMQ shows a message only by delivering it", "peek", u.url)
	} else if list := u.list("peek", u.url, "-n", "2"); len(list) != 2 || list[0].Body != "message 0" || list[1].Body != "message 1" || list[0].Attempts != 0 {
		u.t.Errorf("peek: %+v", list)
	}
	if list := u.list("dlq", u.url); len(list) != 0 {
		u.t.Errorf("dead letters: %+v", list)
	}
}

// dead has a worker fail at all of them, and sends them back.
func (u *upkeep) dead() { //nolint:gocyclo // one life, step by step
	u.bury()
	list := u.list("dlq", u.url)
	if len(list) != 3 {
		u.t.Fatalf("dead letters: %+v", list)
	}
	var ids []string
	for _, m := range list {
		if ids = append(ids, m.ID); !strings.HasPrefix(m.Body, "message ") {
			u.t.Errorf("%+v", m)
		}
		if u.name != "azqueue" && (!strings.Contains(m.Reason, "exit") || m.Attempts != 1) { // which has no room for them
			u.t.Errorf("%+v", m)
		}
	}
	if again := u.list("dlq", u.url); len(again) != 3 || again[0].ID != ids[0] {
		u.t.Errorf("to look changes them: %+v", again)
	}
	if n := u.counts(); *n.Dead != 3 || *n.Waiting != 0 {
		u.t.Errorf("%d wait, %d are dead", *n.Waiting, *n.Dead)
	}
	u.refused(1, "has no dead letter nobody's", "redrive", u.url, "nobody's")
	if _, said := u.ok("redrive", u.url, ids[1]); !strings.Contains(said, "1 dead letters are sent again") {
		u.t.Error(said)
	}
	if list := u.list("dlq", u.url); len(list) != 2 {
		u.t.Errorf("dead letters: %+v", list)
	}
	if _, said := u.ok("redrive", u.url); !strings.Contains(said, "2 dead letters are sent again") {
		u.t.Error(said)
	}
	if n := u.counts(); *n.Dead != 0 || *n.Waiting != 3 {
		u.t.Errorf("%d wait, %d are dead", *n.Waiting, *n.Dead)
	}
}

// bury has a worker try each message once.
func (u *upkeep) bury() {
	u.t.Helper()
	w := &workers{t: u.t, env: u.b.env, args: []string{
		"worker", "start", "--requests", u.url, "--responses", u.b.url("answers"), "--attempts", "1", "--service", "cgi-raw:false",
	}}
	cmd := w.start()
	w.all = append(w.all, cmd)
	defer w.end(false, 0)
	for n := u.counts(); *n.Dead < 3; n = u.counts() {
		if u.t.Context().Err() != nil {
			u.t.Fatal("they do not become dead letters")
		}
	}
}

func (u *upkeep) gone() {
	u.refused(2, "give --yes", "purge", u.url)
	u.refused(2, "a broker's queue is one", "purge", u.url, "--requests")
	if _, said := u.ok("purge", u.url, "--yes"); !strings.Contains(said, "3 messages are removed") {
		u.t.Error(said)
	}
	u.ok("send", u.url, "a", "b", "c")
	u.bury()
	if _, said := u.ok("purge", u.url, "--dead"); !strings.Contains(said, "3 dead letters are removed") {
		u.t.Error(said)
	}
	if n := u.counts(); *n.Dead != 0 || *n.Waiting != 0 {
		u.t.Errorf("%d wait, %d are dead", *n.Waiting, *n.Dead)
	}
}

// What redrive looked at on its way to the one that was named is there for the next, also
// where it counts as leased; what somebody has is told as left, and is no success.
func TestRedriveRest(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"nats", "redis"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := brokers[name](t)
			u := &upkeep{t: t, b: b, url: b.url("work"), name: name}
			const n = 40
			u.kill(n)
			ids := u.list("dlq", u.url)
			if len(ids) != n {
				t.Fatalf("%d are dead", len(ids))
			}
			if _, said := u.ok("redrive", u.url, ids[n/2].ID); !strings.Contains(said, "1 dead letters are sent again") {
				t.Error(said)
			}
			dead, err := queue.Open(t.Context(), b.url("work.dead"), b.drivers, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer dead.Close(context.Background()) //nolint:errcheck // it loses nothing
			held, err := dead.Receive(t.Context(), 1)
			if err != nil {
				t.Fatal(err)
			}
			u.refused(69, "38 dead letters are sent again", "redrive", u.url)
			u.refused(69, "has 1 more dead letters", "redrive", u.url)
			if err := held[0].Nack(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
			if _, said := u.ok("redrive", u.url); !strings.Contains(said, "1 dead letters are sent again") {
				t.Error(said)
			}
			if c := u.counts(); *c.Dead != 0 || *c.Waiting != n {
				t.Errorf("%d wait, %d are dead", *c.Waiting, *c.Dead)
			}
		})
	}
}

// kill makes so many dead letters.
func (u *upkeep) kill(n int) {
	u.t.Helper()
	q, err := queue.Open(u.t.Context(), u.url, u.b.drivers, nil)
	if err != nil {
		u.t.Fatal(err)
	}
	defer q.Close(context.Background()) //nolint:errcheck // all is settled by then
	for i := range n {
		if err := q.Send(u.t.Context(), queue.Message{ID: fmt.Sprint("id-", i), Body: fmt.Append(nil, i)}); err != nil {
			u.t.Fatal(err)
		}
		leases, err := q.Receive(u.t.Context(), 1)
		if err == nil {
			err = leases[0].DeadLetter(u.t.Context(), "exit 1")
		}
		if err != nil {
			u.t.Fatal(err)
		}
	}
}
