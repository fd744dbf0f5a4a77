package drivertest

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/navvy-run/navvy/cluster"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
)

// with is a file like another one, with a change.
func with(c *config.Cluster, change func(*config.Cluster)) *config.Cluster {
	other := *c
	other.Workers.Environment = maps.Clone(c.Workers.Environment)
	change(&other)
	return &other
}

// rename gives the queue of the requests another name.
func rename(c *config.Cluster) { c.Queue.Request = "suite-another-name" }

// holds tells whether a plan would lose what a resource holds, and says so.
func holds(p *cluster.Plan, id driver.ID) bool {
	return slices.ContainsFunc(p.Lost(), func(c cluster.Change) bool { return c.ID == id && c.Action == cluster.Remove })
}

// wantHeld checks that to destroy a cluster would lose what a resource holds.
func (h *Harness) wantHeld(t *testing.T, c *cluster.Controller, name string, id driver.ID) {
	t.Helper()
	var p *cluster.Plan
	h.until(t, func() bool {
		var err error
		if p, err = c.PlanDestroy(h.bounded(t), name); err != nil {
			t.Fatal(err)
		}
		return holds(p, id)
	}, func() {
		t.Fatalf("%s holds something, and is not said to: %q, lost are %+v", id, describe(p), p.Lost())
	})
}

// What holds something goes only with whoever says that it may be lost, and not if what comes in
// its place could not be made.
func testHolds(t *testing.T, h *Harness) {
	wants(t, "Hold", h.Hold != nil, h.NoHold, "what resources hold is lost without a word")
	const name = "suite-holds"
	want := h.Cluster(t, name, 1, "a")
	renamed := with(want, rename)
	c := h.controller(t)
	h.up(t, c, want)
	id := h.Hold(t, name)
	h.wantHeld(t, c, name, id)

	careful := cluster.New(h.open(t), &cluster.Options{Who: "suite", Wait: h.Patience})
	for what, change := range map[string]func() (*cluster.Plan, error){
		"destroy": func() (*cluster.Plan, error) { return careful.Destroy(h.bounded(t), name) },
		"rename":  func() (*cluster.Plan, error) { return careful.Apply(h.bounded(t), renamed) },
	} {
		p, err := change()
		if lose, is := errors.AsType[*cluster.LoseError](err); !is || !holds(p, id) || len(lose.Lost) != len(p.Lost()) {
			t.Errorf("%s: it was not refused for the sake of %s: %v", what, id, err)
		}
	}
	h.wantSame(t, c, want)
	h.wantHeld(t, c, name, id)

	other := h.Cluster(t, name, 1, "b")
	if _, err := careful.Apply(h.bounded(t), other); err != nil {
		t.Errorf("a change that loses nothing: %v", err)
	}
	h.wantHeld(t, c, name, id)
	if _, err := h.over(t, &faulty{Driver: h.open(t), left: 1}).Apply(h.bounded(t), renamed); !errors.Is(err, errInjected) {
		t.Errorf("it failed with %v", err)
	}
	h.wantHeld(t, c, name, id)
	if _, err := c.Apply(h.bounded(t), renamed); err != nil {
		t.Error(err)
	}
	h.wantSame(t, c, renamed)
}

// What is taken out of the file is seen, and taken away.
func testTakenAway(t *testing.T, h *Harness) {
	const name = "suite-taken"
	want := h.Cluster(t, name, 1, "a")
	less := with(want, func(c *config.Cluster) { c.Workers.Environment = nil })
	if len(want.Workers.Environment) == 0 {
		t.Fatal("workers of variant a have no environment, so nobody looks whether what a file has no more is taken away")
	}
	c := h.controller(t)
	h.up(t, c, want)
	for _, next := range []*config.Cluster{less, want} {
		p, err := c.Plan(h.bounded(t), next)
		if err != nil {
			t.Fatal(err)
		}
		if p.Count(cluster.Create)+p.Count(cluster.Remove) > 0 || !slices.ContainsFunc(p.Changes, func(c cluster.Change) bool {
			return c.Kind != driver.KindCluster && len(c.Differences) > 0
		}) {
			t.Errorf("of another environment, %d variables, is seen %q", len(next.Workers.Environment), describe(p))
		}
		if _, err := c.Apply(h.bounded(t), next); err != nil {
			t.Fatal(err)
		}
		h.wantSame(t, h.controller(t), next)
	}
}

// A queue of another name is another queue.
func testRenamed(t *testing.T, h *Harness) {
	const name = "suite-renamed"
	want := h.Cluster(t, name, 2, "a")
	h.up(t, h.controller(t), want)
	for _, next := range []*config.Cluster{with(want, rename), want} {
		p := h.inOrder(t, next)
		made := slices.IndexFunc(p.Changes, func(c cluster.Change) bool { return c.Action == cluster.Create && c.Name == next.Queue.Request })
		if gone := p.Count(cluster.Remove); made < 0 || gone != 1 {
			t.Errorf("it did %q", describe(p))
		}
	}
}

// Queues of another kind take the place of those that there were, and back.
func testKinds(t *testing.T, h *Harness) {
	wants(t, "Another", h.Another != nil, h.NoAnother, "queues of before stay, or go too early, when a file has others")
	const name = "suite-kinds"
	want := h.Cluster(t, name, 2, "a")
	another := with(want, func(c *config.Cluster) { h.Another(t, c) })
	h.up(t, h.controller(t), want)
	for _, next := range []*config.Cluster{another, want} {
		if p := h.inOrder(t, next); p.Empty() {
			t.Error("it did nothing")
		}
	}
}

// inOrder applies a file, and checks that each change was begun when what it needs was there,
// and that nothing was removed before all was made.
func (h *Harness) inOrder(t *testing.T, want *config.Cluster) *cluster.Plan {
	t.Helper()
	d := h.open(t)
	list, err := d.Compile(h.bounded(t), want, []byte("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	needs := map[driver.ID][]driver.ID{}
	for i := range list {
		needs[list[i].ID] = list[i].Needs
	}
	w := &watch{over: map[driver.ID]bool{}, waiting: map[driver.ID]bool{}}
	p, err := cluster.New(d, &cluster.Options{
		Who: "suite", Lose: true, Wait: h.Patience, Planned: w.planned,
		Tell: func(e cluster.Event) { w.tell(t, e, needs) },
	}).Apply(h.bounded(t), want)
	if err != nil {
		t.Fatal(err)
	}
	h.wantSame(t, h.controller(t), want)
	return p
}

// watch looks at the order of changes.
type watch struct {
	mu            sync.Mutex
	over, waiting map[driver.ID]bool // of what is put
}

func (w *watch) planned(p *cluster.Plan) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range p.Changes {
		if p.Changes[i].Action != cluster.Remove {
			w.waiting[p.Changes[i].ID] = true
		}
	}
}

func (w *watch) tell(t *testing.T, e cluster.Event, needs map[driver.ID][]driver.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case e.Phase == cluster.Done && e.Change.Action != cluster.Remove:
		w.over[e.Change.ID] = true
	case e.Phase != cluster.Begun:
	case e.Change.Action == cluster.Remove && len(w.over) < len(w.waiting):
		t.Errorf("%s was removed when %d of %d changes were made", e.Change.ID, len(w.over), len(w.waiting))
	default:
		for _, need := range needs[e.Change.ID] {
			if w.waiting[need] && !w.over[need] {
				t.Errorf("%s was put before %s, which it needs", e.Change.ID, need)
			}
		}
	}
}
