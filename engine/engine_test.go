package engine_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/engine/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open starts an engine on store.
func open(t *testing.T, store driver.Store) *engine.Engine {
	t.Helper()
	e, err := engine.Open(t.Context(), store, nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func newStore(t *testing.T) driver.Store {
	t.Helper()
	s := memory.New()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

var noop = navvy.Job{Owner: "ann", Detached: true, Spec: navvy.Spec{Noop: &navvy.Noop{}}}

func inputs(n int) [][]byte {
	list := make([][]byte, n)
	for i := range list {
		list[i] = fmt.Appendf(nil, "input %d", i)
	}
	return list
}

// submit accepts a job of n inputs.
func submit(t *testing.T, e *engine.Engine, job navvy.Job, n int) *navvy.Job {
	t.Helper()
	s, _, err := e.Submit(t.Context(), job, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Add(t.Context(), inputs(n)...); err != nil {
		t.Fatal(err)
	}
	if err := s.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s.Job()
}

func report(job *navvy.Job, index int64, state navvy.State) engine.Report {
	outcome := navvy.OutcomeSucceeded
	if state == navvy.Failed {
		outcome = navvy.OutcomeFailed
	}
	now := time.Now()
	return engine.Report{Job: job, Result: navvy.Result{
		Task: navvy.TaskID{Job: job.ID, Index: index}, State: state, Attempts: 1,
		Attempt: navvy.Attempt{ID: navvy.AttemptID{Number: 1, Epoch: 1}, Outcome: outcome, Started: now, Finished: now},
	}}
}

// answer gives one result and returns the verdict.
func answer(t *testing.T, e *engine.Engine, job *navvy.Job, index int64, state navvy.State) engine.Verdict {
	t.Helper()
	return e.Answer(t.Context(), []engine.Report{report(job, index, state)})[0]
}

func stateOf(t *testing.T, e *engine.Engine, job *navvy.Job) engine.State {
	t.Helper()
	state, err := e.State(t.Context(), job.ID)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func TestAJobIsAnsweredOnce(t *testing.T) {
	t.Parallel()
	e := open(t, newStore(t))
	job := submit(t, e, noop, 2)
	if v := answer(t, e, job, 0, navvy.Succeeded); v.Err != nil {
		t.Fatal(v.Err)
	}
	if v := answer(t, e, job, 0, navvy.Failed); !errors.Is(v.Err, navvy.ErrExists) {
		t.Fatalf("a second result: got %v, want ErrExists", v.Err)
	}
	twice := e.Answer(t.Context(), []engine.Report{report(job, 1, navvy.Failed), report(job, 1, navvy.Succeeded)})
	if twice[0].Err != nil || !errors.Is(twice[1].Err, navvy.ErrExists) {
		t.Fatalf("two results in one batch: got %v", twice)
	}
	state := stateOf(t, e, job)
	if state.Succeeded != 1 || state.Failed != 1 || !state.Ended() || state.Finished.IsZero() {
		t.Fatalf("after the last answer: %+v", state)
	}
	stale := 0
	if err := e.Attempts(t.Context(), job.ID, -1, func(_ navvy.TaskID, a *navvy.Attempt) error {
		if a.Outcome == navvy.OutcomeStale {
			stale++
		}
		return nil
	}); err != nil || stale != 2 {
		t.Fatalf("stale attempts: got %d, %v, want 2: they share an id within a task", stale, err)
	}
}

func TestInputsComeBack(t *testing.T) {
	t.Parallel()
	e := open(t, newStore(t))
	const n = 2500
	job := submit(t, e, noop, n)
	for _, i := range []int64{0, 999, 1000, 1001, n - 1} {
		chunk, err := e.Inputs(t.Context(), job.ID, i)
		if err != nil {
			t.Fatal(err)
		}
		if in, _ := chunk.Get(i); string(in) != fmt.Sprintf("input %d", i) {
			t.Fatalf("input %d: got %q", i, in)
		}
	}
	if _, err := e.Inputs(t.Context(), job.ID, n); !errors.Is(err, navvy.ErrNotFound) {
		t.Fatalf("an index behind the last: got %v", err)
	}
}

func TestALargeInputComesBack(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	e := open(t, store)
	s, _, err := e.Submit(t.Context(), noop, false)
	if err != nil {
		t.Fatal(err)
	}
	big := make([]byte, 3<<20)
	for i := range big {
		big[i] = byte(i >> 10)
	}
	if err := s.Add(t.Context(), []byte("a"), big, []byte("b")); err != nil {
		t.Fatal(err)
	}
	if err := s.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	chunk, err := e.Inputs(t.Context(), s.Job().ID, 1)
	if err != nil {
		t.Fatal(err)
	}
	if in, _ := chunk.Get(1); string(in) != string(big) {
		t.Fatal("the large input differs")
	}
}

func TestASecretSubmissionLeavesNothing(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	e := open(t, store)
	s, _, err := e.Submit(t.Context(), noop, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Add(t.Context(), inputs(2000)...); err != nil {
		t.Fatal(err)
	}
	if _, err := e.State(t.Context(), s.Job().ID); !errors.Is(err, navvy.ErrNotFound) {
		t.Fatalf("before the seal: got %v", err)
	}
	open(t, store) // as after a crash
	left := 0
	if err := store.Scan(t.Context(), driver.Range{Start: []byte{0}}, func(key, _ []byte) error {
		if key[0] != 'm' {
			left++
		}
		return nil
	}); err != nil || left != 0 {
		t.Fatalf("%d keys are left, %v", left, err)
	}
}

func TestACutStreamIsHeld(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	e := open(t, store)
	s, _, err := e.Submit(t.Context(), noop, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Add(t.Context(), inputs(3)...); err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if state := stateOf(t, e, s.Job()); !state.Open || state.Total != 3 {
		t.Fatalf("while it streams: %+v", state)
	}
	e = open(t, store)
	if state := stateOf(t, e, s.Job()); state.Open || !state.Held || !state.Cut || state.Total != 3 {
		t.Fatalf("after a crash: %+v", state)
	}
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	store := &smallDisk{Store: newStore(t)}
	store.free.Store(1 << 40)
	e := open(t, store)
	job := noop
	job.IdempotencyKey = "once"
	first := submit(t, e, job, 1)
	for _, free := range []uint64{1 << 40, 0} { // who asks for the first job takes no room
		store.free.Store(free)
		_, id, err := e.Submit(t.Context(), job, false)
		if !errors.Is(err, navvy.ErrExists) || id != first.ID {
			t.Fatalf("%d bytes are free: got %s, %v, want %s and ErrExists", free, id, err, first.ID)
		}
	}
	if _, id, err := e.Submit(t.Context(), noop, false); !errors.Is(err, navvy.ErrExhausted) || id != "" {
		t.Fatalf("another job on a full disk: %q, %v", id, err)
	}
	store.free.Store(1 << 40)
	job.Owner = "bob"
	if _, _, err := e.Submit(t.Context(), job, false); err != nil {
		t.Fatalf("another owner's key: %v", err)
	}
}

func TestStopRefusesLaterResults(t *testing.T) {
	t.Parallel()
	e := open(t, newStore(t))
	job := submit(t, e, noop, 3)
	answer(t, e, job, 0, navvy.Succeeded)
	if _, err := e.Stop(t.Context(), job.ID, "enough"); err != nil {
		t.Fatal(err)
	}
	if v := answer(t, e, job, 1, navvy.Succeeded); !errors.Is(v.Err, navvy.ErrConflict) {
		t.Fatalf("a result after stop: got %v", v.Err)
	}
	stopped := stateOf(t, e, job)
	if got := stopped.Status(e.Epoch(), 0).Counts; got != (navvy.Counts{Succeeded: 1, Stopped: 2}) {
		t.Fatalf("counts: %+v", got)
	}
	if n, state, err := e.Retry(t.Context(), job.ID, engine.RetrySelection{Failed: true}); n != 2 || err != nil || state.Pending() != 2 || state.Stopped {
		t.Fatalf("retry: %d, %+v, %v", n, state, err)
	}
	if v := answer(t, e, job, 1, navvy.Succeeded); v.Err != nil {
		t.Fatal(v.Err)
	}
}

func TestRetryMovesResultsToHistory(t *testing.T) {
	t.Parallel()
	e := open(t, newStore(t))
	job := submit(t, e, noop, 3)
	answer(t, e, job, 0, navvy.Succeeded)
	answer(t, e, job, 1, navvy.Failed)
	answer(t, e, job, 2, navvy.Failed)
	n, _, err := e.Retry(t.Context(), job.ID, engine.RetrySelection{Indexes: []int64{1}})
	if n != 1 || err != nil {
		t.Fatal(n, err)
	}
	task := navvy.TaskID{Job: job.ID, Index: 1}
	if _, err := e.Result(t.Context(), task); !errors.Is(err, navvy.ErrNotFound) {
		t.Fatalf("the old result: %v", err)
	}
	if v := answer(t, e, job, 1, navvy.Succeeded); v.Err != nil {
		t.Fatal(v.Err)
	}
	if state := stateOf(t, e, job); state.Succeeded != 2 || state.Failed != 1 || state.Round != 1 || !state.Ended() {
		t.Fatalf("%+v", state)
	}
	old := 0
	if err := e.History(t.Context(), task, func(r *navvy.Result) error {
		old++
		if r.State != navvy.Failed {
			t.Errorf("history: %+v", r)
		}
		return nil
	}); err != nil || old != 1 {
		t.Fatal(old, err)
	}
}

func TestRemoveLeavesNothing(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	e := open(t, store)
	job := submit(t, e, noop, 3)
	if err := e.Remove(t.Context(), job.ID); !errors.Is(err, navvy.ErrConflict) {
		t.Fatalf("a job that has not ended: %v", err)
	}
	if _, err := e.Stop(t.Context(), job.ID, ""); err != nil {
		t.Fatal(err)
	}
	if err := e.Remove(t.Context(), job.ID); err != nil {
		t.Fatal(err)
	}
	if v := answer(t, e, job, 1, navvy.Succeeded); !errors.Is(v.Err, navvy.ErrNotFound) {
		t.Fatalf("a late result: %v", v.Err)
	}
	if err := store.Scan(t.Context(), driver.Range{Start: []byte{'n'}}, func(key, _ []byte) error {
		t.Errorf("left: %q", key)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestAttachedJobsAreHeldByTheNextEpoch(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	e := open(t, store)
	attached := noop
	attached.Detached = false
	a, d := submit(t, e, attached, 1), submit(t, e, noop, 1)
	if s := stateOf(t, e, a); s.HeldIn(e.Epoch()) {
		t.Fatal("held while its client lives")
	}
	e = open(t, store)
	if s := stateOf(t, e, a); !s.HeldIn(e.Epoch()) {
		t.Fatal("not held after a restart")
	}
	if s := stateOf(t, e, d); s.HeldIn(e.Epoch()) {
		t.Fatal("a detached job is held")
	}
}

func TestJobsAreListedNewestFirst(t *testing.T) {
	t.Parallel()
	e := open(t, newStore(t))
	var want []navvy.JobID
	for range 5 {
		want = append([]navvy.JobID{submit(t, e, noop, 1).ID}, want...)
	}
	var got []navvy.JobID
	var before time.Time
	for {
		ids, next, err := e.Jobs(t.Context(), "ann", before, 2)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, ids...)
		if before = next; next.IsZero() {
			break
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func TestExpire(t *testing.T) {
	t.Parallel()
	now := time.Now()
	e, err := engine.Open(t.Context(), newStore(t), &engine.Options{Clock: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	read, unread := submit(t, e, noop, 1), submit(t, e, noop, 1)
	answer(t, e, read, 0, navvy.Succeeded)
	answer(t, e, unread, 0, navvy.Succeeded)
	if err := e.MarkRead(t.Context(), read.ID); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		after   time.Duration
		removed int
	}{{0, 0}, {engine.DefaultKeepRead + time.Hour, 1}, {engine.DefaultKeepUnread, 1}} {
		now = now.Add(step.after)
		if _, n, err := e.Expire(context.Background()); n != step.removed || err != nil {
			t.Fatalf("after %s: removed %d, %v; want %d", step.after, n, err, step.removed)
		}
	}
}

func TestReadJobsMakeRoom(t *testing.T) {
	t.Parallel()
	e, err := engine.Open(t.Context(), newStore(t), &engine.Options{KeepSize: 3000})
	if err != nil {
		t.Fatal(err)
	}
	var jobs []*navvy.Job
	for range 3 {
		job := submit(t, e, noop, 1)
		r := report(job, 0, navvy.Succeeded)
		r.Result.Output.Inline = make([]byte, 1000)
		if v := e.Answer(t.Context(), []engine.Report{r}); v[0].Err != nil {
			t.Fatal(v[0].Err)
		}
		jobs = append(jobs, job)
	}
	if !e.Oversized() {
		t.Fatalf("%d bytes are within the bound", e.Size())
	}
	if _, n, err := e.Expire(t.Context()); n != 0 || err != nil {
		t.Fatalf("unread jobs were removed: %d, %v", n, err)
	}
	for _, job := range jobs[1:] {
		if err := e.MarkRead(t.Context(), job.ID); err != nil {
			t.Fatal(err)
		}
	}
	if _, n, err := e.Expire(t.Context()); n != 2 || err != nil {
		t.Fatalf("removed %d, %v; want the 2 that were read", n, err)
	}
	stateOf(t, e, jobs[0]) // is still there
	if v, err := e.Verify(t.Context(), func(err error) { t.Error(err) }); err != nil || v.Jobs != 1 {
		t.Fatal(v, err)
	}
}
