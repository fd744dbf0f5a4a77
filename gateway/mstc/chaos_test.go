package mstc_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy/queue/rabbitqueue/rabbittest"
)

// Whatever breaks, and however often, each request runs once, and is answered; what is
// answered again, as somebody ended between the answer and the note of it, is the same.
func TestChaos(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	a := w.asker()
	const requests = 200
	for i := range requests {
		a.send(fmt.Sprint(i), strings.Replace(second("local/ok"), "align", fmt.Sprint("n", i), 1))
	}
	_, end := w.gateway()
	answers := map[string]string{}
	take := func(got *answer) {
		if said, known := answers[got.id]; known && said != got.Result {
			t.Errorf("seed %d: request %s was told %s, and %s", seed, got.id, said, got)
		}
		if answers[got.id] = got.Result; got.State != "succeeded" {
			t.Errorf("seed %d: %s", seed, got)
		}
	}
	restarts := 0
	for until := time.Now().Add(3 * time.Second); time.Now().Before(until) && len(answers) < requests; {
		for range rng.IntN(20) {
			select {
			case d := <-a.replies:
				take(a.read(d))
			case <-time.After(time.Duration(rng.IntN(3)) * time.Millisecond):
			}
		}
		if w.line.set(false); rng.IntN(3) == 0 {
			restarts++
			end()
			_, end = w.gateway()
		}
	}
	end() // its pauses have become long
	w.gateway()
	t.Logf("%d answers after %d restarts", len(answers), restarts)
	for len(answers) < requests {
		take(a.next())
	}
	// A doubt stays if the broker had heard, and the connection broke before it could say so.
	w.until("nothing is owed", func() bool {
		return a.waiting() == 0 && !slices.ContainsFunc(w.left(), func(name string) bool { return strings.HasPrefix(name, "answer/") })
	})
	for i := range requests {
		if n := w.runs.begun(fmt.Sprint("n", i)); n != 1 {
			t.Errorf("seed %d: request %d has run %d times", seed, i, n)
		}
	}
}

// A container that runs for longer than the broker lets consumers be runs once.
func TestConsumerTimeout(t *testing.T) {
	t.Parallel()
	b, err := rabbittest.Start()
	need(t, err)
	t.Cleanup(b.Stop)
	const timeout = 2 * time.Second
	if err := b.ConsumerTimeout(timeout); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, b)
	g, _ := w.gateway()
	a := w.asker()
	a.send("1", second("local/wait"))
	w.until("it runs", func() bool { return w.runs.begun("align") == 1 })
	for began := time.Now(); time.Since(began) < 3*timeout; <-time.After(20 * time.Millisecond) {
		if list := g.Trouble(); list != nil {
			t.Fatal(list)
		}
	}
	close(w.runs.free)
	if got := a.next(); got.State != "succeeded" || w.runs.begun("align") != 1 {
		t.Errorf("%s; begun %d times", got, w.runs.begun("align"))
	}
}
