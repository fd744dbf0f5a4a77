package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// Labels of what navvy makes.
const (
	labelManagedBy = "app.kubernetes.io/managed-by"
	labelInstance  = "app.kubernetes.io/instance"
	labelJob       = "navvy.run/job"
	labelTask      = "navvy.run/task"
	labelOwner     = "navvy.run/owner"
	labelAttempt   = "navvy.run/attempt" // the token of whoever made it
	labelTimeout   = "navvy.run/timeout" // how long it may run; none for ever
	labelGrace     = "navvy.run/grace"
	labelBoot      = "navvy.run/boot" // of the machine, when it was made

	managedBy = "navvy"
)

// nameOf names the container of an attempt: what the job is called, and something that is the
// same for every attempt at a task until one of them has ended. So whoever is given the task
// after a restart finds the container that runs.
func (d *Driver) nameOf(t *driver.Task) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "navvy.engine.1 %s %s %d %d %d", d.opts.Instance, t.ID.Job, t.ID.Index, t.Round, t.Failed))
	return prefix(t) + "-" + hex.EncodeToString(sum[:16])
}

// prefix is the name that the spec asks for, as engines can have it; navvy otherwise.
func prefix(t *driver.Task) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(t.Spec.Container.Name))
	const longest = 24
	name = strings.Trim(name[:min(len(name), longest)], "-")
	if name == "" {
		return managedBy
	}
	return name
}

func (d *Driver) labels(t *driver.Task) map[string]string {
	labels := map[string]string{
		labelManagedBy: managedBy, labelInstance: d.opts.Instance,
		labelJob: string(t.ID.Job), labelTask: fmt.Sprint(t.ID.Index), labelOwner: t.Owner, labelAttempt: t.Token,
		labelGrace: t.Spec.Grace.String(),
	}
	if d.boot != "" {
		labels[labelBoot] = d.boot
	}
	if t.Spec.Timeout > 0 {
		labels[labelTimeout] = t.Spec.Timeout.String()
	}
	return labels
}

// ours tells whether a container is of a task of this driver.
func (d *Driver) ours(s *state, id navvy.TaskID) bool {
	return s.labels[labelManagedBy] == managedBy && s.labels[labelInstance] == d.opts.Instance &&
		s.labels[labelJob] == string(id.Job) && s.labels[labelTask] == fmt.Sprint(id.Index)
}

// deadline is when a container has run for as long as it may; zero for never. The making of it
// begins that.
func (s *state) deadline() time.Time {
	timeout, err := time.ParseDuration(s.labels[labelTimeout])
	if err != nil || timeout <= 0 {
		return time.Time{}
	}
	return s.created.Add(timeout)
}

// late tells whether a container ended because of its deadline.
func (s *state) late() bool {
	at := s.deadline()
	return s.phase == phaseEnded && !at.IsZero() && !s.finished.Before(at)
}

// grace is how long a container that is asked to end has.
func (s *state) grace() time.Duration {
	if grace, err := time.ParseDuration(s.labels[labelGrace]); err == nil && grace > 0 {
		return grace
	}
	return navvy.DefaultGrace
}

// container says what an attempt is made of. args is what follows the entry point.
func (d *Driver) container(t *driver.Task, args []string) *container {
	s, c := t.Spec, t.Spec.Container
	entrypoint := c.Entrypoint
	if c.Command.Shell && len(entrypoint) == 0 {
		entrypoint = []string{"/bin/sh", "-c"}
	}
	return &container{
		name: d.nameOf(t), image: c.Image, entrypoint: entrypoint, args: args, dir: c.Command.Dir,
		env: t.ContainerEnv(), labels: d.labels(t), limits: s.Limits, gpus: s.Resources[navvy.ResourceGPU],
		noNetwork: slices.Contains(s.Needs(), navvy.AbilityNetwork),
	}
}
