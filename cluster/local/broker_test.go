package local_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/unit"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/natsqueue/natstest"
)

// through sends a request over a broker and gives what is answered.
func (w *world) through(base, request string) string {
	w.t.Helper()
	requests, err := queue.Open(w.ctx(), base+"/in", brokers(""), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	defer requests.Close(w.ctx()) //nolint:errcheck // all was confirmed
	responses, err := queue.Open(w.ctx(), base+"/out", brokers(""), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	defer responses.Close(w.ctx()) //nolint:errcheck // likewise
	if err := requests.Send(w.ctx(), queue.Message{Body: []byte(request)}); err != nil {
		w.t.Fatal(err)
	}
	list, err := responses.Receive(w.ctx(), 1)
	if err != nil {
		w.t.Fatal(err)
	}
	body, err := list[0].Body(w.ctx())
	if err == nil {
		err = list[0].Ack(w.ctx())
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return string(body)
}

// Over a broker a cluster has no server: its workers answer, its password is told nobody, and
// the queues stay.
func TestBroker(t *testing.T) {
	t.Parallel()
	const password = "pass-hush-word"
	nats := natstest.Start(t, &natstest.Options{Username: "me", Password: password})
	base := "nats://me:" + password + "@" + nats.Addr
	w := newWorld(t, "TEST_SECRET=hush-hush", "BROKER="+base)
	c, dir := shares(t, "over-nats")
	c.Queue = config.Queue{Kind: config.QueueNATS, Request: "in", Response: "out", URL: &config.Value{Env: "BROKER"}, Lease: config.Duration(10 * time.Second)}
	c.Workers.Labels = nil
	list := w.apply(c)
	w.well(c)
	if got := w.through(base, "you"); got != "hello you hush-hush shown" {
		t.Errorf("%q", got)
	}
	for _, secret := range []string{"hush-hush", password} {
		w.noSecret(c.Name, list, secret)
	}
	for _, r := range list {
		if r.Kind == "server" {
			t.Errorf("there is %s", r.ID)
		}
	}
	was := w.unit(c.Name, "worker-001").Pid
	w.kill(was, syscall.SIGKILL)
	w.eventually("it is up again", func() bool { s := w.unit(c.Name, "worker-001"); return s.Phase == unit.Up && s.Pid != was })

	// A changed file is a new directory for the workers, and the old one goes with the next.
	for _, word := range []string{"goodbye", "again"} {
		write(t, filepath.Join(dir, "words.txt"), word, 0o600)
		w.apply(c)
		w.well(c)
		if got := w.through(base, "you"); got != word+" you hush-hush shown" {
			t.Errorf("%q", got)
		}
	}
	entries, err := os.ReadDir(filepath.Join(w.state, "navvy-clusters", c.Name, "files"))
	if err != nil || len(entries) > 2 {
		t.Errorf("%v are kept, %v", entries, err)
	}
	if err := os.RemoveAll(filepath.Join(w.state, "navvy-clusters", c.Name, "files")); err != nil {
		t.Fatal(err)
	}
	if why := w.differs(c); !strings.Contains(why, "files service") {
		t.Errorf("its files are gone, and that is seen as %q", why)
	}
	w.apply(c)
	w.well(c)

	nats.Kill(t)
	if o := w.observed(c.Name, "queue", "in"); o.Health != driver.HealthUnknown {
		t.Errorf("nobody can say whether it is there: %+v", o)
	}
	nats.Restart(t)
	w.destroy(c.Name)
	if err := w.o(base+"/in", true); err != nil {
		t.Errorf("the broker's queue is gone: %v", err)
	}
}

// o opens a queue, which must exist.
func (w *world) o(url string, must bool) error {
	q, err := queue.Open(w.ctx(), url, brokers(""), &queue.Options{MustExist: must})
	if err != nil {
		return err
	}
	return q.Close(w.ctx())
}
