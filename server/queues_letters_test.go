package server_test

import (
	"fmt"
	"testing"

	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/server/auth"
)

// queueOf is what a caller is told of a queue; nil if that is nothing.
func queueOf(t *testing.T, c *client.Client, name string) *client.Queue {
	t.Helper()
	for q, err := range c.Queues(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if q.Name == name {
			return &q
		}
	}
	return nil
}

// Answers and dead letters are counted, also after a restart and of a queue that has
// nothing else, and no further than a bound.
func TestLettersAreCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	w.serviced(t, "q")
	ann, bob := w.as(t, "ann", auth.RoleUser), w.as(t, "bob", auth.RoleUser)
	w.answer(t)
	send(t, ann.Messages("q"), "a", "bad", "b")
	send(t, bob.Messages("q"), "bad", "bad too")
	until(t, ann.Messages("q"), client.Responses, 2)
	until(t, ann.Messages("q"), client.DeadLetters, 1)
	until(t, bob.Messages("q"), client.DeadLetters, 2)
	expect := func(c *client.Client, answers, dead int64, more bool) {
		t.Helper()
		if q := queueOf(t, c, "q"); q == nil || q.Answers != answers || q.DeadLetters != dead || q.MoreLetters != more {
			t.Errorf("%+v, want %d answers, %d dead letters, more: %t", q, answers, dead, more)
		}
	}
	expect(ann, 2, 3, false)
	w.grpc.Stop()
	w.serve(t, auth.Ed25519, false)
	ann, bob = w.as(t, "ann", auth.RoleUser), w.as(t, "bob", auth.RoleUser)
	expect(bob, 2, 3, false)
	list := receive(t, ann.Messages("q"), 2, 0)
	if err := ann.Messages("q").Ack(t.Context(), receipts(list)...); err != nil {
		t.Fatal(err)
	}
	expect(ann, 0, 3, false)

	// Without settings everybody is told of what is his.
	admin := w.as(t, "root", auth.RoleAdmin)
	if err := admin.RemoveQueue(t.Context(), "q"); err != nil {
		t.Fatal(err)
	}
	expect(ann, 0, 1, false)
	expect(bob, 0, 2, false)
	expect(admin, 0, 3, false)
	if q := queueOf(t, w.as(t, "eve", auth.RoleUser), "q"); q != nil {
		t.Errorf("eve is told of %+v", q)
	}
}

// No more letters are counted than a bound.
func TestManyLettersAreCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	w.serviced(t, "q")
	ann := w.as(t, "ann", auth.RoleUser)
	w.answer(t)
	bodies := make([]string, 1000)
	for i := range bodies {
		bodies[i] = fmt.Sprint(i)
	}
	send(t, ann.Messages("q"), bodies...)
	until(t, ann.Messages("q"), client.Responses, 1000)
	if q := queueOf(t, ann, "q"); q.Answers != 1000 || q.MoreLetters {
		t.Errorf("%+v", q)
	}
	send(t, ann.Messages("q"), "one more")
	until(t, ann.Messages("q"), client.Responses, 1001)
	if q := queueOf(t, ann, "q"); q.Answers != 1000 || !q.MoreLetters {
		t.Errorf("%+v", q)
	}
}
