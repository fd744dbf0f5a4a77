package manager_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/manager"
)

// What an attempt used that will be made again shows at once, not first with an answer.
func TestUsageOfAServedJob(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, nil)
		s.run()
		id := s.submit(navvy.Job{Detached: true}, 1)
		for i := range int64(2) {
			a := s.next()[0]
			s.must(s.session.Done(s.ctx, []manager.Finished{{
				Task:    navvy.TaskID{Job: id, Index: a.Index},
				Attempt: navvy.Attempt{ID: a.Attempt, Outcome: navvy.OutcomeInterrupted, Usage: navvy.Usage{User: time.Second}},
			}}))
			synctest.Wait()
			st, err := s.mgr.Status(s.ctx, id)
			if s.must(err); st.Attempts != i+1 || st.Usage.User != time.Duration(i+1)*time.Second {
				t.Errorf("after %d attempts: %d, %+v", i+1, st.Attempts, st.Usage)
			}
		}
	})
}
