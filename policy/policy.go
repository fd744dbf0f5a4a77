// Package policy says what the jobs of whom may use: what they get that they do
// not ask for, the most that they may ask for, and what they must have. It is a
// file that an administrator writes, docs/policy.md; whoever accepts jobs applies it.
package policy

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/quantity"
)

// Role is what somebody is allowed to.
type Role string

// The roles.
const (
	User  Role = "user"  // a standard user
	Admin Role = "admin" // may set limits up to the host's, but for what the policy says
)

// Policy is what holds for each role. Nil allows everything; one is not changed
// once it is made, and its methods may be called at once.
type Policy struct {
	file  string
	local Role
	rules map[Role]*rules
}

// rules are those of one role. A zero says nothing.
type rules struct {
	defaults, ceilings navvy.Spec // as far as fields and ulimits go
	network            string     // by default
	isolate            Isolation  // of jobs that come over the network
	images             []string   // that containers may be of, with * in them; nil: any
	namespaces         []string   // that containers may name, likewise
	require            struct {
		isolate bool
		network string
	}
}

// field is a limit that is one number.
type field struct {
	name  string // of the flag, and of the key in the file
	of    func(*navvy.Spec) *int64
	parse func(string) (int64, error)
	write func(int64) string
	unset int64 // what the zero stands for; 0 if that is no limit
}

var fields = []field{
	{"cpus", func(s *navvy.Spec) *int64 { return &s.Limits.CPUs }, quantity.ParseCPUs, quantity.CPUs, 0},
	{"cpu-shares", func(s *navvy.Spec) *int64 { return &s.Limits.CPUShares }, quantity.ParseCount, number, navvy.DefaultCPUShares},
	{"memory", func(s *navvy.Spec) *int64 { return &s.Limits.Memory }, quantity.ParseSize, quantity.Size, 0},
	{"pids-limit", func(s *navvy.Spec) *int64 { return &s.Limits.PIDs }, quantity.ParseCount, number, 0},
	{"device-read-bps", func(s *navvy.Spec) *int64 { return &s.Limits.ReadBPS }, quantity.ParseSize, perSecond, 0},
	{"device-write-bps", func(s *navvy.Spec) *int64 { return &s.Limits.WriteBPS }, quantity.ParseSize, perSecond, 0},
	{"device-read-iops", func(s *navvy.Spec) *int64 { return &s.Limits.ReadIOPS }, quantity.ParseCount, number, 0},
	{"device-write-iops", func(s *navvy.Spec) *int64 { return &s.Limits.WriteIOPS }, quantity.ParseCount, number, 0},
	{"output-limit", func(s *navvy.Spec) *int64 { return &s.Limits.Output }, quantity.ParseSize, quantity.Size, 0},
	{"timeout", func(s *navvy.Spec) *int64 { return (*int64)(&s.Timeout) }, duration, span, 0},
	{"grace", func(s *navvy.Spec) *int64 { return (*int64)(&s.Grace) }, duration, span, int64(navvy.DefaultGrace)},
}

func number(n int64) string    { return fmt.Sprint(n) }
func perSecond(n int64) string { return quantity.Size(n) + "/s" }
func span(n int64) string      { return time.Duration(n).String() }

func duration(text string) (int64, error) {
	d, err := quantity.ParseDuration(text)
	return int64(d), err
}

// Local is the role of whoever runs navvy on a data directory, without a server.
// Defaults to Admin.
func (p *Policy) Local() Role {
	if p == nil {
		return Admin
	}
	return cmp.Or(p.local, Admin)
}

// File is where the policy was read from; empty if there is none.
func (p *Policy) File() string {
	if p == nil {
		return ""
	}
	return p.file
}

// Apply makes a spec what the policy wants of a role's jobs. The error wraps
// navvy.ErrDenied if it asks for more than it may, and says for what, how much
// that is and who can raise it.
func (p *Policy) Apply(role Role, s *navvy.Spec) error {
	if p == nil || p.rules[role] == nil {
		return nil
	}
	r := p.rules[role]
	for i := range fields {
		if err := p.bound(role, &fields[i], s); err != nil {
			return err
		}
	}
	if err := p.boundUlimits(role, s); err != nil {
		return err
	}
	if err := p.allowImage(role, s); err != nil {
		return err
	}
	if err := p.allowNamespace(role, s); err != nil {
		return err
	}
	s.Isolate = s.Isolate || r.require.isolate && s.Container == nil // a container is set apart by its cluster
	s.Network = cmp.Or(s.Network, r.require.network, r.network)
	if want := r.require.network; want != "" && s.Network != want {
		admin := p.rules[Admin]
		may := role != Admin && (admin == nil || admin.require.network == "" || admin.require.network == s.Network)
		return p.denied(may, "network %s is not for jobs of role %s, only %s is", s.Network, role, want)
	}
	return nil
}

// bound applies the default and the ceiling of one limit.
func (p *Policy) bound(role Role, f *field, s *navvy.Spec) error {
	r, value := p.rules[role], f.of(s)
	if *value == 0 {
		*value = *f.of(&r.defaults)
	}
	ceiling := *f.of(&r.ceilings)
	switch {
	case ceiling == 0:
	case *value > ceiling:
		admin := p.rules[Admin]
		may := admin == nil || *f.of(&admin.ceilings) == 0 || *f.of(&admin.ceilings) >= *value
		return p.over(role, f.name+" "+f.write(*value), f.write(ceiling), may)
	case *value == 0 && (f.unset == 0 || f.unset > ceiling):
		*value = ceiling // to ask for nothing is not to ask for everything
	}
	return nil
}

// boundUlimits applies those of the ulimits, each by its name.
func (p *Policy) boundUlimits(role Role, s *navvy.Spec) error {
	r := p.rules[role]
	list := slices.Clone(s.Limits.Ulimits) // whoever has the spec keeps it as it was
	for _, more := range [][]navvy.Ulimit{r.defaults.Limits.Ulimits, r.ceilings.Limits.Ulimits} {
		for _, u := range more {
			if ulimit(list, u.Name) == nil {
				list = append(list, u)
			}
		}
	}
	for _, u := range list {
		ceiling := ulimit(r.ceilings.Limits.Ulimits, u.Name)
		if ceiling == nil || u.Hard <= ceiling.Hard {
			continue
		}
		may := true
		if admin := p.rules[Admin]; admin != nil {
			most := ulimit(admin.ceilings.Limits.Ulimits, u.Name)
			may = most == nil || most.Hard >= u.Hard
		}
		return p.over(role, "ulimit "+quantity.Ulimit(u), quantity.Ulimit(*ceiling), may)
	}
	s.Limits.Ulimits = list
	return nil
}

func ulimit(list []navvy.Ulimit, name string) *navvy.Ulimit {
	if i := slices.IndexFunc(list, func(u navvy.Ulimit) bool { return u.Name == name }); i >= 0 {
		return &list[i]
	}
	return nil
}

// over refuses what is above a ceiling; admin says that an administrator could ask for it.
func (p *Policy) over(role Role, asked, ceiling string, admin bool) error {
	return p.denied(admin && role != Admin, "%s is above the ceiling for jobs of role %s, which is %s", asked, role, ceiling)
}

// denied is a refusal that says who can do something about it.
func (p *Policy) denied(admin bool, format string, args ...any) error {
	who := "who may write " + p.file + " can change that"
	if admin {
		who = "role " + string(Admin) + " may ask for it, and " + who
	}
	return fmt.Errorf("%s; %s: %w", fmt.Sprintf(format, args...), who, navvy.ErrDenied)
}
