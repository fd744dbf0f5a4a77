package manager_test

import (
	"testing"
	"testing/synctest"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/manager"
)

// Detached work that waits elsewhere, as a container for a node, keeps nothing from running.
func TestDetachedElsewhere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, nil)
		s.session.Close()
		s.session = s.mgr.Attach(manager.Worker{
			Name: "both", Kinds: []string{navvy.KindNoop, navvy.KindContainer},
			Abilities: []navvy.KindAbilities{{Kind: navvy.KindNoop}, {Kind: navvy.KindContainer, Explains: true}},
		})
		s.run()
		waits := func() {
			sub, _, err := s.mgr.Submit(s.ctx, navvy.Job{
				Owner: "ann", Detached: true, Parallelism: 1, Spec: navvy.Spec{Container: &navvy.Container{Image: "busybox"}},
			}, false)
			s.must(err)
			for range 2 {
				s.must(sub.Add(s.ctx, nil))
			}
			s.must(sub.Seal(s.ctx))
		}
		waits()
		if list := s.next(); len(list) != 1 {
			t.Fatalf("%d containers start, not as many as the job has at once", len(list))
		}
		waits()
		if list := s.next(); len(list) != 1 {
			t.Errorf("%d containers of another job start", len(list))
		}
		s.submit(navvy.Job{Detached: true, Parallelism: 1}, 2)
		if list := s.next(); len(list) != 1 || list[0].Job.Spec.Noop == nil {
			t.Errorf("%d tasks of this machine start, not as many as the job has at once", len(list))
		}
		s.submit(navvy.Job{Detached: true, Parallelism: 1}, 1)
		if list := s.next(); len(list) != 0 {
			t.Errorf("%d tasks start beside it, for which there is no room", len(list))
		}
	})
}
