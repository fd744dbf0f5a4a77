package manager

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/quantity"
)

// demand is what the tasks of a job ask of whoever runs them.
type demand struct {
	spec  *navvy.Spec
	kind  string     // of work
	needs abilitySet // what a host must enforce
	picky bool       // they ask for what some worker may not have: more than the kind, or one that not all have
	owner string
	// process says that they are processes, which can do to each other what they like
	// where they are not kept apart.
	process bool
}

func demandOf(j *navvy.Job) demand {
	s := &j.Spec
	d := demand{spec: s, kind: s.Kind(), needs: setOf(s.Needs()), owner: j.Owner, process: s.IsProcess()}
	d.picky = d.needs != 0 || s.Reserves() || len(s.Labels) > 0 || s.Function != nil || s.Service != nil || s.Container != nil
	return d
}

// fits tells whether the host could run such tasks if it ran nothing else.
func (h *host) fits(d *demand) bool {
	if h.only != "" && h.only != d.owner {
		return false
	}
	for i := range h.kinds {
		if h.kinds[i].kind == d.kind {
			return h.missing(d, &h.kinds[i]) == 0 && (!d.picky || h.offer.Fits(d.spec))
		}
	}
	return false
}

// why says what keeps the host from running such tasks, however long they wait.
func (h *host) why(d *demand) string {
	if h.only != "" && h.only != d.owner {
		return fmt.Sprintf("%s runs tasks of %s alone", h, h.only)
	}
	at := slices.IndexFunc(h.kinds, func(k kindSet) bool { return k.kind == d.kind })
	if at < 0 {
		return h.withoutKind(d.kind)
	}
	if h.missing(d, &h.kinds[at]) != 0 {
		return h.cannotEnforce(d, &h.kinds[at])
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(d.spec.Labels)) {
		if has, ok := h.offer.Labels[name]; !ok || has != d.spec.Labels[name] {
			parts = append(parts, fmt.Sprintf("has no label %s=%s", name, d.spec.Labels[name]))
		}
	}
	none := navvy.Offer{}
	for _, short := range shortages(h.offer, &none, d.spec) {
		parts = append(parts, "has "+short)
	}
	message := h.String() + " " + strings.Join(parts, " and ")
	if h.name == "" {
		message += ": labels and resources are what workers of a server have"
	}
	return message
}

// saidWhyNot tells whether the host has said why it runs no work of a kind that it is for.
func (h *host) saidWhyNot(kind string) bool {
	return slices.ContainsFunc(h.absent, func(k kindSet) bool { return k.kind == kind && k.lacks != "" })
}

// withoutKind says that the host runs no work of a kind, and why, if it has said so.
func (h *host) withoutKind(kind string) string {
	message := fmt.Sprintf("%s runs no work of kind %s", h, kind)
	if kind == navvy.KindFunction {
		message = h.String() + " calls no Python functions"
	}
	for _, k := range h.absent {
		if k.kind == kind && k.lacks != "" {
			return message + ": " + k.lacks
		}
	}
	return message
}

// shortages say of what an offer, less what is used of it, has not enough for an
// attempt: "2 gpu, 4 are asked for".
func shortages(o, used *navvy.Offer, s *navvy.Spec) []string {
	var list []string
	add := func(has, used, asked int64, write func(int64) string, unit string) {
		switch {
		case asked <= has-used:
		case used == 0:
			list = append(list, fmt.Sprintf("%s%s, %s are asked for", write(has), unit, write(asked)))
		default:
			list = append(list, fmt.Sprintf("%s of %s%s left, %s are asked for", write(max(0, has-used)), write(has), unit, write(asked)))
		}
	}
	if o.CPUs > 0 {
		add(o.CPUs, used.CPUs, s.Limits.CPUs, quantity.CPUs, " cpus")
	}
	if o.Memory > 0 {
		add(o.Memory, used.Memory, s.Limits.Memory, quantity.Size, " memory")
	}
	for _, name := range slices.Sorted(maps.Keys(s.Resources)) {
		add(o.Resources[name], used.Resources[name], s.Resources[name], func(n int64) string { return fmt.Sprint(n) }, " "+name)
	}
	return list
}

// hasRoomLocked tells whether the worker's share of everything is free for one more
// task of a kind that it fits, and nobody has it whom it cannot keep from that task;
// its slots are not looked at.
func (s *Session) hasRoomLocked(d *demand) bool {
	return (!d.picky || s.room.Has(d.spec)) && s.servesLocked(d)
}

// takeLocked and giveLocked note that an attempt of the job runs in the session, or no longer.
func (s *Session) takeLocked(j *job) {
	s.running++
	j.queue.running++
	s.room.Take(j.spec)
	s.serveLocked(&j.demand, 1)
}

func (s *Session) giveLocked(j *job) {
	s.running--
	j.queue.running--
	s.room.Give(j.spec)
	s.serveLocked(&j.demand, -1)
}

// absentLocked says why the worker is given no tasks at all, and may never be again;
// empty if it is there. It says the same at any time.
func (s *Session) absentLocked() string {
	switch {
	case s.leaving:
		return s.host.String() + " is leaving"
	case s.silentLocked():
		return fmt.Sprintf("%s has been silent since %s", &s.host, s.heard.UTC().Format(time.DateTime+" MST"))
	default:
		return ""
	}
}

// nobodyWhyLocked says of each worker why it takes no work, where all that could run
// it are silent or leave; empty if one is there, or if there never was one.
func (m *Manager) nobodyWhyLocked(d *demand) string {
	if m.opts.Local != nil {
		return ""
	}
	var absent, others []string
	for _, s := range m.sessions {
		switch why := s.absentLocked(); {
		case !s.host.fits(d):
			others = append(others, s.host.why(d))
		case why == "":
			return ""
		default:
			absent = append(absent, why)
		}
	}
	if len(absent) == 0 {
		return ""
	}
	return fmt.Sprintf("no worker takes work of kind %q: %s", d.kind, shortened(append(absent, others...), "do not"))
}

// noRoomWhyLocked says why no worker takes a task of the job now, of those that could run it.
func (m *Manager) noRoomWhyLocked(j *job) string {
	var whys []string
	for _, s := range m.sessions {
		if !s.host.fits(&j.demand) {
			if !j.picky && (s.host.only != "" || s.host.saidWhyNot(j.kind)) {
				whys = append(whys, s.host.why(&j.demand))
			}
			continue
		}
		switch {
		case s.absentLocked() != "":
			whys = append(whys, s.absentLocked())
		case s.quarantineLocked() != "":
			whys = append(whys, s.quarantineLocked())
		case !s.servesLocked(&j.demand):
			whys = append(whys, s.host.String()+" "+s.ownersLocked())
		case !s.hasRoomLocked(&j.demand):
			used := s.room.Used()
			whys = append(whys, s.host.String()+" has "+strings.Join(shortages(&s.info.Offer, &used, j.spec), " and "))
		case s.info.Slots > 0 && s.running >= s.info.Slots:
			whys = append(whys, fmt.Sprintf("%s has no free slot", &s.host))
		}
	}
	none := fmt.Sprintf("no worker has room for work of kind %q", j.kind)
	if len(whys) == 0 {
		return none
	}
	return none + ": " + shortened(whys, "have none")
}

// maxWhys bounds how many workers are named that cannot run a job.
const maxWhys = 3

// shortened joins what is said of workers; of those beyond the first it says but what they do.
func shortened(whys []string, others string) string {
	if more := len(whys) - maxWhys; more > 0 {
		whys = append(whys[:maxWhys], fmt.Sprintf("and %d more workers %s", more, others))
	}
	return strings.Join(whys, "; ")
}
