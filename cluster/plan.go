package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/driver"
)

// Action is what is done to a resource.
type Action string

// What can be done. A resource that is repaired is as it should be and does not work; of one
// that is looked for nobody could tell whether it is there.
const (
	Create  Action = "create"
	Alter   Action = "change"
	Repair  Action = "repair"
	LookFor Action = "look for"
	Remove  Action = "remove"
)

// Change is what is to be done to one resource.
type Change struct {
	Action Action
	driver.ID
	// Differences are what is changed, by their keys in order.
	Differences []Difference
	// Why is what the provider says of one that is to be repaired or looked for.
	Why string
	// Holds says what is lost with one that is removed; empty for nothing.
	Holds string

	needs    []driver.ID
	resource *driver.Resource // what is put
	observed *driver.Observed // what is removed
}

// Difference is a property that is not as it should be.
type Difference struct {
	Key      string
	Is, Want string // empty if it is not there
}

// Plan is what has to be done so that there is what was described.
type Plan struct {
	Cluster string
	// Changes are in the order in which they may be made: first what is put, and what others
	// need before these; then what is removed, and what needs others before these.
	Changes []Change
	// Same is how many resources are as they should be.
	Same int
}

// Empty tells whether there is nothing to do.
func (p *Plan) Empty() bool { return len(p.Changes) == 0 }

// Count is how many changes are of an action.
func (p *Plan) Count(a Action) int {
	n := 0
	for i := range p.Changes {
		if p.Changes[i].Action == a {
			n++
		}
	}
	return n
}

// Lost lists the resources whose removal loses something, with what that is.
func (p *Plan) Lost() []Change {
	var lost []Change
	for i := range p.Changes {
		if p.Changes[i].Holds != "" {
			lost = append(lost, p.Changes[i])
		}
	}
	return lost
}

// newPlan compares what should be with what there is. The error tells of a driver that is
// wrong: needs that are not there, or go round in a circle.
func newPlan(name string, wanted []driver.Resource, world *driver.World) (*Plan, error) {
	ordered, err := order(wanted, func(r *driver.Resource) (driver.ID, []driver.ID) { return r.ID, r.Needs })
	if err != nil {
		return nil, err
	}
	observed := make(map[driver.ID]*driver.Observed, len(world.Resources))
	for i := range world.Resources {
		observed[world.Resources[i].ID] = &world.Resources[i]
	}
	going := maps.Clone(observed)
	for i := range wanted {
		delete(going, wanted[i].ID)
	}
	p := &Plan{Cluster: name}
	behind := map[driver.ID][]driver.ID{} // what those that stay wait for, by way of others
	for _, r := range ordered {
		c := compare(r, observed[r.ID], going)
		delete(observed, r.ID)
		needs := through(r.Needs, behind)
		if c == nil {
			p.Same++
			behind[r.ID] = needs
			continue
		}
		c.needs = needs
		p.Changes = append(p.Changes, *c)
	}
	p.Changes = append(p.Changes, removals(observed)...)
	return p, nil
}

// through is what has to be there before a resource, with what those need that stay as they are:
// their own needs may be made anew.
func through(needs []driver.ID, behind map[driver.ID][]driver.ID) []driver.ID {
	all := slices.Clone(needs)
	for _, id := range needs {
		for _, of := range behind[id] {
			if !slices.Contains(all, of) {
				all = append(all, of)
			}
		}
	}
	return all
}

// compare tells what has to be done to a resource; nil for nothing. What goes it must not need
// any longer.
func compare(r *driver.Resource, o *driver.Observed, going map[driver.ID]*driver.Observed) *Change {
	c := &Change{ID: r.ID, resource: r}
	if o == nil {
		c.Action, c.Differences = Create, Differences(r.Properties, nil)
		return c
	}
	c.Why = o.Detail
	c.Differences = append(Differences(r.Properties, o.Properties), differentNeeds(r, o, going)...)
	switch {
	case o.Health == driver.HealthUnknown:
		c.Action, c.Differences = LookFor, nil
	case len(c.Differences) > 0:
		c.Action, c.Why = Alter, ""
	case o.Health == driver.HealthFailed:
		c.Action = Repair
	default:
		return nil
	}
	return c
}

// Differences compares properties, by their keys in order. What one side does not have is empty
// there. Without what there is (nil), each that is wanted is one.
func Differences(want, is driver.Properties) []Difference {
	keys := maps.Clone(is)
	if keys == nil {
		keys = driver.Properties{}
	}
	maps.Copy(keys, want)
	var list []Difference
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if is == nil || is[key] != want[key] {
			list = append(list, Difference{Key: key, Is: is[key], Want: want[key]})
		}
	}
	return list
}

// differentNeeds is the difference of a resource that needs what goes.
func differentNeeds(r *driver.Resource, o *driver.Observed, going map[driver.ID]*driver.Observed) []Difference {
	names := func(list []driver.ID, which func(driver.ID) bool) string {
		var all []string
		for _, id := range list {
			if which(id) {
				all = append(all, id.String())
			}
		}
		return strings.Join(all, ", ")
	}
	is := names(o.Needs, func(id driver.ID) bool { return going[id] != nil })
	if is == "" {
		return nil
	}
	return []Difference{{Key: "needs", Is: is, Want: names(r.Needs, func(id driver.ID) bool { return !slices.Contains(o.Needs, id) })}}
}

// removals are those of all that there is, what needs others before these. What a dead
// provider or another version has left may need what is not there: then that is no matter.
func removals(observed map[driver.ID]*driver.Observed) []Change {
	list := slices.SortedFunc(maps.Values(observed), func(a, b *driver.Observed) int { return compareIDs(a.ID, b.ID) })
	ordered, err := order(list, func(o **driver.Observed) (driver.ID, []driver.ID) {
		return (*o).ID, slices.DeleteFunc(slices.Clone((*o).Needs), func(id driver.ID) bool { return observed[id] == nil })
	})
	if err == nil {
		list = make([]*driver.Observed, 0, len(ordered)) // a new one: ordered points into the old
		for _, o := range ordered {
			list = append(list, *o)
		}
	}
	slices.Reverse(list)
	// The mark goes last, whatever else is wrong: it is how the rest is found.
	slices.SortStableFunc(list, func(a, b *driver.Observed) int { return cmp.Compare(last(a), last(b)) })
	changes := make([]Change, len(list))
	for i, o := range list {
		changes[i] = Change{Action: Remove, ID: o.ID, Why: o.Detail, Holds: o.Holds, needs: o.Needs, observed: o}
	}
	return changes
}

func last(o *driver.Observed) int {
	if o.Kind == driver.KindCluster {
		return 1
	}
	return 0
}

func compareIDs(a, b driver.ID) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
}

// order puts things behind those that they need, and otherwise leaves them as they come.
func order[T any](list []T, of func(*T) (driver.ID, []driver.ID)) ([]*T, error) {
	byID := make(map[driver.ID]*T, len(list))
	for i := range list {
		id, _ := of(&list[i])
		if byID[id] != nil {
			return nil, fmt.Errorf("cluster: there are two of %s: %w", id, navvy.ErrInvalid)
		}
		byID[id] = &list[i]
	}
	s := &sorter[T]{of: of, byID: byID, state: map[driver.ID]int{}}
	for i := range list {
		if err := s.visit(&list[i]); err != nil {
			return nil, err
		}
	}
	return s.ordered, nil
}

// sorter goes through things and what they need, depth first.
type sorter[T any] struct {
	of      func(*T) (driver.ID, []driver.ID)
	byID    map[driver.ID]*T
	state   map[driver.ID]int // 1 while it is gone through, 2 after that
	ordered []*T
}

var errCircle = errors.New("they need each other")

func (s *sorter[T]) visit(t *T) error {
	id, needs := s.of(t)
	switch s.state[id] {
	case 1:
		return fmt.Errorf("cluster: %s: %w: %w", id, errCircle, navvy.ErrInvalid)
	case 2:
		return nil
	}
	s.state[id] = 1
	for _, need := range needs {
		of := s.byID[need]
		if of == nil {
			return fmt.Errorf("cluster: %s needs %s, which there is not: %w", id, need, navvy.ErrInvalid)
		}
		if err := s.visit(of); err != nil {
			return err
		}
	}
	s.state[id] = 2
	s.ordered = append(s.ordered, t)
	return nil
}
