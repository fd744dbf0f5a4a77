package jobrunner

import (
	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/gateway/jobrunner/apis"
	"github.com/navvy-run/navvy/server/auth"
)

// Level is what a job of a JobResourceUsage may use, and how it is set apart.
type Level struct {
	// Limits bound the job with all that it starts.
	Limits navvy.Limits
	// Isolate and Network are as in navvy.Spec.
	Isolate bool
	Network string
	// Role is the only one that may ask for this level. Defaults to every one that may start jobs.
	Role auth.Role
}

// Levels says what each level stands for.
type Levels map[apis.JobResourceUsage]Level

// DefaultLevels are those of docs/gateways.md.
func DefaultLevels() Levels {
	return Levels{
		apis.JobResourceUsage_RESTRICTED: apart(bounds(250, 128<<20, 64, 8<<20), auth.RoleNobody),
		apis.JobResourceUsage_STANDARD:   apart(bounds(500, 512<<20, 256, 32<<20), auth.RoleNobody),
		apis.JobResourceUsage_ELEVATED:   apart(bounds(2000, 2<<30, 2048, 256<<20), auth.RoleAdmin),
	}
}

// bounds are limits of processor time in thousandths of a core, of memory in bytes,
// of processes, and of bytes that are read and written a second.
func bounds(cpus, memory, pids, bps int64) navvy.Limits {
	return navvy.Limits{CPUs: cpus, Memory: memory, PIDs: pids, ReadBPS: bps, WriteBPS: bps}
}

// apart is a level whose jobs have processes, mounts and a network of their own.
func apart(l navvy.Limits, only auth.Role) Level {
	return Level{Limits: l, Isolate: true, Network: navvy.NetworkNone, Role: only}
}
