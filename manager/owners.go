package manager

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/navvy-run/navvy"
)

// What keeps processes of different owners apart: they see nothing of each other, and
// have user ids of their own.
var (
	isolates = setOf([]navvy.Ability{navvy.AbilityIsolate})
	separate = isolates | setOf([]navvy.Ability{navvy.AbilityUser})
)

// mixes tells whether processes of different owners could do something to each other on the host.
func (h *host) mixes() bool {
	return slices.ContainsFunc(h.kinds, func(k kindSet) bool { return k.kind != navvy.KindNoop && k.set&separate != separate })
}

// missing are the abilities that the host lacks for tasks of one of its kinds. A host
// that runs tasks of their owner alone may do without an isolation nobody asked for.
func (h *host) missing(d *demand, k *kindSet) abilitySet {
	missing := d.needs &^ k.set
	if h.only != "" && h.only == d.owner && d.spec.IsolateByDefault {
		missing &^= isolates
	}
	return missing
}

// given is a job as the host runs it: not isolated, if it may do without.
func (h *host) given(j *job) *navvy.Job {
	if h.only == "" || !j.spec.IsolateByDefault || h.only != j.owner || h.enforces(j.kind, isolates) {
		return j.Job
	}
	if j.plain == nil {
		plain := *j.Job
		plain.Spec.Isolate, plain.Spec.IsolateByDefault = false, false
		j.plain = &plain
	}
	return j.plain
}

// enforces tells whether the host has all of some abilities for a kind of work.
func (h *host) enforces(kind string, set abilitySet) bool {
	return slices.ContainsFunc(h.kinds, func(k kindSet) bool { return k.kind == kind && k.set&set == set })
}

// servesLocked tells whether a task may go to the worker as far as the owners of those
// that run there are concerned: where they could do something to each other, they
// have one owner.
func (s *Session) servesLocked(d *demand) bool {
	return !s.mixes || !d.process || len(s.owners) == 0 || len(s.owners) == 1 && s.owners[d.owner] > 0
}

// serveLocked notes that one more or less process of an owner runs in the session.
func (s *Session) serveLocked(d *demand, more int) {
	if !d.process {
		return
	}
	if s.owners[d.owner] += more; s.owners[d.owner] == 0 {
		delete(s.owners, d.owner)
	}
}

// ownersLocked says whose tasks the worker runs; empty if it keeps owners apart.
func (s *Session) ownersLocked() string {
	switch {
	case s.host.only != "":
		return "runs tasks of " + s.host.only + " alone"
	case !s.mixes:
		return ""
	case len(s.owners) == 0:
		return "cannot keep owners apart: it serves one at a time"
	}
	return fmt.Sprintf("cannot keep owners apart: it serves %s now", strings.Join(slices.Sorted(maps.Keys(s.owners)), ", "))
}

// isolationHintLocked says what can be done about a job that waits for nothing but an
// isolation nobody asked for; empty if there is no such worker.
func (m *Manager) isolationHintLocked(d *demand) string {
	if !d.spec.IsolateByDefault {
		return ""
	}
	for _, s := range m.sessions {
		open := host{name: s.host.name, kinds: s.host.kinds, offer: s.host.offer, only: d.owner}
		if s.host.only == "" && open.fits(d) {
			return fmt.Sprintf("; the server isolates jobs of users: a worker that was started with --single-owner %s may run it without, or an administrator's policy lets users choose", d.owner)
		}
	}
	return ""
}
