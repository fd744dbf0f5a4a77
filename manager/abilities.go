package manager

import (
	"fmt"
	"slices"
	"strings"

	"github.com/navvy-run/navvy"
)

// abilitySet is a set of abilities, a bit for each.
type abilitySet uint32

// abilityBits are the abilities in the order of their bits. What a worker enforces
// beyond them no job of this navvy can ask for.
var abilityBits = [...]navvy.Ability{
	navvy.AbilityCPUs, navvy.AbilityCPUShares, navvy.AbilityMemory, navvy.AbilityPIDs,
	navvy.AbilityReadBPS, navvy.AbilityWriteBPS, navvy.AbilityReadIOPS, navvy.AbilityWriteIOPS,
	navvy.AbilityUlimits, navvy.AbilityIsolate, navvy.AbilityUser, navvy.AbilityNetwork,
}

// setOf makes the set of a list.
func setOf(list []navvy.Ability) abilitySet {
	var set abilitySet
	for _, a := range list {
		if i := slices.Index(abilityBits[:], a); i >= 0 {
			set |= 1 << i
		}
	}
	return set
}

// list gives the abilities of a set.
func (s abilitySet) list() []navvy.Ability {
	var list []navvy.Ability
	for i, a := range abilityBits {
		if s&(1<<i) != 0 {
			list = append(list, a)
		}
	}
	return list
}

// kindSet is what a worker enforces for one kind of work.
type kindSet struct {
	kind  string
	set   abilitySet
	lacks string
}

// host is what can be known of who might run tasks: a worker, or this process.
type host struct {
	name  string // empty for this process
	kinds []kindSet
}

func newHost(name string, kinds []string, abilities []navvy.KindAbilities) host {
	h := host{name: name, kinds: make([]kindSet, len(kinds))}
	for i, kind := range kinds {
		h.kinds[i].kind = kind
		for _, a := range abilities {
			if a.Kind == kind {
				h.kinds[i].set, h.kinds[i].lacks = setOf(a.Enforces), a.Lacks
			}
		}
	}
	return h
}

// fits tells whether the host runs such work within all that it needs.
func (h *host) fits(kind string, needs abilitySet) bool {
	for i := range h.kinds {
		if h.kinds[i].kind == kind {
			return needs&^h.kinds[i].set == 0
		}
	}
	return false
}

// why says what keeps the host from running such work.
func (h *host) why(kind string, needs abilitySet) string {
	name := "this machine"
	if h.name != "" {
		name = "worker " + h.name
	}
	at := slices.IndexFunc(h.kinds, func(k kindSet) bool { return k.kind == kind })
	if at < 0 {
		return fmt.Sprintf("%s runs no work of kind %s", name, kind)
	}
	var missing []string
	for _, a := range (needs &^ h.kinds[at].set).list() {
		missing = append(missing, string(a))
	}
	message := fmt.Sprintf("%s cannot enforce %s for work of kind %s", name, strings.Join(missing, ", "), kind)
	if lacks := h.kinds[at].lacks; lacks != "" {
		message += ": " + lacks
	}
	return message
}

// Local tells what this process can enforce, where no workers but its own will
// come; nil where others may.
func (m *Manager) Local() []navvy.KindAbilities {
	if m.opts.Local == nil {
		return nil
	}
	return m.opts.Local()
}

// localHost is this process as a host; nil if workers of others may come.
func (o *Options) localHost() *host {
	if o.Local == nil {
		return nil
	}
	var kinds []string
	abilities := o.Local()
	for _, a := range abilities {
		kinds = append(kinds, a.Kind)
	}
	h := newHost("", kinds, abilities)
	return &h
}

// refuse is why a job is refused that could only wait for ever: no worker but those
// of this process will come, and they cannot enforce what it asks for.
func (m *Manager) refuse(s *navvy.Spec) error {
	needs := setOf(s.Needs())
	if needs == 0 {
		return nil
	}
	if local := m.local(); local != nil && !local.fits(s.Kind(), needs) {
		return fmt.Errorf("%s: %w", local.why(s.Kind(), needs), navvy.ErrUnsupported)
	}
	return nil
}

// maxWhys bounds how many workers are named that cannot run a job.
const maxWhys = 3

// unfitLocked says why nobody can run work, however long it waits: of the workers
// that there are, or if there will be no others, of this process. It is empty if
// somebody can, or if there is no worker who could be asked.
func (m *Manager) unfitLocked(kind string, needs abilitySet) string {
	if needs == 0 {
		return ""
	}
	if local := m.local(); local != nil {
		if local.fits(kind, needs) {
			return ""
		}
		return local.why(kind, needs)
	}
	var whys []string
	for _, s := range m.sessions {
		if s.host.fits(kind, needs) {
			return ""
		}
		whys = append(whys, s.host.why(kind, needs))
	}
	if more := len(whys) - maxWhys; more > 0 {
		whys = append(whys[:maxWhys], fmt.Sprintf("and %d more workers cannot", more))
	}
	return strings.Join(whys, "; ")
}

// otherWorkersLocked tells those who wait for a job with needs that there are other
// workers now, which may be able to run it, or no longer.
func (m *Manager) otherWorkersLocked() {
	for _, j := range m.order {
		if j.needs != 0 {
			m.signalLocked(j.ID).fire()
		}
	}
}
