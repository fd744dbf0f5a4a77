package policy

import (
	"cmp"
	"fmt"

	"github.com/navvy-run/navvy"
)

// Isolation says whether jobs that come over the network are isolated.
type Isolation string

// The ways of isolation.
const (
	IsolateOn     Isolation = "on"     // they are, and may not ask for the opposite
	IsolateChoose Isolation = "choose" // they are, unless they ask for the opposite
	IsolateOff    Isolation = "off"    // those are that ask for it
)

// Isolation is that of a role. It defaults to IsolateOff for Admin, else to IsolateOn.
func (p *Policy) Isolation(role Role) Isolation {
	usual := IsolateOn
	if role == Admin {
		usual = IsolateOff
	}
	if p == nil || p.rules[role] == nil {
		return usual
	}
	return cmp.Or(p.rules[role].isolate, usual)
}

// requiresIsolation tells whether all jobs of a role are isolated, wherever they come from.
func (p *Policy) requiresIsolation(role Role) bool {
	return p != nil && p.rules[role] != nil && p.rules[role].require.isolate
}

// Isolate decides whether a role's job that does not ask for isolation gets it, before
// Apply. remote says that it comes over the network, not that it asks for the opposite:
// where that is not allowed, the error wraps navvy.ErrDenied. Kinds of work that are
// no process are not concerned.
func (p *Policy) Isolate(role Role, s *navvy.Spec, remote, not bool) error {
	s.IsolateByDefault = false
	if p.requiresIsolation(role) {
		if not {
			return p.notOptional(role)
		}
		return nil // Apply sees to it
	}
	if s.Isolate || !s.IsProcess() || !remote {
		return nil
	}
	switch p.Isolation(role) {
	case IsolateOff:
		return nil
	case IsolateChoose:
		if not {
			return nil
		}
	default:
		if not {
			return p.notOptional(role)
		}
	}
	s.Isolate, s.IsolateByDefault = true, true
	return nil
}

// notOptional refuses a job that asks not to be isolated.
func (p *Policy) notOptional(role Role) error {
	const message = "isolation is not optional for jobs of role %s"
	if p == nil {
		return fmt.Errorf(message+"; role admin may do without it, and whoever runs the server can let others choose, by a policy with \"isolate: choose\" (docs/policy.md): %w", role, navvy.ErrDenied)
	}
	admin := role != Admin && !p.requiresIsolation(Admin) && p.Isolation(Admin) != IsolateOn
	return p.denied(admin, message, role)
}
