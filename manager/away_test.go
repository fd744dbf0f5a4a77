package manager_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/manager"
)

// A task whose service is away comes back as often as it takes, after a pause, and that
// counts against nobody; one that the service refuses for good is not tried again.
func TestServiceAwayAndRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newTeam(t, "w")
		w := m.all[0]
		aways := 0
		w.ends = func(a *manager.Assignment) *navvy.Attempt {
			switch {
			case a.Job.Name == "refused":
				return &navvy.Attempt{Outcome: navvy.OutcomeFailed, Reason: navvy.ReasonRefused}
			case aways < 20:
				aways++
				return &navvy.Attempt{Outcome: navvy.OutcomeInterrupted, Reason: navvy.ReasonAway}
			}
			return nil
		}
		began := time.Now()
		id := m.submitMany("away", 1, 0)
		for m.counts(id).Succeeded == 0 {
			m.work(1)
			if time.Since(began) > time.Hour {
				t.Fatalf("after %d tries: %+v", aways, m.counts(id))
			}
		}
		if took := time.Since(began); took < 20*time.Second {
			t.Errorf("20 tries took only %s", took)
		}
		given := w.given
		refused := m.submitMany("refused", 1, 5)
		m.work(1000)
		if got := m.counts(refused); got.Failed != 1 || w.given != given+1 {
			t.Errorf("what was refused was given out %d times: %+v", w.given-given, got)
		}
	})
}

// counts are those of a job.
func (m *team) counts(id navvy.JobID) navvy.Counts {
	m.Helper()
	_, status, err := m.mgr.Job(m.ctx, id)
	m.must(err)
	return status.Counts
}
