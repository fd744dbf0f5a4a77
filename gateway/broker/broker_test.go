package broker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/gateway/broker"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/drivertest"
	"github.com/navvy-run/navvy/queue/memqueue"
)

// Requests become tasks of whoever attached the queue, and their answers go to the broker
// under the correlation id of the request, large ones too.
func TestAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve()
	g, _ := w.gateway()
	g.Attach("work", "ann", &pair)
	want := map[string]string{}
	for i := range 100 {
		id := fmt.Sprintf("request-%d", i)
		want[id] = strings.ToUpper(id)
		w.send(id)
	}
	large := strings.Repeat("x", 200<<10)
	w.must(w.requests.Send(t.Context(), queue.Message{ID: "large", Correlation: "mine", Body: []byte(large)}))
	want["mine"] = strings.ToUpper(large)
	for len(want) > 0 {
		l := w.next(w.responses)
		if body, ok := want[l.Correlation()]; !ok || body != string(drivertest.Body(t, l)) {
			t.Fatalf("an answer to %q: %.50q", l.Correlation(), drivertest.Body(t, l))
		}
		delete(want, l.Correlation())
	}
	jobs := 0
	for job, err := range w.api.Jobs(w.as("ann")) {
		w.must(err)
		if job.Owner != "ann" || job.Queue != "work" || job.Status.State() != navvy.Succeeded {
			t.Errorf("job %s of %s in %s is %s", job.ID, job.Owner, job.Queue, job.Status.State())
		}
		jobs++
	}
	if jobs != 101 {
		t.Errorf("%d jobs", jobs)
	}
}

// A request whose task fails is a dead letter of the broker, with the reason. Sent again,
// under its old id, it is tried again.
func TestDeadLetter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve()
	g, _ := w.gateway()
	g.Attach("work", "ann", &pair)
	dead := w.open(pair.Requests + memqueue.DeadSuffix)
	for n := 1; n <= 2; n++ {
		w.send("fail-1")
		l := w.next(dead)
		if l.ID() != "fail-1" || !strings.Contains(l.Reason(), "fail-1 is no good") {
			t.Errorf("dead letter %q: %s", l.ID(), l.Reason())
		}
		if got := w.service.times("fail-1"); got != n {
			t.Errorf("begun %d times, want %d", got, n)
		}
	}
}

// A request whose job somebody stops is a dead letter, too.
func TestStopped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve()
	g, _ := w.gateway()
	g.Attach("work", "ann", &pair)
	dead := w.open(pair.Requests + memqueue.DeadSuffix)
	w.send("wait-1")
	<-w.service.begun
	for job, err := range w.api.Jobs(w.as("ann")) {
		w.must(err)
		_, err = w.api.Stop(w.as("ann"), job.ID, "enough of it")
		w.must(err)
	}
	if l := w.next(dead); l.ID() != "wait-1" || !strings.Contains(l.Reason(), "enough of it") {
		t.Errorf("dead letter %q: %s", l.ID(), l.Reason())
	}
}

// A request that is being answered when the server ends goes back, its task goes on, and
// whoever takes it next has the answer of that task.
func TestEndsInTheMidst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve()
	g, end := w.gateway()
	g.Attach("work", "ann", &pair)
	w.send("wait-1")
	<-w.service.begun
	end()
	g, _ = w.gateway()
	g.Attach("work", "ann", &pair)
	close(w.service.free)
	if l := w.next(w.responses); string(drivertest.Body(t, l)) != "WAIT-1" || l.Correlation() != "wait-1" {
		t.Errorf("answered %q to %q", drivertest.Body(t, l), l.Correlation())
	}
	if n := w.service.times("wait-1"); n != 1 {
		t.Errorf("begun %d times", n)
	}
}

// Large requests are answered by way of a place for them; where there is none they wait for
// somebody who has it, and are no dead letters.
func TestClaims(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve()
	shelf := &drivertest.Shelf{}
	o := &queue.Options{Lease: 10 * time.Second, Claims: shelf, ClaimOver: 1000}
	enveloped := pair
	enveloped.Requests, enveloped.Responses = pair.Requests+"?envelope=json", pair.Responses+"?envelope=json"
	var ends [2]*queue.Queue
	for i, u := range []string{enveloped.Requests, enveloped.Responses} {
		q, err := queue.Open(t.Context(), u, w.drivers, o)
		w.must(err)
		defer func() { w.must(q.Close(context.Background())) }()
		ends[i] = q
	}
	large := strings.Repeat("x", 100_000)
	w.must(ends[0].Send(t.Context(), queue.Message{ID: "large", Body: []byte(large)}))
	g, end := w.gateway()
	g.Attach("work", "ann", &enveloped)
	w.must(ends[0].Send(t.Context(), queue.Message{ID: "small", Body: []byte("small")}))
	if l := w.next(ends[1]); l.Correlation() != "small" || w.service.times(large) != 0 { // which came later
		t.Errorf("an answer to %s", l.Correlation())
	}
	end()
	w.must(ends[0].Send(t.Context(), queue.Message{ID: "larger", Body: []byte(large + "y")}))
	g, _ = w.gatewayWith(&broker.Options{Claims: shelf, ClaimOver: 1000})
	g.Attach("work", "ann", &enveloped)
	leases, err := ends[1].Receive(t.Context(), 1)
	w.must(err)
	if l := leases[0]; string(drivertest.Body(t, l)) != strings.ToUpper(large+"y") || l.Correlation() != "larger" || l.Claim() == "" {
		t.Errorf("%.50q answers %s", drivertest.Body(t, l), l.Correlation())
	}
	w.must(leases[0].Ack(t.Context()))
	quiet, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer stop()
	if dead, err := w.open("mem://requests.dead").Receive(quiet, 1); err == nil {
		t.Errorf("a dead letter: %s", dead[0].Reason())
	}
}

// A request whose body is gone has been delivered often: it is a dead letter, and is not
// tried for ever.
func TestBodyGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve()
	shelf := &drivertest.Shelf{}
	enveloped := pair
	enveloped.Requests, enveloped.Responses = pair.Requests+"?envelope=json", pair.Responses+"?envelope=json"
	q, err := queue.Open(t.Context(), enveloped.Requests, w.drivers, &queue.Options{Claims: shelf, ClaimOver: 1000})
	w.must(err)
	defer func() { w.must(q.Close(context.Background())) }()
	w.must(q.Send(t.Context(), queue.Message{ID: "large", Body: make([]byte, 10_000)}))
	w.must(shelf.Remove(t.Context(), shelf.Names()[0]))
	for range 4 { // so that the test need not wait between deliveries
		leases, err := q.Receive(t.Context(), 1)
		w.must(err)
		w.must(leases[0].Nack(t.Context(), 0))
	}
	g, _ := w.gatewayWith(&broker.Options{Claims: shelf, ClaimOver: 1000})
	g.Attach("work", "ann", &enveloped)
	if l := w.next(w.open("mem://requests.dead")); !strings.Contains(l.Reason(), "is not in a shelf any more") {
		t.Errorf("a dead letter: %s", l.Reason())
	}
}

// Two requests with one id are two requests.
func TestSameID(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve()
	for _, body := range []string{"one", "two"} {
		w.must(w.requests.Send(t.Context(), queue.Message{ID: "1", Correlation: body, Body: []byte(body)}))
	}
	g, _ := w.gateway()
	g.Attach("work", "ann", &pair)
	for range 2 {
		if l := w.next(w.responses); string(drivertest.Body(t, l)) != strings.ToUpper(l.Correlation()) {
			t.Errorf("answered %q to %q", drivertest.Body(t, l), l.Correlation())
		}
	}
}

// A request that comes again after the queue has got another service has the answer of the
// task that it became before.
func TestServiceChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve()
	g, end := w.gateway()
	g.Attach("work", "ann", &pair)
	w.send("wait-1")
	<-w.service.begun
	end()
	_, err := w.api.SetQueue(t.Context(), "work", client.QueueChange{Work: &navvy.Spec{Service: &navvy.Service{Form: "cgi:./other"}}})
	w.must(err)
	g, _ = w.gateway()
	g.Attach("work", "ann", &pair)
	close(w.service.free)
	if l := w.next(w.responses); string(drivertest.Body(t, l)) != "WAIT-1" || l.Correlation() != "wait-1" {
		t.Errorf("answered %q to %q", drivertest.Body(t, l), l.Correlation())
	}
	if n := w.service.times("wait-1"); n != 1 {
		t.Errorf("begun %d times", n)
	}
}

// A queue without a service keeps requests waiting until it has one.
func TestNoService(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g, _ := w.gateway()
	g.Attach("work", "ann", &pair)
	w.send("early")
	w.serve()
	if l := w.next(w.responses); string(drivertest.Body(t, l)) != "EARLY" {
		t.Errorf("answered %q", drivertest.Body(t, l))
	}
}

// A broker that is away is told of, and waited for; a queue that is detached takes nothing
// more; one that is attached elsewhere takes from there.
func TestAttach(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve()
	w.broker.Kill()
	g, _ := w.gateway()
	g.Attach("work", "ann", &pair)
	w.eventually(func() bool { return strings.Contains(g.Trouble("work"), "down") })
	w.broker.Restart()
	w.send("one")
	w.next(w.responses)
	if why := g.Trouble("work"); why != "" {
		t.Errorf("all is well, and the trouble is %q", why)
	}
	w.broker.Kill()
	w.eventually(func() bool { return g.Trouble("work") != "" })
	w.broker.Restart()
	w.eventually(func() bool { return g.Trouble("work") == "" })
	other := pair
	other.Requests = "mem://others"
	g.Attach("work", "ann", &other)
	w.eventually(func() bool { return g.Trouble("work") == "" })
	w.send("two")
	w.must(w.open(other.Requests).Send(t.Context(), queue.Message{ID: "three", Body: []byte("three")}))
	if l := w.next(w.responses); string(drivertest.Body(t, l)) != "THREE" {
		t.Errorf("answered %q", drivertest.Body(t, l))
	}
	g.Attach("work", "", nil)
	if l := w.next(w.requests); string(drivertest.Body(t, l)) != "two" {
		t.Errorf("there was %q", drivertest.Body(t, l))
	}
}

// eventually waits until something holds.
func (w *world) eventually(holds func() bool) {
	w.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); !holds(); <-tick.C {
		if time.Now().After(end) {
			w.t.Fatal("it does not come to be so")
		}
	}
}

// URLs are judged without a connection.
func TestCheck(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g, _ := w.gateway()
	w.must(g.Check(&pair))
	for _, bad := range []string{"", "requests", "rabbit://a/b", "mem://a?lease=1", "mem://", pair.Requests} {
		b := pair
		b.Responses = bad
		if err := g.Check(&b); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
