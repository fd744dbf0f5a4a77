package sim

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
)

// values is what an owner's key-value store should hold: this, or, after a call
// that was cut, perhaps one of those.
type values struct {
	sure  shelf
	maybe []shelf
}

// shelf is values with their versions, by key, and the number of the last change.
type shelf struct {
	version uint64
	held    map[string]string
}

func (a shelf) equal(b shelf) bool { return a.version == b.version && maps.Equal(a.held, b.held) }

// changeValue puts or deletes a value, under a condition or not.
func (s *sim) changeValue() {
	if !s.lookAtValues() {
		return
	}
	m := &s.model.values
	key := fmt.Sprint("key ", s.rng.IntN(4))
	_, exists := m.sure.held[key]
	after := shelf{m.sure.version + 1, maps.Clone(m.sure.held)}
	var cond engine.Condition
	fits, deletes := true, false
	switch s.rng.IntN(4) {
	case 0:
		deletes, fits = true, exists
	case 1:
		cond.IfAbsent, fits = true, !exists
	case 2:
		cond.IfVersion, fits = after.version, false // nothing has it yet
	}
	store := s.eng.Values("ann")
	var err error
	if deletes {
		delete(after.held, key)
		_, err = store.Delete(s.ctx, key, 0)
	} else {
		value := fmt.Sprint("step ", s.steps)
		after.held[key] = fmt.Sprintf("%d: %s", after.version, value)
		_, err = store.Put(s.ctx, key, []byte(value), cond)
	}
	s.note("change %s to %v: %v", key, after, err)
	switch s.call("change a value", err, navvy.ErrNotFound, navvy.ErrExists, navvy.ErrConflict, navvy.ErrExhausted) {
	case cut:
		if fits {
			m.maybe = append(m.maybe, after)
		}
	case refused:
		if fits && !errors.Is(err, navvy.ErrExhausted) { // the disk may be full
			s.violate(ruleValues, "a change whose conditions hold: %v", err)
		}
	case done:
		if !fits {
			s.violate(ruleValues, "a change of %s whose conditions do not hold is made: %v", key, m.sure)
		}
		m.sure = after
	}
}

// lookAtValues compares what there is with what should be, and settles what a cut
// call has left open; false if it could not see it, or did not like it.
func (s *sim) lookAtValues() bool {
	stored, err := s.eng.Values("ann").Shelf(s.ctx)
	if !s.read("read how values stand", err) {
		return false
	}
	list, _, err := s.eng.Values("ann").List(s.ctx, "", "", 100)
	if !s.read("list values", err) {
		return false
	}
	got := shelf{stored.Version, map[string]string{}}
	for _, v := range list {
		got.held[v.Key] = fmt.Sprintf("%d: %s", v.Version, v.Bytes)
	}
	m := &s.model.values
	if !got.equal(m.sure) && !slices.ContainsFunc(m.maybe, got.equal) {
		s.violate(ruleValues, "it holds %v, should hold %v or one of %v", got, m.sure, m.maybe)
	}
	m.sure, m.maybe = got, nil
	return s.bad == nil
}
