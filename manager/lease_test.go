package manager_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/manager"
)

// A lease is over when its attempt has ended or its time has run out, and whoever asked
// is told; another worker has never had it.
func TestLeased(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := returning(t)
		s.run()
		id := s.submit(navvy.Job{Detached: true}, 2)
		list := s.next()
		refs := make([]manager.Ref, 2)
		overs := make([]<-chan struct{}, 2)
		for i, a := range list {
			refs[i] = manager.Ref{Task: navvy.TaskID{Job: id, Index: a.Index}, Attempt: a.Attempt}
			owner, over, err := s.mgr.Leased("w", refs[i])
			if err != nil || owner != "ann" {
				t.Fatalf("%q, %v", owner, err)
			}
			overs[i] = over
			if _, _, err := s.mgr.Leased("v", refs[i]); !errors.Is(err, navvy.ErrLeaseLost) {
				t.Errorf("another worker: %v", err)
			}
		}
		time.Sleep(30 * time.Minute) //nolint:forbidigo // in a bubble, where it takes no time
		s.session.Alive(refs)
		s.report(0, list[0])
		<-overs[0]
		if _, _, err := s.mgr.Leased("w", refs[1]); err != nil {
			t.Errorf("the other one, whose lease was renewed: %v", err)
		}
		<-overs[1]
		if _, _, err := s.mgr.Leased("", refs[1]); !errors.Is(err, navvy.ErrLeaseLost) {
			t.Errorf("a lease that ran out: %v", err)
		}
	})
}
