package engine

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/engine/memory"
)

// openMemory is an engine on an empty store, which is closed when the test ends.
func openMemory(t *testing.T) (*Engine, driver.Store) {
	t.Helper()
	store := memory.New()
	t.Cleanup(func() { _ = store.Close() })
	e, err := Open(t.Context(), store, nil)
	if err != nil {
		t.Fatal(err)
	}
	return e, store
}

// damage flips a byte of a stored record.
func damage(t *testing.T, store driver.Store, table byte, id navvy.JobID) {
	t.Helper()
	key := jobKey(table, id)
	stored, err := store.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	stored = slices.Clone(stored)
	stored[1] ^= 0x40 // the version
	var b driver.Batch
	b.Put(key, stored)
	if err := store.Apply(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
}

// accept accepts a job of two inputs, and answers the first so many.
func accept(t *testing.T, e *Engine, answers int) *navvy.Job {
	t.Helper()
	job := navvy.Job{Owner: "ann", IdempotencyKey: string(navvy.NewJobID()), Detached: true, Spec: navvy.Spec{Noop: &navvy.Noop{}}}
	s, _, err := e.Submit(t.Context(), job, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Add(t.Context(), []byte("a"), []byte("b")), s.Seal(t.Context())); err != nil {
		t.Fatal(err)
	}
	for i := range answers {
		v := e.Answer(t.Context(), []Report{succeeded(s.Job(), int64(i))})
		if v[0].Err != nil {
			t.Fatal(v[0].Err)
		}
	}
	return s.Job()
}

func succeeded(job *navvy.Job, index int64) Report {
	return Report{Job: job, Result: navvy.Result{
		Task: navvy.TaskID{Job: job.ID, Index: index}, State: navvy.Succeeded, Attempts: 1,
		Attempt: navvy.Attempt{ID: navvy.AttemptID{Number: 1, Epoch: 1}, Outcome: navvy.OutcomeSucceeded},
	}}
}

// keysNaming are the keys of a store that have the job's id in them or as their value.
func keysNaming(t *testing.T, store driver.Store, id navvy.JobID) []string {
	t.Helper()
	var keys []string
	err := store.Scan(t.Context(), driver.Range{End: []byte{0xff}}, func(key, value []byte) error {
		if string(value) == string(id) || containsID(key, id) {
			keys = append(keys, string(key))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func containsID(key []byte, id navvy.JobID) bool {
	for i := 0; i+idLength <= len(key); i++ {
		if string(key[i:i+idLength]) == string(id) {
			return true
		}
	}
	return false
}

// One job whose records are damaged is found, says so, stops nobody else, and can
// be removed without leaving anything.
func TestADamagedJob(t *testing.T) {
	t.Parallel()
	for name, table := range map[string]byte{"state": tableState, "job": tableJob} {
		for answers, how := range []string{"queued", "begun", "ended"} {
			t.Run(name+" of a job that has "+how, func(t *testing.T) {
				t.Parallel()
				store := memory.New()
				defer store.Close()
				now := time.Unix(1_000_000_000, 0)
				opts := &Options{Clock: func() time.Time { return now }}
				e, err := Open(t.Context(), store, opts)
				if err != nil {
					t.Fatal(err)
				}
				bad, good := accept(t, e, answers), accept(t, e, 2)
				damage(t, store, table, bad.ID)

				if e, err = Open(t.Context(), store, opts); err != nil {
					t.Fatalf("the engine does not start: %v", err)
				}
				checkDamaged(t, e, bad.ID)
				for _, id := range []navvy.JobID{bad.ID, good.ID} {
					if ids, err := e.Find(t.Context(), string(id), 4); err != nil || !slices.Equal(ids, []navvy.JobID{id}) {
						t.Errorf("find %s: %v, %v", id, ids, err)
					}
				}
				// Its time never comes; that of others does.
				now = now.Add(DefaultKeepUnread + time.Hour)
				next, removed, err := e.Expire(t.Context())
				if err != nil || removed != 1 || !next.After(now) {
					t.Errorf("expire: next %v, removed %d, %v", next, removed, err)
				}
				removeDamaged(t, e, store, bad.ID)
				if e.Size() != 0 {
					t.Errorf("without jobs the size is %d", e.Size())
				}
				if v, err := e.Verify(t.Context(), func(err error) { t.Error(err) }); err != nil || v.Jobs != 0 {
					t.Errorf("verify: %+v, %v", v, err)
				}
			})
		}
	}
}

// removeDamaged removes a job, and sees that nothing is left of it.
func removeDamaged(t *testing.T, e *Engine, store driver.Store, id navvy.JobID) {
	t.Helper()
	if err := e.RemoveDamaged(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if keys := keysNaming(t, store, id); len(keys) > 0 {
		t.Errorf("the removed job has left %q", keys)
	}
}

// checkDamaged sees that whatever is asked of a job tells that it is damaged.
func checkDamaged(t *testing.T, e *Engine, id navvy.JobID) {
	t.Helper()
	steps := map[string]func(context.Context) error{
		"job":    func(ctx context.Context) error { _, _, err := e.Job(ctx, id); return err },
		"hold":   func(ctx context.Context) error { _, err := e.Hold(ctx, id, "why"); return err },
		"stop":   func(ctx context.Context) error { _, err := e.Stop(ctx, id, "why"); return err },
		"remove": func(ctx context.Context) error { return e.Remove(ctx, id) },
	}
	for name, step := range steps {
		if err := step(t.Context()); !errors.Is(err, navvy.ErrCorrupt) {
			t.Errorf("%s: got %v, want ErrCorrupt", name, err)
		}
	}
	for owner, want := range map[string]bool{"ann": true, "bob": false} {
		if owns, err := e.Owns(t.Context(), owner, id); err != nil || owns != want {
			t.Errorf("%s owns it: %t, %v", owner, owns, err)
		}
	}
}

// What comes in for a damaged job does not hinder what comes with it.
func TestAnAnswerToADamagedJob(t *testing.T) {
	t.Parallel()
	e, store := openMemory(t)
	bad, good := accept(t, e, 0), accept(t, e, 0)
	damage(t, store, tableState, bad.ID)
	v := e.Answer(t.Context(), []Report{succeeded(bad, 0), succeeded(good, 0)})
	if !errors.Is(v[0].Err, navvy.ErrCorrupt) || v[1].Err != nil {
		t.Errorf("verdicts: %v and %v", v[0].Err, v[1].Err)
	}
	lost := func(job *navvy.Job) Ended {
		return Ended{Task: navvy.TaskID{Job: job.ID, Index: 1}, Attempt: navvy.Attempt{ID: navvy.AttemptID{Number: 1, Epoch: 1}, Outcome: navvy.OutcomeLost}}
	}
	states, err := e.KeepAttempts(t.Context(), []Ended{lost(bad), lost(good)})
	if _, known := states[bad.ID]; err != nil || known || states[good.ID].Attempts != 2 {
		t.Errorf("states %+v, %v", states, err)
	}
	for job, want := range map[*navvy.Job]int{bad: 0, good: 1} {
		n := 0
		if err := e.Attempts(t.Context(), job.ID, -1, func(navvy.TaskID, *navvy.Attempt) error { n++; return nil }); err != nil || n != want {
			t.Errorf("%d attempts are kept, want %d: %v", n, want, err)
		}
	}
}

// A start that cannot finish a retry, or settle a submission, of one job starts
// all the same, and holds that job if it can.
func TestRecoveryPassesADamagedJobOver(t *testing.T) {
	t.Parallel()
	e, store := openMemory(t)
	half, open := accept(t, e, 1), accept(t, e, 0)
	var b driver.Batch
	b.Put(jobKey(tableRetry, half.ID), []byte("no retry"))
	b.Put(jobKey(tableOpen, open.ID), nil)
	if err := store.Apply(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	damage(t, store, tableState, open.ID)
	e, err := Open(t.Context(), store, nil)
	if err != nil {
		t.Fatal(err)
	}
	if state, err := e.State(t.Context(), half.ID); err != nil || !state.Held {
		t.Errorf("the job whose retry cannot be finished: %+v, %v", state, err)
	}
	if err := e.RemoveDamaged(t.Context(), half.ID); !errors.Is(err, navvy.ErrConflict) {
		t.Errorf("remove a job that can be read: %v", err)
	}
	if err := e.RemoveDamaged(t.Context(), "nosuchjob000"); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("remove a job that does not exist: %v", err)
	}
	removeDamaged(t, e, store, open.ID)
}

// A job whose first attempts an older navvy has kept, which did not count what
// they used, is sound.
func TestVerifyAfterAnUpgrade(t *testing.T) {
	t.Parallel()
	e, store := openMemory(t)
	job := accept(t, e, 1)
	state, err := e.State(t.Context(), job.ID)
	if err != nil {
		t.Fatal(err)
	}
	state.Attempts, state.Usage = 0, navvy.Usage{}
	var b driver.Batch
	b.Put(jobKey(tableState, job.ID), encodeState(&state))
	if err := store.Apply(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	if v := e.Answer(t.Context(), []Report{succeeded(job, 1)}); v[0].Err != nil || v[0].State.Attempts != 1 {
		t.Errorf("%+v", v)
	}
	if _, err := e.Verify(t.Context(), func(err error) { t.Error(err) }); err != nil {
		t.Error(err)
	}
}
