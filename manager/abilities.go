package manager

import (
	"fmt"
	"slices"
	"strings"
	"sync"

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
	navvy.AbilityMount, navvy.AbilityPackage,
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
	// absent are kinds that it would run if it had what they lack.
	absent []kindSet
	offer  *navvy.Offer
	only   string // the one owner whose tasks it runs; empty for all
}

func newHost(name string, kinds []string, abilities []navvy.KindAbilities, offer *navvy.Offer) host {
	h := host{name: name, kinds: make([]kindSet, len(kinds)), offer: offer}
	for i, kind := range kinds {
		h.kinds[i].kind = kind
		for _, a := range abilities {
			if a.Kind == kind {
				h.kinds[i].set, h.kinds[i].lacks = setOf(a.Enforces), a.Lacks
			}
		}
	}
	for _, a := range abilities {
		if a.Absent && !slices.Contains(kinds, a.Kind) {
			h.absent = append(h.absent, kindSet{kind: a.Kind, lacks: a.Lacks})
		}
	}
	return h
}

// String names the host in a message.
func (h *host) String() string {
	if h.name == "" {
		return "this machine"
	}
	return "worker " + h.name
}

// cannotEnforce says which of the abilities that are needed for a kind the host lacks.
func (h *host) cannotEnforce(d *demand, k *kindSet) string {
	var missing []string
	for _, a := range h.missing(d, k).list() {
		missing = append(missing, string(a))
	}
	message := fmt.Sprintf("%s cannot enforce %s for work of kind %s", h, strings.Join(missing, ", "), k.kind)
	if k.lacks != "" {
		message += ": " + k.lacks
	}
	return message
}

// Local tells what this process can enforce, where no workers but its own will
// come; nil where others may.
func (m *Manager) Local() []navvy.KindAbilities {
	abilities, _ := m.own.get()
	return abilities
}

// ownHost is this process as a host. What it can is asked once, until it is to be forgotten.
type ownHost struct {
	ask func() []navvy.KindAbilities // nil where workers of others may come

	mu        sync.Mutex
	known     bool
	abilities []navvy.KindAbilities
	host      *host
}

// get gives what it can, and what that makes of it; nil if workers of others may come.
func (o *ownHost) get() ([]navvy.KindAbilities, *host) {
	if o.ask == nil {
		return nil, nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.known {
		o.known, o.abilities = true, o.ask()
		var kinds []string
		for _, a := range o.abilities {
			if !a.Absent {
				kinds = append(kinds, a.Kind)
			}
		}
		h := newHost("", kinds, o.abilities, &navvy.Offer{})
		o.host = &h
	}
	return o.abilities, o.host
}

// forget has it asked again.
func (o *ownHost) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.known = false
}

// refuse is why a job is refused that could only wait for ever: no worker but those
// of this process will come, and they have not what it asks for.
func (m *Manager) refuse(j *navvy.Job) error {
	d := demandOf(j)
	if !d.picky {
		return nil
	}
	if _, local := m.own.get(); local != nil && !local.fits(&d) {
		return fmt.Errorf("%s: %w", local.why(&d), navvy.ErrUnsupported)
	}
	return nil
}

// unfitLocked says why nobody can run work, however long it waits: of the workers
// that there are, or if there will be no others, of this process. It is empty if
// somebody can, or if there is no worker who could be asked.
func (m *Manager) unfitLocked(d *demand) string {
	if !d.picky {
		return ""
	}
	if _, local := m.own.get(); local != nil {
		if local.fits(d) {
			return ""
		}
		return local.why(d)
	}
	var whys []string
	for _, s := range m.sessions {
		if s.host.fits(d) {
			return ""
		}
		whys = append(whys, s.host.why(d))
	}
	return shortened(whys, "cannot") + m.isolationHintLocked(d)
}

// otherWorkersLocked tells those who wait for a picky job that there are other
// workers now, which may be able to run it, or no longer.
func (m *Manager) otherWorkersLocked() {
	for _, j := range m.order {
		if j.picky {
			m.fireLocked(j.ID)
		}
	}
}
