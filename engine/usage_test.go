package engine_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
)

// usages of attempts, and what they are together.
var (
	first    = navvy.Usage{User: time.Second, System: 2, MaxMemory: 5 << 20, Read: 1, Written: 2, Throttled: 3, MaxPIDs: 4}
	second   = navvy.Usage{User: time.Minute, System: 1, MaxMemory: 2 << 20, Read: 10, MaxPIDs: 40, OOMKills: 1}
	together = navvy.Usage{User: 61 * time.Second, System: 3, MaxMemory: 5 << 20, Read: 11, Written: 2, Throttled: 3, MaxPIDs: 40, OOMKills: 1}
)

// ended is an attempt that used something.
func ended(job *navvy.Job, index int64, number uint32, o navvy.Outcome, u navvy.Usage) engine.Ended {
	return engine.Ended{Task: navvy.TaskID{Job: job.ID, Index: index}, Attempt: navvy.Attempt{
		ID: navvy.AttemptID{Number: number, Epoch: 1}, Outcome: o, Started: time.Now(), Finished: time.Now(), Usage: u,
	}}
}

func keep(t *testing.T, e *engine.Engine, ended ...engine.Ended) {
	t.Helper()
	if _, err := e.KeepAttempts(t.Context(), ended); err != nil {
		t.Fatal(err)
	}
}

// wantUsage compares the totals, and has them compared with the records.
func wantUsage(t *testing.T, e *engine.Engine, job *navvy.Job, attempts int64, want navvy.Usage) {
	t.Helper()
	st := stateOf(t, e, job)
	if diff := cmp.Diff(want, st.Usage); st.Attempts != attempts || diff != "" {
		t.Errorf("%d attempts, want %d; usage\n%s", st.Attempts, attempts, diff)
	}
	if _, err := e.Verify(t.Context(), func(err error) { t.Error(err) }); err != nil {
		t.Error(err)
	}
}

// A job's usage is that of its failed attempts and of its answers; it stays over
// a restart, and a retry adds to it.
func TestUsageOfAJob(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	e := open(t, store)
	job := submit(t, e, noop, 2)
	wantUsage(t, e, job, 0, navvy.Usage{})
	keep(t, e, ended(job, 0, 1, navvy.OutcomeFailed, first))
	wantUsage(t, e, job, 1, first)
	r := report(job, 0, navvy.Failed)
	r.Result.ID.Number, r.Result.Usage = 2, second
	if v := e.Answer(t.Context(), []engine.Report{r, r})[0]; v.Err != nil || v.State.Usage != together {
		t.Fatalf("%+v", v)
	}
	wantUsage(t, e, job, 2, together)
	e = open(t, store)
	wantUsage(t, e, job, 2, together)
	if _, _, err := e.Retry(t.Context(), job.ID, engine.RetrySelection{}); err != nil {
		t.Fatal(err)
	}
	wantUsage(t, e, job, 2, together)
	r.Result.ID.Epoch, r.Result.Usage = 2, navvy.Usage{Written: 100}
	if v := e.Answer(t.Context(), []engine.Report{r})[0]; v.Err != nil {
		t.Fatal(v.Err)
	}
	more := together
	more.Written += 100
	wantUsage(t, e, job, 3, more)
}

// What is reported twice counts once, and what came too late does not count,
// unless it was given up before, which counts.
func TestUsageThatComesTwice(t *testing.T) {
	t.Parallel()
	e := open(t, newStore(t))
	job := submit(t, e, noop, 2)
	lost, late := ended(job, 0, 1, navvy.OutcomeLost, navvy.Usage{}), ended(job, 0, 1, navvy.OutcomeStale, first)
	keep(t, e, lost)
	wantUsage(t, e, job, 1, navvy.Usage{})
	keep(t, e, late, late)
	wantUsage(t, e, job, 1, first)
	other := late
	other.Attempt.Usage = second
	keep(t, e, other)
	wantUsage(t, e, job, 1, first)
	lost.Attempt.ID.Number, late.Attempt.ID.Number = 2, 2
	late.Attempt.Usage = second
	keep(t, e, lost, late, late)
	wantUsage(t, e, job, 2, together)
	keep(t, e, ended(job, 1, 9, navvy.OutcomeStale, second))
	wantUsage(t, e, job, 2, together)
}

// Verify tells when the totals are not those of the records.
func TestVerifyOfUsage(t *testing.T) {
	t.Parallel()
	e := open(t, newStore(t))
	job := submit(t, e, noop, 1)
	keep(t, e, ended(job, 0, 1, navvy.OutcomeFailed, first))
	keep(t, e, ended(job, 0, 1, navvy.OutcomeFailed, second)) // nobody uses an id twice
	said := ""
	if _, err := e.Verify(t.Context(), func(err error) { said += err.Error() }); err != nil || !strings.Contains(said, "counts 2 attempts that used") {
		t.Errorf("%q, %v", said, err)
	}
}
