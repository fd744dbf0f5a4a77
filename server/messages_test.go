package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/output"
	"github.com/navvy-run/navvy/server/auth"
)

// serviced gives a queue a service.
func (w *world) serviced(t *testing.T, queue string) {
	t.Helper()
	work := &navvy.Spec{Service: &navvy.Service{Form: "echo"}}
	if _, err := w.as(t, "root", auth.RoleAdmin).SetQueue(t.Context(), queue, client.QueueChange{Create: true, Work: work}); err != nil {
		t.Fatal(err)
	}
}

// answering is a worker with an echo service of its own: it answers "re: " and the body,
// fails what begins with "bad", and keeps what begins with "slow" until it is let go.
type answering struct {
	mu   sync.Mutex
	good map[string]bool // bodies that it does not fail any more
}

func (a *answering) heal(body string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.good[body] = true
}

// answer runs a manager and such a worker, until the test ends.
func (w *world) answer(t *testing.T) *answering {
	t.Helper()
	a := &answering{good: map[string]bool{}}
	ctx, cancel := context.WithCancel(context.Background())
	session, err := client.NewWorkers(w.conn(t, "w", auth.RoleWorker)).Work(ctx, client.WorkerInfo{
		Name: "w", Kinds: []string{navvy.KindService}, Slots: 4,
		Abilities: []navvy.KindAbilities{{Kind: navvy.KindService, Enforces: []navvy.Ability{navvy.AbilityIsolate, navvy.AbilityUser}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { _ = w.mgr.Run(ctx) })
	running.Go(func() {
		_ = session.Report(nil, 4)
		for {
			orders, err := session.Next()
			if err != nil {
				return
			}
			for _, stop := range orders.Stops {
				now := time.Now()
				attempt := navvy.Attempt{ID: stop.Attempt, Outcome: navvy.OutcomeInterrupted, Started: now, Finished: now}
				_ = session.Report([]client.Report{{Task: stop.Task, Attempt: attempt}}, 4)
			}
			for _, one := range orders.Assignments {
				if attempt, ok := a.run(&one); ok {
					_ = session.Report([]client.Report{{Task: one.Task, Attempt: attempt}}, 4)
				}
			}
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	return a
}

func (a *answering) run(one *client.Assignment) (navvy.Attempt, bool) {
	now := time.Now()
	attempt := navvy.Attempt{ID: one.Attempt, Outcome: navvy.OutcomeSucceeded, Started: now, Finished: now}
	_, body, err := navvy.Message(one.Input)
	a.mu.Lock()
	healed := a.good[string(body)]
	a.mu.Unlock()
	switch {
	case err != nil || bytes.HasPrefix(body, []byte("bad")) && !healed:
		attempt.Outcome, attempt.Reason, attempt.Message = navvy.OutcomeFailed, navvy.ReasonExit, fmt.Sprintf("no answer to %q, %v", body, err)
	case bytes.HasPrefix(body, []byte("slow")):
		return attempt, false
	default:
		frames := output.AppendFrame(nil, output.Stderr, []byte("hm"))
		frames = output.AppendFrame(frames, output.Stdout, []byte("re: "))
		frames = output.AppendFrame(frames, output.Stdout, body)
		attempt.Output = navvy.Output{Inline: frames, Length: int64(len(frames)), CRC: output.UpdateCRC(0, frames), Stdout: int64(len(body) + 4), Stderr: 2}
	}
	return attempt, true
}

// send sends messages whose correlation ids are "c-" and their bodies.
func send(t *testing.T, m client.Messages, bodies ...string) []string {
	t.Helper()
	var list []client.OutMessage
	for _, b := range bodies {
		list = append(list, client.OutMessage{Correlation: "c-" + strings.ToValidUTF8(b, ""), Body: []byte(b)})
	}
	ids, err := m.Send(t.Context(), list, client.SendOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// receive takes n responses, sorted by body.
func receive(t *testing.T, m client.Messages, n int, lease time.Duration) (all []client.Message) {
	t.Helper()
	for len(all) < n {
		list, err := m.Receive(t.Context(), client.ReceiveOptions{Max: min(1000, n-len(all)), Wait: time.Minute, Lease: lease})
		if err != nil || len(list) == 0 {
			t.Fatalf("%d of %d responses came: %v", len(all), n, err)
		}
		all = append(all, list...)
	}
	slices.SortFunc(all, func(a, b client.Message) int { return strings.Compare(string(a.Body), string(b.Body)) })
	return all
}

// waits are the bodies of what waits.
func waits(t *testing.T, m client.Messages, side client.Side) (bodies []string) {
	t.Helper()
	for one, err := range m.Peek(t.Context(), side) {
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, string(one.Body))
	}
	slices.Sort(bodies)
	return bodies
}

// until waits for a number of messages on a side.
func until(t *testing.T, m client.Messages, side client.Side, n int) []string {
	t.Helper()
	for {
		if bodies := waits(t, m, side); len(bodies) == n {
			return bodies
		}
		time.Sleep(time.Millisecond) //nolint:forbidigo // nothing tells when a message fails
	}
}

func receipts(list []client.Message) (r []string) {
	for _, m := range list {
		r = append(r, m.Receipt)
	}
	return r
}

// answeredWith sees that responses are whole.
func answeredWith(t *testing.T, got []client.Message, ids []string) {
	t.Helper()
	for i, body := range []string{"a", "b", "\xff\x00"} {
		m := got[i]
		correlation := "c-" + strings.ToValidUTF8(body, "")
		if m.ID != ids[i] || string(m.Body) != "re: "+body || m.Correlation != correlation || m.Attempts != 1 || m.Sent.IsZero() || m.Answered.IsZero() || m.Missing != "" {
			t.Errorf("response to %q: %+v", body, m)
		}
	}
}

// Messages are answered, the answers received and acknowledged; each owner has its own.
func TestMessages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ann, bob := w.as(t, "ann", auth.RoleUser).Messages("q"), w.as(t, "bob", auth.RoleUser).Messages("q")
	if _, err := ann.Send(t.Context(), []client.OutMessage{{}}, client.SendOptions{}); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("a message to a queue without a service: %v", err)
	}
	w.serviced(t, "q")
	ids := send(t, ann, "a", "b", "\xff\x00")
	send(t, bob, "his")
	if diff := cmp.Diff([]string{"a", "b", "\xff\x00"}, waits(t, ann, client.Requests)); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	w.answer(t)
	got := receive(t, ann, 3, 0)
	answeredWith(t, got, ids)
	if more, err := ann.Receive(t.Context(), client.ReceiveOptions{Max: 9}); err != nil || len(more) != 0 {
		t.Errorf("leased ones are received again: %v, %v", more, err)
	}
	his := receive(t, bob, 1, 0)
	if err := bob.Ack(t.Context(), receipts(got)...); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("bob acknowledges ann's: %v", err)
	}
	if err := ann.Ack(t.Context(), receipts(his)...); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("ann acknowledges bob's: %v", err)
	}
	if diff := cmp.Diff([]string{"re: a", "re: b", "re: \xff\x00"}, waits(t, ann, client.Responses)); diff != "" {
		t.Errorf("responses (-want +got):\n%s", diff)
	}
	for range 2 {
		if err := ann.Ack(t.Context(), receipts(got)...); err != nil {
			t.Errorf("acknowledged again and again: %v", err)
		}
	}
	if left := waits(t, ann, client.Responses); left != nil {
		t.Errorf("acknowledged, and left: %q", left)
	}
	if left := waits(t, bob, client.Responses); len(left) != 1 {
		t.Errorf("bob has %q", left)
	}
}

// A response that is not acknowledged comes again after a restart, with a new receipt;
// the old one is good as long as nobody has received it since.
func TestReceivedAcrossARestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	w.serviced(t, "q")
	ann := w.as(t, "ann", auth.RoleUser).Messages("q")
	send(t, ann, "a", "b", "c")
	w.answer(t)
	old := receive(t, ann, 3, 0)
	w.grpc.Stop()
	w.serve(t, auth.Ed25519, false)
	ann = w.as(t, "ann", auth.RoleUser).Messages("q")
	if err := ann.Ack(t.Context(), old[2].Receipt); err != nil {
		t.Errorf("with a receipt of an earlier server: %v", err)
	}
	again := receive(t, ann, 2, time.Hour)
	if string(again[0].Body) != "re: a" || again[0].Receipt == old[0].Receipt {
		t.Errorf("it comes again as %+v", again[0])
	}
	if err := ann.Ack(t.Context(), receipts(old)...); !errors.Is(err, navvy.ErrLeaseLost) || !strings.Contains(err.Error(), old[0].ID) {
		t.Errorf("what somebody else has leased: %v", err)
	}
	if err := ann.Release(t.Context(), 0, old[0].Receipt); !errors.Is(err, navvy.ErrLeaseLost) {
		t.Errorf("it is given back by an old receipt: %v", err)
	}
	if err := ann.Release(t.Context(), 0, again[0].Receipt); err != nil {
		t.Error(err)
	}
	if third := receive(t, ann, 1, 0); third[0].ID != again[0].ID {
		t.Errorf("given back, and %s comes", third[0].ID)
	}
	if err := ann.Ack(t.Context(), old[2].Receipt, again[1].Receipt); err != nil {
		t.Error(err)
	}
}

// Whoever waits gives up when it leaves, and when the server does.
func TestReceiveWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	w.serviced(t, "q")
	ann := w.as(t, "ann", auth.RoleUser).Messages("q")
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := ann.Receive(ctx, client.ReceiveOptions{Wait: 5 * time.Minute})
		left <- err
	}()
	leave()
	if err := <-left; err == nil {
		t.Error("the caller has left, and there is an answer")
	}
	if list, err := ann.Receive(t.Context(), client.ReceiveOptions{Wait: time.Millisecond}); err != nil || list != nil {
		t.Errorf("there is nothing, and it gives %v, %v", list, err)
	}
	go func() {
		_, err := ann.Receive(t.Context(), client.ReceiveOptions{Wait: 5 * time.Minute})
		left <- err
	}()
	w.mgr.Leave(fmt.Errorf("this server ends: %w", navvy.ErrUnavailable))
	if err := <-left; !errors.Is(err, navvy.ErrUnavailable) {
		t.Errorf("the server ends, and it waits on: %v", err)
	}
}

// Whoever waits is woken by the answer.
func TestReceiveIsWoken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	w.serviced(t, "q")
	ann := w.as(t, "ann", auth.RoleUser).Messages("q")
	type answer struct {
		list []client.Message
		err  error
	}
	came := make(chan answer)
	go func() {
		list, err := ann.Receive(t.Context(), client.ReceiveOptions{Wait: 5 * time.Minute})
		came <- answer{list, err}
	}()
	w.answer(t)
	send(t, ann, "a")
	if got := <-came; got.err != nil || len(got.list) != 1 || string(got.list[0].Body) != "re: a" {
		t.Errorf("it was woken with %+v", got)
	}
}

// What fails for good is a dead letter, until it is sent again or purged.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	w.serviced(t, "q")
	ann := w.as(t, "ann", auth.RoleUser).Messages("q")
	service := w.answer(t)
	ids := send(t, ann, "bad 0", "good", "bad 1", "bad 2")
	until(t, ann, client.DeadLetters, 3)
	for m, err := range ann.Peek(t.Context(), client.DeadLetters) {
		if err != nil || m.Reason != fmt.Sprintf("no answer to %q, <nil>", m.Body) || m.Correlation != "c-"+string(m.Body) {
			t.Errorf("%+v, %v", m, err)
		}
	}
	if _, _, err := ann.Redrive(t.Context(), ids[0], ids[1]); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("a response is sent again: %v", err)
	}
	bob := w.as(t, "bob", auth.RoleUser).Messages("q")
	if _, _, err := bob.Redrive(t.Context(), ids[0]); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("bob sends ann's again: %v", err)
	}
	redriven(t, service, ann, ids)
}

// redriven sends dead letters again, of which one stays, and purges what is left.
func redriven(t *testing.T, service *answering, ann client.Messages, ids []string) {
	t.Helper()
	service.heal("bad 1")
	if n, fresh, err := ann.Redrive(t.Context(), ids[2], ids[2]); err != nil || n != 1 || fresh != nil {
		t.Errorf("%d are sent again, %v, %v", n, fresh, err)
	}
	got := receive(t, ann, 2, 0)
	if string(got[0].Body) != "re: bad 1" || got[0].ID != ids[2] || string(got[1].Body) != "re: good" {
		t.Errorf("received %v", got)
	}
	service.heal("bad 2")
	if n, _, err := ann.Redrive(t.Context()); err != nil || n != 2 {
		t.Errorf("%d are sent again, %v", n, err)
	}
	receive(t, ann, 1, 0)
	until(t, ann, client.DeadLetters, 1)
	if n, err := ann.Purge(t.Context(), client.DeadLetters); err != nil || n != 1 {
		t.Errorf("%d dead letters are purged, %v", n, err)
	}
	if n, err := ann.Purge(t.Context(), client.Responses); err != nil || n != 3 {
		t.Errorf("%d responses are purged, %v", n, err)
	}
	if left := waits(t, ann, client.DeadLetters); left != nil {
		t.Errorf("dead letters are left: %q", left)
	}
}

// Purged requests are gone, and dead letters of theirs can be sent again, as new ones.
func TestPurgeRequests(t *testing.T) { //nolint:gocyclo // one life, step by step
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	w.serviced(t, "q")
	root, ann := w.as(t, "root", auth.RoleAdmin), w.as(t, "ann", auth.RoleUser)
	m := ann.Messages("q")
	plain := submit(t, ann, navvy.Job{Queue: "q"})
	service := w.answer(t)
	first := send(t, m, "bad", "slow 1", "slow 2")
	until(t, m, client.DeadLetters, 1)
	if _, err := root.PauseQueue(t.Context(), "q"); err != nil {
		t.Fatal(err)
	}
	send(t, m, "x", "y")
	if diff := cmp.Diff([]string{"slow 1", "slow 2", "x", "y"}, waits(t, m, client.Requests)); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if n, err := m.Purge(t.Context(), client.Requests); err != nil || n != 4 {
		t.Errorf("%d requests are purged, %v", n, err)
	}
	if left := waits(t, m, client.Requests); left != nil {
		t.Errorf("purged, and left: %q", left)
	}
	if job, err := ann.Get(t.Context(), plain); err != nil || job.Status.State() != navvy.Queued {
		t.Errorf("a job that is none of messages: %v, %v", job.Status.State(), err)
	}
	service.heal("bad")
	if _, err := root.ResumeQueue(t.Context(), "q"); err != nil {
		t.Fatal(err)
	}
	n, fresh, err := m.Redrive(t.Context())
	if err != nil || n != 1 || len(fresh) != 1 || fresh[0] == first[0] {
		t.Fatalf("%d are sent again, as %v: %v", n, fresh, err)
	}
	if got := receive(t, m, 1, 0); got[0].ID != fresh[0] || got[0].Correlation != "c-bad" || string(got[0].Body) != "re: bad" {
		t.Errorf("received %v", got)
	}
}

// A job whose answers were all acknowledged is removed; with an idempotency key it stays
// for whoever sends it again.
func TestMessagesAreRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	w.serviced(t, "q")
	ann := w.as(t, "ann", auth.RoleUser)
	m := ann.Messages("q")
	w.answer(t)
	list := []client.OutMessage{{Body: []byte("a")}}
	first, err := m.Send(t.Context(), list, client.SendOptions{IdempotencyKey: "k"})
	if err != nil {
		t.Fatal(err)
	}
	if again, err := m.Send(t.Context(), list, client.SendOptions{IdempotencyKey: "k"}); err != nil || !slices.Equal(again, first) {
		t.Errorf("sent again: %v, was %v: %v", again, first, err)
	}
	if _, err := m.Send(t.Context(), append(list, list...), client.SendOptions{IdempotencyKey: "k"}); !errors.Is(err, navvy.ErrConflict) {
		t.Errorf("others with the same key: %v", err)
	}
	id, _ := navvy.ParseTaskID(send(t, m, "b")[0])
	if err := m.Ack(t.Context(), receipts(receive(t, m, 2, 0))...); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := ann.Get(t.Context(), id.Job); errors.Is(err, navvy.ErrNotFound) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond) //nolint:forbidigo // nothing tells when a job is removed
	}
	if again, err := m.Send(t.Context(), list, client.SendOptions{IdempotencyKey: "k"}); err != nil || !slices.Equal(again, first) {
		t.Errorf("sent again after the end: %v, was %v: %v", again, first, err)
	}
}

// More than a page is shown whole, and in order.
func TestPeekPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	w.serviced(t, "q")
	m := w.as(t, "ann", auth.RoleUser).Messages("q")
	var bodies, sent []string
	for i := range 2500 {
		bodies = append(bodies, fmt.Sprintf("%04d", i))
	}
	sent = append(send(t, m, bodies[:1200]...), send(t, m, bodies[1200:]...)...)
	see := func(side client.Side) (ids []string) {
		for one, err := range m.Peek(t.Context(), side) {
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, one.ID)
		}
		return ids
	}
	if got := see(client.Requests); !slices.Equal(got, sent) {
		t.Errorf("%d requests are shown, of %d", len(got), len(sent))
	}
	w.answer(t)
	receive(t, m, 2500, 0)
	if got := see(client.Responses); !slices.Equal(got, sent) {
		t.Errorf("%d responses are shown, of %d", len(got), len(sent))
	}
}
