package drivertest

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster"
	"github.com/navvy-run/navvy/cluster/driver"
)

// Of a cluster that there is not nothing is seen, and nothing is removed.
func testEmpty(t *testing.T, h *Harness) {
	const name = "suite-empty"
	c := h.controller(t)
	p, err := c.Plan(h.bounded(t), h.Cluster(t, name, 2, "a"))
	if err != nil {
		t.Fatal(err)
	}
	if p.Empty() || p.Count(cluster.Create) != len(p.Changes) || p.Same != 0 || p.Changes[0].Kind != driver.KindCluster {
		t.Errorf("the plan of an empty world is %q", describe(p))
	}
	if p, err := c.Destroy(h.bounded(t), name); err != nil || !p.Empty() {
		t.Errorf("to remove what there is not: %+v, %v", p, err)
	}
	if _, err := c.Status(h.bounded(t), name); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("its status: %v", err)
	}
	if list, err := c.Clusters(h.bounded(t)); err != nil || slices.Contains(list, name) {
		t.Errorf("there are %q, %v", list, err)
	}
	if left := h.Left(t, name); len(left) > 0 {
		t.Errorf("there is %q", left)
	}
}

// What a file is compiled to is the same each time, whole, and holds no secrets.
func testCompile(t *testing.T, h *Harness) {
	const name = "suite-compile"
	d := h.open(t)
	compile := func(variant, salt string) []driver.Resource {
		list, err := d.Compile(h.bounded(t), h.Cluster(t, name, 2, variant), []byte(salt))
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	const salt, other = "0123456789abcdef", "fedcba9876543210"
	list := compile("a", salt)
	if len(list) == 0 || list[0].ID != (driver.ID{Kind: driver.KindCluster, Name: name}) {
		t.Fatalf("the mark is not first: %+v", list)
	}
	if text := properties(list); text != properties(compile("a", salt)) {
		t.Errorf("compiled twice it differs:\n%s\n%s", text, properties(compile("a", salt)))
	} else if h.Secret != "" && strings.Contains(text, h.Secret) {
		t.Errorf("the secret is in %s", text)
	}
	if properties(list) == properties(compile("b", salt)) {
		t.Error("another variant is the same")
	}
	if h.Secret != "" && (properties(list) == properties(compile("secret", salt)) || properties(list) == properties(compile("a", other))) {
		t.Error("another secret, or another salt, changes nothing")
	}
	wantOrder(t, list)
}

// wantOrder checks that resources come behind what they need, the mark first, each once.
func wantOrder(t *testing.T, list []driver.Resource) {
	t.Helper()
	seen := map[driver.ID]bool{}
	for i := range list {
		r := &list[i]
		for _, need := range r.Needs {
			if !seen[need] {
				t.Errorf("%s comes before %s, which it needs", r.ID, need)
			}
		}
		if seen[r.ID] || r.Name == "" || i > 0 && len(r.Needs) == 0 {
			t.Errorf("%s is there twice, has no name, or does not need the mark", r.ID)
		}
		seen[r.ID] = true
	}
}

func properties(list []driver.Resource) string {
	var b strings.Builder
	for i := range list {
		b.WriteString(list[i].ID.String() + "\n")
		for _, d := range cluster.Differences(list[i].Properties, nil) {
			b.WriteString("  " + d.Key + ": " + d.Want + "\n")
		}
	}
	return b.String()
}

// What was applied is there, whole; once more there is nothing to do.
func testApply(t *testing.T, h *Harness) {
	const name = "suite-apply"
	c, want := h.controller(t), h.Cluster(t, name, 2, "a")
	p := h.up(t, c, want)
	if p.Count(cluster.Create) != len(p.Changes) {
		t.Errorf("it did %q", describe(p))
	}
	h.wantSame(t, c, want)
	if again, err := c.Apply(h.bounded(t), want); err != nil || !again.Empty() || again.Same != len(p.Changes) {
		t.Errorf("once more it did %q of %d, %v", describe(again), again.Same, err)
	}
	other := h.controller(t) // that was not there when it was made
	h.wantSame(t, other, want)
	if list, err := other.Clusters(h.bounded(t)); err != nil || !slices.Contains(list, name) {
		t.Errorf("there are %q, %v", list, err)
	}
	h.until(t, func() bool {
		s, err := other.Status(h.bounded(t), name)
		return err == nil && s.Health() == driver.HealthOK
	}, func() { t.Fatal("it does not get well") })
	if h.Left(t, name) == nil {
		t.Error("the harness finds nothing of what there is: it would find nothing that is left, either")
	}
	kept, err := other.Applied(h.bounded(t), name)
	if err != nil || kept.Name != name || kept.Workers.Count != want.Workers.Count {
		t.Errorf("what was applied is kept as %+v, %v", kept, err)
	}
}

// A file that was changed changes what is there.
func testChange(t *testing.T, h *Harness) {
	const name = "suite-change"
	c := h.controller(t)
	h.up(t, c, h.Cluster(t, name, 2, "a"))
	want := h.Cluster(t, name, 2, "b")
	p, err := c.Plan(h.bounded(t), want)
	if err != nil {
		t.Fatal(err)
	}
	if p.Count(cluster.Alter) == 0 || p.Count(cluster.Create) != 0 || p.Count(cluster.Remove) != 0 {
		t.Errorf("it is to do %q", describe(p))
	}
	for i := range p.Changes {
		if p.Changes[i].Action == cluster.Alter && len(p.Changes[i].Differences) == 0 {
			t.Errorf("%s is changed, and it is not said how", p.Changes[i].ID)
		}
	}
	if _, err := c.Apply(h.bounded(t), want); err != nil {
		t.Fatal(err)
	}
	h.wantSame(t, h.controller(t), want)
}

// More workers are made, and those that are too many removed; nobody needs the file for that.
func testScale(t *testing.T, h *Harness) {
	const name = "suite-scale"
	c, want := h.controller(t), h.Cluster(t, name, 1, "a")
	h.up(t, c, want)
	for _, n := range []int{3, 1} {
		if _, err := c.Scale(h.bounded(t), name, n); err != nil {
			t.Fatal(err)
		}
		h.wantSame(t, h.controller(t), h.Cluster(t, name, n, "a"))
	}
	if _, err := c.Scale(h.bounded(t), "suite-no-such", 2); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("to scale what there is not: %v", err)
	}
	if _, err := c.Scale(h.bounded(t), name, -1); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("to scale to -1: %v", err)
	}
}

// What is gone, or has failed, is seen and made again.
func testDrift(t *testing.T, h *Harness) {
	const name = "suite-drift"
	c, want := h.controller(t), h.Cluster(t, name, 2, "a")
	h.up(t, c, want)
	h.wantSame(t, c, want)
	broken := h.Break(t, name)
	h.until(t, func() bool {
		p, err := c.Plan(h.bounded(t), want)
		return err == nil && slices.ContainsFunc(p.Changes, func(c cluster.Change) bool { return c.ID == broken })
	}, func() { t.Fatalf("that %s is broken is not seen", broken) })
	if _, err := c.Apply(h.bounded(t), want); err != nil {
		t.Fatal(err)
	}
	h.wantSame(t, c, want)
}

// Nothing that is somebody else's is changed or removed.
func testForeign(t *testing.T, h *Harness) {
	const name = "suite-foreign"
	id, untouched := h.Foreign(t, name)
	c, want := h.controller(t), h.Cluster(t, name, 1, "a")
	if _, err := c.Apply(h.bounded(t), want); !errors.Is(err, navvy.ErrExists) || !strings.Contains(err.Error(), id.Name) {
		t.Errorf("in the place of %s is somebody else's: %v", id, err)
	}
	if !untouched() {
		t.Error("somebody else's was changed")
	}
	if _, err := c.Destroy(h.bounded(t), name); err != nil {
		t.Errorf("what was made beside it is not removed: %v", err)
	}
	if !untouched() {
		t.Error("somebody else's was removed")
	}
}

// Clusters do not know of each other.
func testTwo(t *testing.T, h *Harness) {
	c := h.controller(t)
	one, other := h.Cluster(t, "suite-two", 1, "a"), h.Cluster(t, "suite-two-2", 1, "a")
	h.up(t, c, one)
	h.up(t, c, other)
	if _, err := c.Destroy(h.bounded(t), one.Name); err != nil {
		t.Fatal(err)
	}
	if left := h.Left(t, one.Name); len(left) > 0 {
		t.Errorf("of the one there is left %q", left)
	}
	h.wantSame(t, c, other)
	if p, err := c.Destroy(h.bounded(t), one.Name); err != nil || !p.Empty() {
		t.Errorf("once more: %q, %v", describe(p), err)
	}
}

// Its status tells of each resource.
func testStatus(t *testing.T, h *Harness) {
	const name = "suite-status"
	c := h.controller(t)
	p := h.up(t, c, h.Cluster(t, name, 1, "a"))
	s, err := c.Status(h.bounded(t), name)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Resources) != len(p.Changes) || s.Resources[0].Kind != driver.KindCluster {
		t.Errorf("it has %+v, made were %q", s.Resources, describe(p))
	}
	for i := range s.Resources {
		if s.Resources[i].Health == "" {
			t.Errorf("it is not told how %s is", s.Resources[i].ID)
		}
	}
}
