package manager_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/manager"
)

// container is a spec of a kind of work that not all workers have.
func container() navvy.Spec {
	return navvy.Spec{Container: &navvy.Container{Image: "img", Command: navvy.Command{Args: []string{"true"}}}}
}

// withContainers is what a worker says of itself once it runs containers, too.
func withContainers() ([]string, []navvy.KindAbilities) {
	return []string{navvy.KindNoop, navvy.KindContainer}, append(noops(""), navvy.KindAbilities{Kind: navvy.KindContainer, With: "Docker 20"})
}

func noContainers() []navvy.KindAbilities {
	return append(noops(""), navvy.KindAbilities{Kind: navvy.KindContainer, Absent: true, Lacks: "docker: nobody listens"})
}

// A job waits for a worker that says what it lacks, and goes to it once it has that; what the worker
// runs meanwhile goes on.
func TestOffers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, nil)
		s.run()
		w := s.worker("late", noContainers())
		id, err := s.submitSpec(container())
		s.must(err)
		if list := s.nextOf(w); len(list) != 0 {
			t.Errorf("it is given %v", list)
		}
		changed := s.mgr.Changes(id)
		st, err := s.mgr.Status(s.ctx, id)
		if s.must(err); !strings.Contains(st.Waiting, "worker late runs no work of kind container: docker: nobody listens") {
			t.Errorf("it waits: %s", st.Waiting)
		}
		w.Offers(withContainers())
		if list := s.nextOf(w); len(list) != 1 || list[0].Job.ID != id {
			t.Errorf("%d tasks start, should be the container", len(list))
		}
		<-changed
		if st, err := s.mgr.Status(s.ctx, id); err != nil || st.Waiting != "" {
			t.Errorf("it waits: %s, %v", st.Waiting, err)
		}
		for _, info := range s.mgr.Workers() {
			if info.Name == "late" && (info.Running != 1 || !slices.Contains(info.Kinds, navvy.KindContainer) || info.Abilities[1].With != "Docker 20") {
				t.Errorf("it is listed as %+v", info)
			}
		}
	})
}

// Where no other workers will come, a job is refused as long as this process lacks what it asks for,
// and no longer.
func TestOffersHere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		here := noContainers()
		s := newScene(t, &manager.Options{Local: func() []navvy.KindAbilities { return here }})
		s.run()
		if _, err := s.submitSpec(container()); !errors.Is(err, navvy.ErrUnsupported) || !strings.HasPrefix(err.Error(), "this machine runs no work of kind container: docker: nobody listens") {
			t.Errorf("submit: %v", err)
		}
		w := s.worker("w", here)
		var kinds []string
		kinds, here = withContainers()
		w.Offers(kinds, here)
		id, err := s.submitSpec(container())
		s.must(err)
		if list := s.nextOf(w); len(list) != 1 || list[0].Job.ID != id {
			t.Errorf("%d tasks start, should be the container", len(list))
		}
	})
}
