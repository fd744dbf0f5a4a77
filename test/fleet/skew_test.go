package fleet

import (
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/manager"
	"github.com/navvy-run/navvy/worker"
)

// A worker whose clock is an hour off is a worker like any other: it trusts a server
// whose certificate was made just now, keeps its leases for as long as it is there, and
// tells truly how long its tasks took. What the server decides goes by its own clock.
func TestClockSkew(t *testing.T) {
	t.Parallel()
	for name, ahead := range map[string]time.Duration{"behind": -time.Hour, "ahead": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, manager.Options{Dispatch: manager.Push, Parallelism: 8})
			s.hireSkewed(s.wire.Addr, &worker.Options{Name: "w1", Slots: 2, Dir: t.TempDir()}, ahead)
			near := client.New(s.direct())
			began := time.Now()
			long := script("sleep 3; echo ok") // longer than a lease
			long.Spec.Timeout = 5 * time.Minute
			id := s.submit(near, long, 2)
			results, texts := s.answers(near, id)
			if len(results) != 2 || texts[0]+texts[1] != "ok\nok\n" {
				t.Fatalf("%d answers: %q", len(results), texts)
			}
			for _, r := range results {
				checkSkewed(t, &r, began, ahead)
			}
			job, err := near.Get(t.Context(), id)
			s.must(err)
			if job.Status.Finished.Before(began) || job.Status.Finished.After(time.Now()) || job.Status.Expires.Before(time.Now()) {
				t.Errorf("the job ended %s, and expires %s", job.Status.Finished, job.Status.Expires)
			}

			short := script("exec sleep 600")
			short.Spec.Timeout = 200 * time.Millisecond
			results, _ = s.answers(near, s.submit(near, short, 1))
			if len(results) != 1 || results[0].Reason != navvy.ReasonTimeout {
				t.Errorf("a timeout by this clock: %+v", results)
			}
		})
	}
}

// checkSkewed checks an attempt of three seconds that a worker ran whose clock is ahead.
func checkSkewed(t *testing.T, r *navvy.Result, began time.Time, ahead time.Duration) {
	t.Helper()
	took := r.Finished.Sub(r.Started)
	if r.State != navvy.Succeeded || r.ID.Number != 1 || took < 3*time.Second || took > time.Since(began) {
		t.Errorf("attempt %d %s after %s", r.ID.Number, r.State, took)
	}
	if off := r.Started.Sub(began) - ahead; off < 0 || off > time.Since(began) {
		t.Errorf("its clock is %s off, want %s", off+ahead, ahead)
	}
}
