package mstc_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/gateway/records"
)

// An answer that the broker has when the gateway ends, and has not confirmed, is not sent by
// the next one too.
func TestEndBeforeConfirm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, over := w.gatewayIn(ctx, w.store)
	t.Cleanup(func() {
		cancel()
		<-over
	})
	a := w.asker()
	a.send("1", second("local/wait"))
	w.until("the broker knows", func() bool { return w.runs.begun("align") == 1 && len(w.left()) == 1 })
	w.line.hold(true)
	close(w.runs.free)
	if got := a.next(); got.State != "succeeded" {
		t.Error(got)
	}
	cancel()
	w.line.hold(false)
	<-over
	if left := w.left(); len(left) != 0 || !w.jobs()[0].Status.Read {
		t.Errorf("there are still %v; the job is read: %t", left, w.jobs()[0].Status.Read)
	}
}

// A gateway ends whatever the broker does.
func TestEndWithoutConfirm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, end := w.gateway()
	a := w.asker()
	a.send("1", second("local/wait"))
	w.until("the broker knows", func() bool { return w.runs.begun("align") == 1 && len(w.left()) == 1 })
	w.line.hold(true)
	close(w.runs.free)
	a.next()
	end()
	if left := w.left(); len(left) != 1 {
		t.Errorf("nobody has confirmed it, and there are %v", left)
	}
	w.line.hold(false)
	w.gateway()
	if got := a.next(); got.id != "1" || got.State != "succeeded" {
		t.Error(got)
	}
}

// hooked calls something before an answer's record goes.
type hooked struct {
	store
	before func()
}

func (h hooked) Apply(ctx context.Context, changes ...records.Change) error {
	for _, c := range changes {
		if c.Delete && strings.HasPrefix(c.Name, "answer/") {
			h.before()
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return h.store.Apply(ctx, changes...)
}

// What the broker has confirmed is noted before anything else, also when the gateway ends in
// that moment.
func TestEndBehindConfirm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, over := w.gatewayIn(ctx, hooked{w.store, func() {
		if w.jobs()[0].Status.Read {
			t.Error("the job is marked as read first")
		}
		cancel()
	}})
	a := w.asker()
	a.send("1", second("local/ok"))
	a.next()
	<-over
	w.until("somebody has read it", func() bool { return w.jobs()[0].Status.Read })
	for _, name := range w.left() { // the broker may not know that the request was taken
		if strings.HasPrefix(name, "answer/") {
			t.Errorf("it is sent again: %s", name)
		}
	}
}

// keeps tells whether there is a record of an answer that has a text in it.
func (w *world) keeps(text string) (found bool) {
	w.must(records.Each(w.t.Context(), w.store, "answer/", func(r *records.Record) error {
		found = found || strings.Contains(string(r.Value), text)
		return nil
	}))
	return found
}

// What a client is to be told is known from when it is, whatever becomes of the job before
// the broker can be reached again; of a log that is too long for a record there is a word.
func TestOutcomeKept(t *testing.T) {
	t.Parallel()
	const large = "the log was too large to be kept"
	for name, c := range map[string]struct {
		request, kept string
		remove        bool
		most          int // bytes of the result
		want, never   string
	}{
		"job removed":        {second("local/ok"), `"reply":`, true, 200, " complete.", "removed"},
		"job there":          {second("local/ok"), `"reply":`, false, 200, " complete.", "removed"},
		"log, job removed":   {first("local/ok"), `"reply":`, true, 200, "ok: ", "removed"},
		"large, job removed": {first("local/big"), `"cut":true`, true, 5000, large, "removed"},
		"large, job there":   {first("local/big"), `"cut":true`, false, 2 << 20, "3071 ", large},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			_, end := w.gatewayOn(cutter{w.store, func() { w.line.set(true) }})
			a := w.asker()
			a.send("1", c.request)
			w.until("the answer is kept", func() bool { return w.keeps(c.kept) })
			end()
			if c.remove {
				w.must(w.api.Remove(t.Context(), w.jobs()[0].ID, true))
			}
			w.line.set(false)
			w.gateway()
			got := a.next()
			if got.State != navvy.Succeeded.String() || !strings.Contains(got.Result, c.want) || strings.Contains(got.Result, c.never) || len(got.Result) > c.most {
				t.Errorf("%s, of %d bytes", got, len(got.Result))
			}
			w.until("nothing is owed", func() bool { return !w.keeps(fmt.Sprintf("%q", "reply")) })
			if n := w.runs.begun("align"); n != 1 {
				t.Errorf("begun %d times", n)
			}
		})
	}
}
