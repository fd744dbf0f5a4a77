package api

import (
	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

func fromLimits(l *navvy.Limits) *navvyv1.Limits {
	if l.Zero() {
		return nil
	}
	m := &navvyv1.Limits{
		CpusMilli: l.CPUs, CpuShares: l.CPUShares, Memory: l.Memory, Pids: l.PIDs,
		ReadBps: l.ReadBPS, WriteBps: l.WriteBPS, ReadIops: l.ReadIOPS, WriteIops: l.WriteIOPS, Output: l.Output,
	}
	for _, u := range l.Ulimits {
		m.Ulimits = append(m.Ulimits, &navvyv1.Ulimit{Name: Text(u.Name), Soft: u.Soft, Hard: u.Hard})
	}
	return m
}

func toLimits(m *navvyv1.Limits) navvy.Limits {
	l := navvy.Limits{
		CPUs: m.GetCpusMilli(), CPUShares: m.GetCpuShares(), Memory: m.GetMemory(), PIDs: m.GetPids(),
		ReadBPS: m.GetReadBps(), WriteBPS: m.GetWriteBps(), ReadIOPS: m.GetReadIops(), WriteIOPS: m.GetWriteIops(), Output: m.GetOutput(),
	}
	for _, u := range m.GetUlimits() {
		l.Ulimits = append(l.Ulimits, navvy.Ulimit{Name: u.GetName(), Soft: u.GetSoft(), Hard: u.GetHard()})
	}
	return l
}

// FromAbilities is what a host enforces for each kind of work, as messages.
func FromAbilities(list []navvy.KindAbilities) []*navvyv1.Abilities {
	messages := make([]*navvyv1.Abilities, len(list))
	for i, a := range list {
		messages[i] = &navvyv1.Abilities{Kind: a.Kind, Lacks: Text(a.Lacks), With: Text(a.With), Absent: a.Absent, Explains: a.Explains}
		for _, one := range a.Enforces {
			messages[i].Enforces = append(messages[i].Enforces, Text(string(one)))
		}
	}
	return messages
}

// ToAbilities reads the messages.
func ToAbilities(messages []*navvyv1.Abilities) []navvy.KindAbilities {
	list := make([]navvy.KindAbilities, len(messages))
	for i, m := range messages {
		list[i] = navvy.KindAbilities{Kind: m.GetKind(), Lacks: m.GetLacks(), With: m.GetWith(), Absent: m.GetAbsent(), Explains: m.GetExplains()}
		for _, one := range m.GetEnforces() {
			list[i].Enforces = append(list[i].Enforces, navvy.Ability(one))
		}
	}
	return list
}

// FromOffer is what a worker has as a message.
func FromOffer(o *navvy.Offer) *navvyv1.Offer {
	return &navvyv1.Offer{Labels: o.Labels, CpusMilli: o.CPUs, Memory: o.Memory, Resources: o.Resources}
}

// ToOffer reads the message; Validate judges it.
func ToOffer(m *navvyv1.Offer) navvy.Offer {
	return navvy.Offer{Labels: m.GetLabels(), CPUs: m.GetCpusMilli(), Memory: m.GetMemory(), Resources: m.GetResources()}
}
