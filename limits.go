package navvy

import (
	"fmt"
	"slices"
)

// Limits bound what one attempt may use, with all that it starts. A field that
// is zero does not bound. Where navvy cannot enforce one, it refuses the attempt.
type Limits struct {
	// CPUs is how much processor time it may take, in thousandths of a core:
	// 1500 is one core and a half.
	CPUs int64
	// CPUShares is its share when attempts compete for cores, relative to theirs:
	// MinCPUShares to MaxCPUShares, DefaultCPUShares unless set, as Docker counts.
	CPUShares int64
	// Memory is in bytes, and hard: who needs more is killed. It cannot swap either.
	Memory int64
	// PIDs is how many processes and threads it may have at once.
	PIDs int64
	// ReadBPS and WriteBPS are bytes a second, ReadIOPS and WriteIOPS operations
	// a second, each on every disk behind the working directory.
	ReadBPS, WriteBPS, ReadIOPS, WriteIOPS int64
	// Output is how many bytes it may write to standard output and standard error
	// together, and as many that a function may return.
	Output int64
	// Ulimits are limits of each of its processes by itself, as setrlimit(2) sets them.
	Ulimits []Ulimit
}

// Zero tells whether nothing is bounded.
func (l *Limits) Zero() bool {
	return l.CPUs|l.CPUShares|l.Memory|l.PIDs|l.ReadBPS|l.WriteBPS|l.ReadIOPS|l.WriteIOPS|l.Output == 0 && len(l.Ulimits) == 0
}

// Ulimit is one limit of setrlimit(2).
type Ulimit struct {
	Name       string // as in UlimitNames
	Soft, Hard uint64 // Unlimited: none
}

// Unlimited is the value of a Ulimit that does not bound: RLIM_INFINITY.
const Unlimited = ^uint64(0)

// The bounds of CPUShares, and what stands for zero.
const (
	MinCPUShares     = 2
	MaxCPUShares     = 262144
	DefaultCPUShares = 1024
)

// UlimitNames are the names that a Ulimit may have: those of setrlimit(2) in
// lower case, without RLIMIT_.
var UlimitNames = []string{
	"as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice",
	"nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack",
}

// Ability names something that a host can enforce for the attempts it runs.
type Ability string

// The abilities. Timeouts and the size of output need none: each host bounds them.
const (
	AbilityCPUs      Ability = "cpus"
	AbilityCPUShares Ability = "cpu-shares"
	AbilityMemory    Ability = "memory"
	AbilityPIDs      Ability = "pids"
	AbilityReadBPS   Ability = "read-bps"
	AbilityWriteBPS  Ability = "write-bps"
	AbilityReadIOPS  Ability = "read-iops"
	AbilityWriteIOPS Ability = "write-iops"
	AbilityUlimits   Ability = "ulimits"
	// AbilityIsolate is all of Spec.Isolate but a user id of its own, which is AbilityUser.
	AbilityIsolate Ability = "isolate"
	AbilityUser    Ability = "user"
	// AbilityNetwork is NetworkNone.
	AbilityNetwork Ability = "network-none"
	// AbilityStage is Spec.Stage: a working directory of each attempt's own.
	AbilityStage Ability = "stage"
	// AbilityMount is Stage.Mounts, and AbilityPackage is Service.Package: who is older
	// than these would leave them out.
	AbilityMount   Ability = "mount"
	AbilityPackage Ability = "package"
)

// KindAbilities says what a host can enforce for the attempts of one kind.
type KindAbilities struct {
	Kind     string
	Enforces []Ability
	// Lacks says in words why that is not all there is, and what would mend it;
	// empty if nothing is missing.
	Lacks string
	// Absent says that the host does no such work at all; Lacks says why.
	Absent bool
	// Explains says that the worker tells what attempts wait for, when it is asked.
	Explains bool
	// With says in words what the work is done with, as in "Python 3.11.2
	// (/usr/bin/python3), dill 0.3.6"; empty if there is nothing to say, or nobody has looked.
	With string
}

// Networks that an attempt may have.
const (
	// NetworkHost is its host's.
	NetworkHost = "host"
	// NetworkNone is a loopback interface of its own.
	NetworkNone = "none"
)

// Needs lists what a host must be able to enforce to run an attempt of s.
func (s *Spec) Needs() []Ability {
	needs := s.Limits.Needs()
	if len(s.Limits.Ulimits) > 0 {
		needs = append(needs, AbilityUlimits)
	}
	if s.Isolate {
		needs = append(needs, AbilityIsolate)
	}
	if s.Network == NetworkNone {
		needs = append(needs, AbilityNetwork)
	}
	if !s.Stage.Zero() {
		needs = append(needs, AbilityStage)
	}
	if len(s.Stage.Mounts) > 0 {
		needs = append(needs, AbilityMount)
	}
	if s.Service != nil && s.Service.Package != nil {
		needs = append(needs, AbilityPackage)
	}
	return needs
}

// Needs lists what a host must be able to enforce to bound an attempt by l with all
// that it starts. Ulimits, which bound each process by itself, are not among it.
func (l *Limits) Needs() []Ability {
	var needs []Ability
	for _, n := range [...]struct {
		limit   int64
		ability Ability
	}{
		{l.CPUs, AbilityCPUs}, {l.CPUShares, AbilityCPUShares}, {l.Memory, AbilityMemory}, {l.PIDs, AbilityPIDs},
		{l.ReadBPS, AbilityReadBPS}, {l.WriteBPS, AbilityWriteBPS},
		{l.ReadIOPS, AbilityReadIOPS}, {l.WriteIOPS, AbilityWriteIOPS},
	} {
		if n.limit > 0 {
			needs = append(needs, n.ability)
		}
	}
	return needs
}

// The least that a limit may be: below, nothing starts at all.
const (
	minCPUs   = 10      // thousandths of a core
	minMemory = 1 << 20 // bytes
)

// Validate checks the limits. Its error names the field and wraps ErrInvalid.
func (l *Limits) Validate() error {
	for _, f := range [...]struct {
		name        string
		value, from int64
		to          int64 // 0: no bound
		unit        string
	}{
		{"cpus", l.CPUs, minCPUs, 1 << 30, "thousandths of a core"},
		{"cpu-shares", l.CPUShares, MinCPUShares, MaxCPUShares, "shares"},
		{"memory", l.Memory, minMemory, 0, "bytes"},
		{"pids", l.PIDs, 1, 0, "processes"},
		{"read-bps", l.ReadBPS, 1, 0, "bytes a second"},
		{"write-bps", l.WriteBPS, 1, 0, "bytes a second"},
		{"read-iops", l.ReadIOPS, 1, 0, "operations a second"},
		{"write-iops", l.WriteIOPS, 1, 0, "operations a second"},
		{"output", l.Output, 1, 0, "bytes"},
	} {
		if f.value == 0 {
			continue
		}
		if f.value < f.from {
			return fmt.Errorf("limit %s: %d %s are too few, %d are the least: %w", f.name, f.value, f.unit, f.from, ErrInvalid)
		}
		if f.to > 0 && f.value > f.to {
			return fmt.Errorf("limit %s: %d %s are too many, %d are the most: %w", f.name, f.value, f.unit, f.to, ErrInvalid)
		}
	}
	return l.validateUlimits()
}

func (l *Limits) validateUlimits() error {
	for i, u := range l.Ulimits {
		switch {
		case !slices.Contains(UlimitNames, u.Name):
			return fmt.Errorf("ulimit %q: there is no such limit, only %q: %w", u.Name, UlimitNames, ErrInvalid)
		case u.Soft > u.Hard:
			return fmt.Errorf("ulimit %s: the soft limit %d is above the hard one, %d: %w", u.Name, u.Soft, u.Hard, ErrInvalid)
		case slices.ContainsFunc(l.Ulimits[:i], func(o Ulimit) bool { return o.Name == u.Name }):
			return fmt.Errorf("ulimit %s: is given twice: %w", u.Name, ErrInvalid)
		}
	}
	return nil
}
