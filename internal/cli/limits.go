package cli

import (
	"slices"
	"strings"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/internal/cli/format"
	"github.com/navvy-run/navvy/quantity"
)

// limitsObject are limits as -o json shows them; what has none is left out.
type limitsObject struct {
	CPUs      float64  `json:"cpus,omitempty"`
	CPUShares int64    `json:"cpu_shares,omitempty"`
	Memory    int64    `json:"memory,omitempty"` // bytes
	PIDs      int64    `json:"pids,omitempty"`
	ReadBPS   int64    `json:"read_bps,omitempty"`
	WriteBPS  int64    `json:"write_bps,omitempty"`
	ReadIOPS  int64    `json:"read_iops,omitempty"`
	WriteIOPS int64    `json:"write_iops,omitempty"`
	Output    int64    `json:"output,omitempty"` // bytes
	Ulimits   []string `json:"ulimits,omitempty"`
}

func newLimitsObject(l *navvy.Limits) *limitsObject {
	if l.Zero() {
		return nil
	}
	return &limitsObject{
		CPUs: float64(l.CPUs) / 1000, CPUShares: l.CPUShares, Memory: l.Memory, PIDs: l.PIDs,
		ReadBPS: l.ReadBPS, WriteBPS: l.WriteBPS, ReadIOPS: l.ReadIOPS, WriteIOPS: l.WriteIOPS,
		Output: l.Output, Ulimits: ulimitWords(l),
	}
}

func ulimitWords(l *navvy.Limits) []string {
	var words []string
	for _, u := range l.Ulimits {
		words = append(words, quantity.Ulimit(u))
	}
	return words
}

// limitsText is what bounds the attempts of a job, for people; empty if nothing does.
func limitsText(l *navvy.Limits) string {
	perSecond := func(n int64) string { return quantity.Size(n) + "/s" }
	var parts []string
	for _, p := range []struct {
		n     int64
		name  string
		write func(int64) string
	}{
		{l.CPUs, "cpus", quantity.CPUs}, {l.CPUShares, "cpu shares", format.Count}, {l.Memory, "memory", quantity.Size}, {l.PIDs, "processes", format.Count},
		{l.ReadBPS, "reads", perSecond}, {l.WriteBPS, "writes", perSecond},
		{l.ReadIOPS, "reads", func(n int64) string { return format.Count(n) + "/s" }},
		{l.WriteIOPS, "writes", func(n int64) string { return format.Count(n) + "/s" }},
		{l.Output, "output", quantity.Size},
	} {
		if p.n != 0 {
			parts = append(parts, p.name+" "+p.write(p.n))
		}
	}
	return strings.Join(append(parts, ulimitWords(l)...), ", ")
}

// isolationText is how the attempts of a job are separated from others; empty if they are not.
func isolationText(s *navvy.Spec) string {
	var parts []string
	if s.Isolate {
		parts = append(parts, "isolated")
	}
	if s.Network == navvy.NetworkNone {
		parts = append(parts, "no network")
	}
	return strings.Join(parts, ", ")
}

// abilitiesObject is what a host enforces for one kind of work, as -o json shows it.
type abilitiesObject struct {
	Kind     string   `json:"kind"`
	Enforces []string `json:"enforces"`
	Lacks    string   `json:"lacks,omitempty"`  // why that is not all
	Absent   bool     `json:"absent,omitempty"` // it does no such work; lacks says why
	With     string   `json:"with,omitempty"`   // what it is done with, such as the version of Python
}

func newAbilities(list []*navvyv1.Abilities) []abilitiesObject {
	objects := make([]abilitiesObject, len(list))
	for i, a := range api.ToAbilities(list) {
		objects[i] = newAbility(&a)
	}
	return objects
}

func newAbility(a *navvy.KindAbilities) abilitiesObject {
	o := abilitiesObject{Kind: a.Kind, Enforces: []string{}, Lacks: a.Lacks, Absent: a.Absent, With: a.With}
	for _, limit := range a.Enforces {
		o.Enforces = append(o.Enforces, string(limit))
	}
	return o
}

// asCommand and asService tell whether the other kind has the same abilities.
func (o *abilitiesObject) asCommand(other abilitiesObject) bool {
	return other.Kind == navvy.KindCommand && o.same(&other)
}

func (o *abilitiesObject) asService(other abilitiesObject) bool {
	return other.Kind == navvy.KindService && o.same(&other)
}

func (o *abilitiesObject) same(other *abilitiesObject) bool {
	return !o.Absent && !other.Absent && slices.Equal(o.limits(), other.limits()) && o.Lacks == other.Lacks
}

// limits are the abilities but for one that services alone have, and that bounds nothing.
func (o *abilitiesObject) limits() []string {
	return slices.DeleteFunc(slices.Clone(o.Enforces), func(name string) bool { return name == string(navvy.AbilityPackage) })
}

// abilityRows say for people which limits are enforced, and why not all. A no-op
// uses nothing that could be bounded.
func abilityRows(host string, list []abilitiesObject) [][]string {
	var rows [][]string
	for _, a := range list {
		kind := a.Kind
		switch {
		case kind == navvy.KindNoop, kind == navvy.KindService && slices.ContainsFunc(list, a.asCommand):
			continue
		case kind == navvy.KindCommand && slices.ContainsFunc(list, a.asService):
			kind += ", " + navvy.KindService
		}
		if a.Absent {
			rows = append(rows, []string{"no work", host + a.Kind + ": " + a.Lacks})
			continue
		}
		if a.With != "" {
			rows = append(rows, []string{a.Kind, host + a.With})
		}
		enforces := "none"
		if limits := a.limits(); len(limits) > 0 {
			enforces = strings.Join(limits, ", ")
		}
		rows = append(rows, []string{"limits", host + kind + ": " + enforces})
		if a.Lacks != "" {
			rows = append(rows, []string{"", "no others: " + a.Lacks})
		}
	}
	return rows
}
