package server

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/engine/memory"
)

var annsLine = engine.Line{Queue: "q", Owner: "ann"}

// scanned is a store that counts what scans of letters read, also of keys that were
// deleted: a store that has not compacted yet passes over each of them.
type scanned struct {
	driver.Store
	letters []string // all keys that there ever were, in order
	keys    int      // that were read
}

func (s *scanned) Apply(ctx context.Context, b *driver.Batch) error {
	for _, op := range b.Ops {
		if op.Kind == driver.OpPut && op.Key[0] == 'w' {
			i, _ := slices.BinarySearch(s.letters, string(op.Key))
			s.letters = slices.Insert(s.letters, i, string(op.Key))
		}
	}
	return s.Store.Apply(ctx, b)
}

func (s *scanned) Scan(ctx context.Context, r driver.Range, fn func(key, value []byte) error) error {
	last := string(r.End)
	err := s.Store.Scan(ctx, r, func(key, value []byte) error {
		err := fn(key, value)
		if err != nil {
			last = string(key) // behind it nothing is read
		}
		return err
	})
	if r.Start[0] == 'w' {
		from, _ := slices.BinarySearch(s.letters, string(r.Start))
		to, _ := slices.BinarySearch(s.letters, last)
		s.keys += to - from
	}
	return err
}

// deskWorld is a desk, and an engine to answer messages in.
type deskWorld struct {
	*desk
	t     *testing.T
	store *scanned
	c     *counter
}

func newDeskWorld(t *testing.T) *deskWorld {
	t.Helper()
	store := &scanned{Store: memory.New()}
	eng, err := engine.Open(t.Context(), store, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &deskWorld{desk: newDesk(eng, time.Now), t: t, store: store}
	w.c = w.enter(annsLine)
	t.Cleanup(func() { _ = store.Close() })
	return w
}

// sent is a job of n messages.
func (w *deskWorld) sent(n int) *navvy.Job {
	w.t.Helper()
	sub, _, err := w.eng.Submit(w.t.Context(), navvy.Job{
		Owner: "ann", Queue: "q", Detached: true, Format: navvy.InputMessage, Responses: true,
		Spec: navvy.Spec{Service: &navvy.Service{Form: "echo"}},
	}, false)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := errors.Join(sub.Add(w.t.Context(), make([][]byte, n)...), sub.Seal(w.t.Context())); err != nil {
		w.t.Fatal(err)
	}
	return sub.Job()
}

// answer answers messages of a job.
func (w *deskWorld) answer(job *navvy.Job, indexes ...int64) {
	w.t.Helper()
	for _, i := range indexes {
		v := w.eng.Answer(w.t.Context(), []engine.Report{{Job: job, Result: navvy.Result{
			Task: navvy.TaskID{Job: job.ID, Index: i}, State: navvy.Succeeded, Attempts: 1,
			Attempt: navvy.Attempt{ID: navvy.AttemptID{Number: 1, Epoch: 1}, Outcome: navvy.OutcomeSucceeded},
		}}})[0]
		if v.Err != nil {
			w.t.Fatal(v.Err)
		}
	}
}

// leased takes what there is, and sees that it is of these tasks.
func (w *deskWorld) leased(limit int, lease time.Duration, want ...int64) (r []receipt) {
	w.t.Helper()
	list, err := w.take(w.t.Context(), annsLine, w.c, limit, lease)
	if err != nil {
		w.t.Fatal(err)
	}
	var got []int64
	for _, l := range list {
		got, r = append(got, l.Task.Index), append(r, l.receipt)
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("leased %v, want %v", got, want)
	}
	return r
}

func (w *deskWorld) acked(want int, r ...receipt) {
	w.t.Helper()
	if n, _, err := w.ack(w.t.Context(), annsLine, r); err != nil || n != want {
		w.t.Errorf("acknowledged %d, %v, want %d", n, err, want)
	}
}

// A lease keeps a response from others until it has run out, and no longer.
func TestLeasesRunOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newDeskWorld(t)
		job := w.sent(4)
		w.answer(job, 2, 0)
		first := w.leased(9, time.Minute, 0, 2)
		w.answer(job, 1, 3) // before and behind what was read
		w.leased(1, time.Hour, 1)
		w.leased(1, time.Hour, 3)
		w.leased(9, time.Minute)
		time.Sleep(time.Minute - 1) //nolint:forbidigo // in a bubble
		w.leased(9, time.Minute)
		time.Sleep(time.Nanosecond) //nolint:forbidigo // in a bubble
		w.acked(1, first[0])
		second := w.leased(9, time.Minute, 2)
		if n, _, err := w.ack(t.Context(), annsLine, first); n != 0 || !errors.Is(err, navvy.ErrLeaseLost) {
			t.Errorf("what somebody else has leased: %d, %v", n, err)
		}
		if err := w.release(annsLine, first[1:], 0); !errors.Is(err, navvy.ErrLeaseLost) {
			t.Errorf("given back by who has lost it: %v", err)
		}
		if err := w.release(annsLine, second, time.Second); err != nil {
			t.Error(err)
		}
		w.leased(9, time.Minute)
		_, due := w.more(w.c)
		time.Sleep(time.Until(due)) //nolint:forbidigo // in a bubble
		w.leased(9, time.Minute, 2)
		time.Sleep(time.Minute) //nolint:forbidigo // in a bubble
		w.acked(1, second...)   // nobody has it now
		w.acked(0, second...)
		w.leased(9, time.Minute)
	})
}

// What was acknowledged long ago is not read again, whatever comes before it.
func TestNothingIsReadTwice(t *testing.T) {
	t.Parallel()
	w := newDeskWorld(t)
	slow := w.sent(50)
	const many = 3000
	for i := range int64(many) {
		job := w.sent(1)
		w.answer(job, 0)
		r := w.leased(1, time.Hour, 0)
		w.acked(1, r...)
		if i%100 == 0 {
			w.answer(slow, i/100)
			w.acked(1, w.leased(1, time.Hour, i/100)...)
		}
	}
	if most := 2 * many; w.store.keys > most {
		t.Errorf("%d keys were read for %d responses", w.store.keys, many)
	}
	if len(w.c.holds) != 0 || w.held != 0 || len(w.c.due) != 0 {
		t.Errorf("%d are held, %d in all", len(w.c.holds), w.held)
	}
}

// At random, each response that is taken is one that waits and that nobody has, and in
// the end all are acknowledged, each once.
func TestDeskAtRandom(t *testing.T) { //nolint:gocyclo // what is drawn, case by case
	t.Parallel()
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w, rng := newDeskWorld(t), rand.New(rand.NewPCG(seed, 0))
				type one struct {
					until time.Time
					r     receipt
				}
				open, jobs, acked := map[navvy.TaskID]one{}, map[*navvy.Job][]int64{}, 0
				total := 0
				for step := 0; step < 400 || acked < total; step++ {
					switch n := rng.IntN(10); {
					case n == 0 && step < 300:
						job := w.sent(1 + rng.IntN(8))
						st, _ := w.eng.State(t.Context(), job.ID)
						for i := range st.Total {
							jobs[job] = append(jobs[job], i)
						}
						rng.Shuffle(len(jobs[job]), func(i, j int) { jobs[job][i], jobs[job][j] = jobs[job][j], jobs[job][i] })
						total += int(st.Total)
					case n < 4:
						for job, rest := range jobs {
							if len(rest) > 0 {
								w.answer(job, rest[0])
								jobs[job] = rest[1:]
								break
							}
						}
					case n < 7:
						list, err := w.take(t.Context(), annsLine, w.c, 1+rng.IntN(4), time.Minute)
						if err != nil {
							t.Fatal(err)
						}
						for _, l := range list {
							if o, ok := open[l.Task]; ok && o.until.After(time.Now()) {
								t.Fatalf("%s is leased until %s, and is taken", l.Task, o.until)
							}
							if has, err := w.eng.HasLetter(t.Context(), annsLine, engine.Responses, &l.Letter); err != nil || !has {
								t.Fatalf("%s is taken, and does not wait: %v", l.Task, err)
							}
							open[l.Task] = one{time.Now().Add(time.Minute), l.receipt}
						}
					case n < 9:
						for task, o := range open {
							n, _, err := w.ack(t.Context(), annsLine, []receipt{o.r})
							if err != nil || n != 1 {
								t.Fatalf("%s: acknowledged %d, %v", task, n, err)
							}
							delete(open, task)
							acked++
							break
						}
					default:
						time.Sleep(time.Duration(rng.Int64N(int64(40 * time.Second)))) //nolint:forbidigo // in a bubble
					}
				}
				w.leased(9, time.Minute)
			})
		})
	}
}

// A line that has more leased than fits into memory takes no more, and forgets nothing.
func TestDeskIsBounded(t *testing.T) {
	t.Parallel()
	w := newDeskWorld(t)
	job := w.sent(3)
	w.answer(job, 1, 2)
	r := w.leased(2, time.Hour, 1, 2)
	w.held += maxHeldAll - 2
	w.answer(job, 0) // before the cursor: there is no room to remember it
	if _, err := w.take(t.Context(), annsLine, w.c, 1, time.Hour); !errors.Is(err, navvy.ErrExhausted) {
		t.Errorf("more than fits is leased: %v", err)
	}
	w.held -= maxHeldAll - 2
	w.acked(1, r[0])
	w.leased(5, time.Hour, 0)
}

func FuzzReceipt(f *testing.F) {
	f.Add("0123456789ab/1.0.1.1")
	f.Add("0123456789ab/1.00.1.1")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseReceipt(text)
		if err == nil && r.String() != text {
			t.Errorf("%q is read as %q", text, r.String())
		}
		if err != nil && !errors.Is(err, navvy.ErrInvalid) {
			t.Error(err)
		}
	})
}
