package cli

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/navvy-run/navvy"
)

// containerFlags say that a command runs in a container, under the names that Docker has
// for them.
type containerFlags struct {
	image, engine, entrypoint, pending string

	own *pflag.FlagSet
}

func (f *containerFlags) add(cmd *cobra.Command) {
	f.own = cmd.Flags()
	addEngine(f.own, &f.engine, engineAuto+": Kubernetes if it is configured, else Docker, else containerd")
	f.own.StringVar(&f.image, "image", "", "run the command in a container of this image: ARGS alone are given to the image's own program")
	f.own.StringVar(&f.entrypoint, "entrypoint", "", "with --image: the program in place of the image's own")
	f.own.StringVar(&f.pending, "pending-timeout", "", "with --image: fail a task that no node has room for within this time (default: it waits)")
}

// containerOnly are the flags that go with an image alone.
var containerOnly = []string{"engine", "entrypoint", "pending-timeout"}

// alone refuses flags that say nothing without an image.
func (f *containerFlags) alone() error {
	for _, name := range containerOnly {
		if f.own != nil && f.own.Changed(name) {
			return usagef("--%s goes with --image", name)
		}
	}
	return nil
}

// inContainer makes a job run a command in a container. Nothing of our own environment
// goes along: the image has its own.
func (f *jobFlags) inContainer(job *navvy.Job, c *navvy.Command, a *app, remote bool) (err error) {
	k := &f.container
	switch {
	case c.Stdin:
		return withHint(usagef("--stdin does not go with --image: a container has no standard input"), "pass the input as an argument")
	case f.staging.any():
		return usagef("--in, --out, --mount and what copies files do not go with --image yet")
	case f.isolate:
		return usagef("--isolate does not go with --image: a container is set apart by its cluster")
	case f.workdir != "" && !strings.HasPrefix(f.workdir, "/"):
		return usagef("--workdir %s: with --image it is a directory of the image, and absolute", f.workdir)
	}
	to := &navvy.Container{Image: k.image, Name: f.name, Command: *c}
	to.Command.Dir = f.workdir
	if to.Command.Env, err = f.environment(nil); err != nil {
		return err
	}
	if to.Pending, err = durationFlag("pending-timeout", k.pending); err != nil {
		return err
	}
	if k.entrypoint != "" {
		to.Entrypoint = []string{k.entrypoint}
	}
	if c.Shell && k.entrypoint != "" {
		to.Entrypoint = append(to.Entrypoint, "-c")
	}
	job.Spec.Container = to
	if err := job.Spec.Validate(); err != nil {
		return &usageError{err}
	}
	if remote {
		if k.engine != "" {
			return usagef("--engine goes without a server: what its containers run on is the affair of its workers")
		}
		return nil
	}
	a.engine = k.engine
	return a.someEngine()
}
