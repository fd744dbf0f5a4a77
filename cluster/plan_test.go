package cluster

import (
	"errors"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/driver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func id(kind, name string) driver.ID { return driver.ID{Kind: kind, Name: name} }

var (
	mark   = id(driver.KindCluster, "c")
	server = id("server", "s")
	queue  = id("queue", "q")
	worker = id("worker", "1")
)

// wanted are a mark, a server, a queue on it and a worker, in the wrong order.
func wanted() []driver.Resource {
	return []driver.Resource{
		{ID: worker, Needs: []driver.ID{queue}, Properties: driver.Properties{"cpus": "2", "memory": "1G"}},
		{ID: mark},
		{ID: queue, Needs: []driver.ID{server}, Properties: driver.Properties{"service": "echo"}},
		{ID: server, Needs: []driver.ID{mark}},
	}
}

// lines tells a plan in short.
func lines(p *Plan) []string {
	var list []string
	for i := range p.Changes {
		list = append(list, string(p.Changes[i].Action)+" "+p.Changes[i].ID.String())
	}
	return list
}

func want(t *testing.T, p *Plan, err error, lists ...string) {
	t.Helper()
	if got := lines(p); err != nil || !slices.Equal(got, lists) {
		t.Errorf("the plan is %q, %v; want %q", got, err, lists)
	}
}

// What there is not is made, what others need before these.
func TestPlanEmpty(t *testing.T) {
	t.Parallel()
	p, err := newPlan("c", wanted(), &driver.World{})
	want(t, p, err, "create cluster c", "create server s", "create queue q", "create worker 1")
}

// What differs is changed, what has failed is repaired, what nobody can see is looked for, what
// nobody wants is removed, what needs others before these and the mark never before the rest.
func TestPlanDifferent(t *testing.T) {
	t.Parallel()
	other, onOther := id("queue", "old"), id("share", "old")
	p, err := newPlan("c", wanted(), &driver.World{Resources: []driver.Observed{
		{ID: mark, Health: driver.HealthOK},
		{ID: other, Needs: []driver.ID{server}, Holds: "3 requests", Health: driver.HealthOK},
		{ID: onOther, Needs: []driver.ID{other, id("gone", "g")}, Health: driver.HealthOK},
		{ID: server, Health: driver.HealthFailed, Detail: "it died"},
		{ID: queue, Health: driver.HealthUnknown, Properties: driver.Properties{"service": "cgi"}},
		{ID: worker, Health: driver.HealthFailed, Properties: driver.Properties{"cpus": "1", "beside": "it", "was": ""}},
	}})
	want(t, p, err, "repair server s", "look for queue q", "change worker 1", "remove share old", "remove queue old")
	if d := p.Changes[2].Differences; !slices.Equal(d, []Difference{{"beside", "it", ""}, {"cpus", "1", "2"}, {"memory", "", "1G"}}) {
		t.Errorf("it differs in %+v", d)
	}
	if p.Changes[0].Why != "it died" || p.Same != 1 || len(p.Lost()) != 1 || p.Lost()[0].Holds != "3 requests" {
		t.Errorf("it is because of %q, %d are as they should be, lost are %+v", p.Changes[0].Why, p.Same, p.Lost())
	}
	p, err = newPlan("c", nil, &driver.World{Resources: []driver.Observed{{ID: mark}, {ID: worker, Needs: []driver.ID{queue}}, {ID: queue, Needs: []driver.ID{worker}}, {ID: server}}})
	if err != nil || len(p.Changes) != 4 || p.Changes[3].ID != mark {
		t.Errorf("what needs each other is removed as %q, %v", lines(p), err)
	}
}

// A driver that is wrong is told so, and nothing is done.
func TestPlanWrong(t *testing.T) {
	t.Parallel()
	for name, list := range map[string][]driver.Resource{
		"twice":   {{ID: mark}, {ID: mark}},
		"nothing": {{ID: worker, Needs: []driver.ID{queue}}},
		"circle":  {{ID: worker, Needs: []driver.ID{queue}}, {ID: queue, Needs: []driver.ID{worker}}},
	} {
		if _, err := newPlan("c", list, &driver.World{}); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What needs what goes is put again before that, though it is as it should be otherwise.
func TestPlanNeeds(t *testing.T) {
	t.Parallel()
	old := id("queue", "old")
	p, err := newPlan("c", wanted(), &driver.World{Resources: []driver.Observed{
		{ID: mark, Health: driver.HealthOK}, {ID: server, Needs: []driver.ID{mark}, Health: driver.HealthOK}, {ID: old, Needs: []driver.ID{server}, Health: driver.HealthOK},
		{ID: worker, Needs: []driver.ID{server, old}, Health: driver.HealthOK, Properties: driver.Properties{"cpus": "2", "memory": "1G"}},
	}})
	want(t, p, err, "create queue q", "change worker 1", "remove queue old")
	if d := p.Changes[1].Differences; !slices.Equal(d, []Difference{{"needs", "queue old", "queue q"}}) {
		t.Errorf("it differs in %+v", d)
	}
}

// Each is removed once, also where the order of names is not that of needs.
func TestPlanRemovesEach(t *testing.T) {
	t.Parallel()
	insights, share, workspace := id("insights", "i"), id("share", "s"), id("workspace", "w")
	world := &driver.World{Resources: []driver.Observed{
		{ID: mark}, {ID: insights, Needs: []driver.ID{workspace}}, {ID: share, Needs: []driver.ID{mark}},
		{ID: worker, Needs: []driver.ID{insights, share}}, {ID: workspace, Needs: []driver.ID{mark}},
	}}
	p, err := newPlan("c", nil, world)
	want(t, p, err, "remove worker 1", "remove share s", "remove insights i", "remove workspace w", "remove cluster c")
	for i := range p.Changes {
		if c := &p.Changes[i]; c.observed.ID != c.ID {
			t.Errorf("%s would remove %s", c.ID, c.observed.ID)
		}
	}
}
