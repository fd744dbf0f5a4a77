package sim

import (
	"fmt"
	"maps"
	"slices"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
)

// entries is what is registered: values by name.
type entries map[string]string

// registered is what the registry should hold: this, or, after a call that was
// cut, perhaps one of those.
type registered struct {
	sure  entries
	maybe []entries
}

// register makes one or two changes of the registry together.
func (s *sim) register() {
	if !s.lookAtRegistry() {
		return
	}
	r := &s.model.registered
	after, fits := maps.Clone(r.sure), true
	if after == nil {
		after = entries{}
	}
	var changes []engine.Change
	for _, i := range s.rng.Perm(5)[:1+s.rng.IntN(2)] {
		c, holds := s.drawChange(fmt.Sprint("entry ", i))
		fits = fits && holds
		if delete(after, c.Name); !c.Delete {
			after[c.Name] = string(c.Value)
		}
		changes = append(changes, c)
	}
	err := s.eng.Registry().Apply(s.ctx, changes...)
	s.note("register %v: %v", after, err)
	switch s.call("register", err, navvy.ErrNotFound, navvy.ErrExists, navvy.ErrConflict) {
	case cut:
		if fits {
			r.maybe = append(r.maybe, after)
		}
	case refused:
		if fits {
			s.violate(ruleRegistry, "a change whose conditions hold: %v", err)
		}
	case done:
		if !fits {
			s.violate(ruleRegistry, "a change whose conditions do not hold is made: %v of %v", changes, r.sure)
		}
		r.sure = after
	}
}

// drawChange gives a change of one entry, and tells whether its condition holds.
func (s *sim) drawChange(name string) (c engine.Change, holds bool) {
	c = engine.Change{Kind: engine.KindToken, Name: name, Value: fmt.Appendf(nil, "step %d", s.steps)}
	old, exists := s.model.registered.sure[name]
	switch s.rng.IntN(4) {
	case 0:
		c.Delete = true
	case 1:
		c.IfAbsent = true
		return c, !exists
	case 2:
		c.IfEqual = []byte(old)
		if s.chance(20) {
			c.IfEqual = []byte("something else")
		}
		return c, exists && old == string(c.IfEqual)
	}
	return c, true
}

// lookAtRegistry compares what is registered with what should be, and settles
// what a cut call has left open; false if it could not see it, or did not like it.
func (s *sim) lookAtRegistry() bool {
	list, _, err := s.eng.Registry().List(s.ctx, engine.KindToken, "", "", 100)
	if !s.read("list the registry", err) {
		return false
	}
	got := entries{}
	for _, entry := range list {
		got[entry.Name] = string(entry.Value)
		alone, err := s.eng.Registry().Get(s.ctx, entry.Kind, entry.Name)
		if !s.read("read the registry", err) {
			return false
		}
		if string(alone.Value) != string(entry.Value) {
			s.violate(ruleRegistry, "%s is %q alone and %q in the list", entry.Name, alone.Value, entry.Value)
		}
	}
	r := &s.model.registered
	if !maps.Equal(got, r.sure) && !slices.ContainsFunc(r.maybe, func(e entries) bool { return maps.Equal(got, e) }) {
		s.violate(ruleRegistry, "it holds %v, should hold %v or one of %v", got, r.sure, r.maybe)
	}
	r.sure, r.maybe = got, nil
	return s.bad == nil
}
