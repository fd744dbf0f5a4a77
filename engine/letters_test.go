package engine_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/engine/memory"
)

var (
	messages = navvy.Job{
		Owner: "ann", Queue: "scores", Detached: true, Format: navvy.InputMessage, Responses: true,
		Spec: navvy.Spec{Service: &navvy.Service{Form: "echo"}},
	}
	scores = engine.Line{Queue: "scores", Owner: "ann"}
)

// letters are what waits on a side of ann's line: the tasks' indexes.
func letters(t *testing.T, e *engine.Engine, side engine.Side) (list []engine.Letter, indexes []int64) {
	t.Helper()
	list, err := e.Letters(t.Context(), scores, side, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range list {
		indexes = append(indexes, l.Task.Index)
	}
	return list, indexes
}

func refs(list []engine.Letter) (refs []engine.LetterRef) {
	for _, l := range list {
		refs = append(refs, engine.LetterRef{Task: l.Task, Round: l.Round})
	}
	return refs
}

func acknowledge(t *testing.T, e *engine.Engine, side engine.Side, refs []engine.LetterRef, want int, expires bool) {
	t.Helper()
	n, gone, err := e.Acknowledge(t.Context(), scores, side, refs)
	if err != nil || n != want || gone != expires {
		t.Errorf("acknowledged %d, expires %t, %v; want %d, %t", n, gone, err, want, expires)
	}
}

// sound sees that navvy verify finds nothing, and that there are so many letters.
func sound(t *testing.T, e *engine.Engine, want int64) {
	t.Helper()
	v, err := e.Verify(t.Context(), func(err error) { t.Error(err) })
	if err != nil || v.Letters != want {
		t.Errorf("verified %d letters, want %d: %v", v.Letters, want, err)
	}
}

// A message that is answered waits until it is acknowledged, and its job with it.
func TestLetters(t *testing.T) { //nolint:gocyclo // one life, step by step
	t.Parallel()
	store := newStore(t)
	now := time.Now()
	e, err := engine.Open(t.Context(), store, &engine.Options{Clock: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	var told []engine.Letter
	e.OnLetter(func(line engine.Line, _ engine.Side, l engine.Letter) {
		if line == scores {
			told = append(told, l)
		}
	})
	first, second := submit(t, e, messages, 3), submit(t, e, messages, 1)
	bobs := messages
	bobs.Owner = "bob"
	his := submit(t, e, bobs, 1)
	plain := submit(t, e, noop, 1)
	for _, r := range []engine.Report{
		report(second, 0, navvy.Succeeded), report(first, 2, navvy.Succeeded), report(first, 1, navvy.Failed),
		report(first, 0, navvy.Succeeded), report(his, 0, navvy.Succeeded), report(plain, 0, navvy.Succeeded),
	} {
		if v := e.Answer(t.Context(), []engine.Report{r})[0]; v.Err != nil {
			t.Fatal(v.Err)
		}
	}
	responses, indexes := letters(t, e, engine.Responses)
	if diff := cmp.Diff([]int64{0, 2, 0}, indexes); diff != "" || responses[2].Task.Job != second.ID {
		t.Errorf("they do not stand in the order of sending (-want +got):\n%s", diff)
	}
	dead, indexes := letters(t, e, engine.DeadLetters)
	if diff := cmp.Diff([]int64{1}, indexes); diff != "" || len(told) != 4 {
		t.Errorf("dead letters, with %d told of (-want +got):\n%s", len(told), diff)
	}
	if rest, err := e.Letters(t.Context(), scores, engine.Responses, responses[0].Place(), 1); err != nil || len(rest) != 1 || rest[0] != responses[1] {
		t.Errorf("behind the first there is %v, %v", rest, err)
	}
	sound(t, e, 5)

	now = now.Add(365 * 24 * time.Hour)
	if _, n, err := e.Expire(t.Context()); err != nil || n != 1 {
		t.Errorf("%d jobs expire, %v; only the one without letters should", n, err)
	}
	if err := e.MarkRead(t.Context(), first.ID); err != nil {
		t.Error(err)
	}
	his1 := []engine.LetterRef{{Task: navvy.TaskID{Job: his.ID}}}
	if _, _, err := e.Acknowledge(t.Context(), scores, engine.Responses, append(refs(responses), his1...)); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("ann acknowledges bob's: %v", err)
	}
	acknowledge(t, e, engine.Responses, refs(responses[:2]), 2, false)
	acknowledge(t, e, engine.Responses, refs(responses[:2]), 0, false)
	acknowledge(t, e, engine.DeadLetters, append(refs(dead), refs(dead)...), 1, true)
	if _, n, err := e.Expire(t.Context()); err != nil || n != 1 {
		t.Errorf("%d jobs expire, %v; the one whose letters have gone should at once", n, err)
	}
	acknowledge(t, e, engine.Responses, refs(responses[:1]), 0, false)
	e = open(t, store)
	if _, indexes = letters(t, e, engine.Responses); len(indexes) != 1 {
		t.Errorf("after a restart %d responses wait", len(indexes))
	}
	if err := e.Remove(t.Context(), second.ID); err != nil {
		t.Error(err)
	}
	sound(t, e, 1)
}

// A job with an idempotency key stays for whoever sends it again.
func TestLettersOfAKey(t *testing.T) {
	t.Parallel()
	now := time.Now()
	e, err := engine.Open(t.Context(), newStore(t), &engine.Options{Clock: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	keyed := messages
	keyed.IdempotencyKey = "once"
	job := submit(t, e, keyed, 1)
	answer(t, e, job, 0, navvy.Succeeded)
	list, _ := letters(t, e, engine.Responses)
	acknowledge(t, e, engine.Responses, refs(list), 1, true)
	now = now.Add(23 * time.Hour)
	if _, n, err := e.Expire(t.Context()); err != nil || n != 0 {
		t.Errorf("%d jobs expire, %v: another send with the key would do it all again", n, err)
	}
	if _, id, err := e.Submit(t.Context(), keyed, false); !errors.Is(err, navvy.ErrExists) || id != job.ID {
		t.Errorf("another send gives %s, %v", id, err)
	}
}

// A retry takes the letters of what runs again away, and whoever still has one of them
// acknowledges nothing by it: not what comes next.
func TestRetriedLetters(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name             string
		sel              engine.RetrySelection
		responses, again []int64 // what is left of the responses, and what is to be answered
		dead             []int64
	}{
		{"one", engine.RetrySelection{Indexes: []int64{1}}, []int64{0}, []int64{1}, []int64{3}},
		{"failed", engine.RetrySelection{Failed: true}, []int64{0}, []int64{1, 3}, nil},
		{"failed ones of those", engine.RetrySelection{Failed: true, Indexes: []int64{0, 3}}, []int64{0}, []int64{3}, []int64{1}},
		{"all", engine.RetrySelection{}, nil, []int64{0, 1, 2, 3}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := open(t, newStore(t))
			job := submit(t, e, messages, 4)
			for i, s := range []navvy.State{navvy.Succeeded, navvy.Failed, navvy.Succeeded, navvy.Failed} {
				answer(t, e, job, int64(i), s)
			}
			list, _ := letters(t, e, engine.Responses)
			old, _ := letters(t, e, engine.DeadLetters)
			acknowledge(t, e, engine.Responses, refs(list[1:]), 1, false)
			if _, _, err := e.Retry(t.Context(), job.ID, c.sel); err != nil {
				t.Fatal(err)
			}
			sound(t, e, int64(len(c.responses)+len(c.dead)))
			_, responses := letters(t, e, engine.Responses)
			_, dead := letters(t, e, engine.DeadLetters)
			if diff := cmp.Diff([][]int64{c.responses, c.dead}, [][]int64{responses, dead}); diff != "" {
				t.Errorf("what is left (-want +got):\n%s", diff)
			}
			for _, i := range c.again {
				answer(t, e, job, i, navvy.Failed)
			}
			acknowledge(t, e, engine.DeadLetters, refs(old), len(c.dead), false)
			sound(t, e, int64(len(c.responses)+len(c.again)))
		})
	}
}

// errPower is what a store says whose machine has lost its power.
var errPower = fmt.Errorf("the power is gone: %w", navvy.ErrUnavailable)

// cutStore does nothing more after a number of writes.
type cutStore struct {
	driver.Store
	left int
}

func (c *cutStore) Apply(ctx context.Context, b *driver.Batch) error {
	if c.left--; c.left < 0 {
		return errPower
	}
	return c.Store.Apply(ctx, b)
}

// Wherever a crash cuts a life of letters, each answered message waits exactly until its
// acknowledgement was told, and a retry has taken its letter or has not begun.
func TestLettersSurviveCrashes(t *testing.T) {
	t.Parallel()
	for cut := range 14 {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			t.Parallel()
			store := memory.New()
			defer store.Close()
			job := submit(t, open(t, store), messages, 3)
			e := open(t, &cutStore{store, cut + 1}) // the epoch is one
			answered, acked := map[int64]bool{}, map[int64]bool{}
			for i := range int64(3) {
				state := navvy.Succeeded
				if i == 1 {
					state = navvy.Failed
				}
				answered[i] = answer(t, e, job, i, state).Err == nil
			}
			list, _ := letters(t, e, engine.Responses)
			for _, l := range list {
				_, _, err := e.Acknowledge(t.Context(), scores, engine.Responses, refs([]engine.Letter{l}))
				acked[l.Task.Index] = err == nil
			}
			_, _, retried := e.Retry(t.Context(), job.ID, engine.RetrySelection{Failed: true})

			e = open(t, store)
			var want, dead []int64
			for _, i := range []int64{0, 2} {
				if answered[i] && !acked[i] {
					want = append(want, i)
				}
			}
			if answered[1] && stateOf(t, e, job).Round == 0 {
				dead = append(dead, 1)
			}
			if retried == nil && answered[1] && dead != nil {
				t.Error("a retry that was acknowledged has not begun")
			}
			_, responses := letters(t, e, engine.Responses)
			_, letters := letters(t, e, engine.DeadLetters)
			if diff := cmp.Diff([][]int64{want, dead}, [][]int64{responses, letters}); diff != "" {
				t.Errorf("what waits (-want +got):\n%s", diff)
			}
			sound(t, e, int64(len(want)+len(dead)))
		})
	}
}

// Those that acknowledge the same at once, in one commit or several, count it once.
func TestAcknowledgedAtOnce(t *testing.T) {
	t.Parallel()
	e := open(t, newStore(t))
	job := submit(t, e, messages, 50)
	for i := range int64(50) {
		answer(t, e, job, i, navvy.Succeeded)
	}
	list, _ := letters(t, e, engine.Responses)
	var calls sync.WaitGroup
	var mu sync.Mutex
	total, ends := 0, 0
	for range 8 {
		calls.Go(func() {
			for i := range list {
				n, expires, err := e.Acknowledge(t.Context(), scores, engine.Responses, refs(list[i:i+1]))
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				total += n
				if expires {
					ends++
				}
				mu.Unlock()
			}
		})
	}
	calls.Wait()
	if total != 50 || ends != 1 {
		t.Errorf("%d are acknowledged, and the job ends %d times", total, ends)
	}
	sound(t, e, 0)
}

// Letters that fit to nothing are found.
func TestVerifyLetters(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	e := open(t, store)
	job := submit(t, e, messages, 1)
	answer(t, e, job, 0, navvy.Succeeded)
	var key []byte
	if err := store.Scan(t.Context(), driver.Prefix([]byte("w")), func(k, _ []byte) error {
		key = append(key, k...)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*driver.Batch){
		"gone":        func(b *driver.Batch) { b.Delete(key) },
		"of nobody":   func(b *driver.Batch) { b.Put([]byte("wscores\x00ann\x00\x01short"), []byte("w\x01\x00")) },
		"other round": func(b *driver.Batch) { b.Put(key, []byte("w\x01\x07")) },
		"damaged":     func(b *driver.Batch) { b.Put(key, []byte("w\x09\x00")) },
		"other side": func(b *driver.Batch) {
			other := append([]byte{}, key...)
			other[len("wscores\x00ann\x00")] = 2
			b.Delete(key)
			b.Put(other, []byte("w\x01\x00"))
		},
	} {
		t.Run(what, func(t *testing.T) {
			value, err := store.Get(t.Context(), key)
			var bad, back driver.Batch
			change(&bad)
			for _, op := range bad.Ops {
				back.Delete(op.Key)
			}
			back.Put(key, value)
			if err = errors.Join(err, store.Apply(t.Context(), &bad)); err != nil {
				t.Fatal(err)
			}
			found := 0
			if _, err := e.Verify(t.Context(), func(error) { found++ }); err != nil || found == 0 {
				t.Errorf("%d problems found, %v", found, err)
			}
			if err := store.Apply(t.Context(), &back); err != nil {
				t.Fatal(err)
			}
		})
	}
	if err := e.RemoveDamaged(t.Context(), job.ID); !errors.Is(err, navvy.ErrConflict) {
		t.Error(err)
	}
	var damage driver.Batch
	damage.Put(append([]byte("j"), job.ID...), []byte("j\xff"))
	if err := store.Apply(t.Context(), &damage); err != nil {
		t.Fatal(err)
	}
	if err := e.RemoveDamaged(t.Context(), job.ID); err != nil {
		t.Error(err)
	}
	sound(t, e, 0)
}

// More messages than a batch can take away are no job.
func TestTooManyMessages(t *testing.T) {
	t.Parallel()
	e := open(t, newStore(t))
	s, _, err := e.Submit(t.Context(), messages, false)
	if err == nil {
		err = s.Add(t.Context(), inputs(engine.MaxMessages)...)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Add(t.Context(), []byte("one more")); !errors.Is(err, navvy.ErrInvalid) {
		t.Error(err)
	}
	if err := s.Seal(t.Context()); err != nil {
		t.Error(err)
	}
}
