package process

import (
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/navvy-run/navvy/runner/driver"
)

// What a task finds in its environment about itself.
const (
	EnvJob     = "NAVVY_JOB"     // the job's id
	EnvIndex   = "NAVVY_INDEX"   // the task's index, from 0
	EnvAttempt = "NAVVY_ATTEMPT" // the attempt's number, from 1
	EnvSlot    = "NAVVY_SLOT"    // the worker's slot, from 1
	EnvToken   = "NAVVY_TOKEN"   // the attempt's name, by which navvy finds what a task left running

	EnvAddr      = "NAVVY_ADDR"       // where it reaches its navvy, if it may: unix:// and a path
	EnvTaskToken = "NAVVY_TASK_TOKEN" // the secret that it shows there
)

// environment is the whole environment of a task that starts in dir: the spec's,
// and what the task finds there about itself. One that names no PATH gets what
// any program expects to find, as far as it does not say otherwise. It sees the socket
// of its navvy at the path socket.
func (d *Driver) environment(t *driver.Task, dir, socket string) []string {
	d.mu.Lock()
	if d.spec != t.Spec {
		d.spec, d.base = t.Spec, WithoutTask(t.Spec.Command.Env)
		if d.bare = !names(d.base, "PATH"); d.bare {
			d.base = slices.Clip(append(d.base, usual(d.base, "PATH="+defaultPath, "LANG=C.UTF-8", "USER="+userName())...))
		}
	}
	base, bare := d.base, d.bare
	d.mu.Unlock()
	if bare {
		temporary := os.TempDir()
		if private(t.Spec) {
			temporary = dir // which goes with the attempt
		}
		base = append(base, usual(base, "HOME="+dir, "TMPDIR="+temporary)...)
	}
	if len(t.Env) > 0 {
		base = append(without(base, namesOf(t.Env)), t.Env...)
	}
	if t.API != nil {
		base = append(base, EnvAddr+"=unix://"+socket, EnvTaskToken+"="+t.API.Token)
	}
	return append(base,
		EnvJob+"="+string(t.ID.Job),
		EnvIndex+"="+strconv.FormatInt(t.ID.Index, 10),
		EnvAttempt+"="+strconv.FormatUint(uint64(t.Attempt.Number), 10),
		EnvSlot+"="+strconv.Itoa(t.Slot),
		EnvToken+"="+t.Token)
}

// usual gives those of the pairs whose names env does not have.
func usual(env []string, pairs ...string) []string {
	return slices.DeleteFunc(pairs, func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return names(env, name)
	})
}

// names tells whether env has a variable of this name.
func names(env []string, name string) bool {
	return slices.ContainsFunc(env, func(pair string) bool { return strings.HasPrefix(pair, name+"=") })
}

// userName is that of the user who runs this process.
var userName = sync.OnceValue(func() string {
	u, err := user.Current()
	if err != nil {
		return "uid-" + strconv.Itoa(os.Geteuid())
	}
	return u.Username
})

// WithoutTask is a copy of env without what a task finds there about itself, as
// something must have it that is to outlive the task which starts it.
func WithoutTask(env []string) []string {
	return without(env, []string{EnvJob, EnvIndex, EnvAttempt, EnvSlot, EnvToken, EnvAddr, EnvTaskToken})
}

// without is a copy of env without some names.
func without(env, names []string) []string {
	kept := slices.DeleteFunc(slices.Clone(env), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return slices.Contains(names, name)
	})
	return slices.Clip(kept) // the driver appends to it, more than once
}

// namesOf are the names in an environment.
func namesOf(env []string) []string {
	names := make([]string, len(env))
	for i, pair := range env {
		names[i], _, _ = strings.Cut(pair, "=")
	}
	return names
}
