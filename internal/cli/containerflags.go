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
	pack                               int
	namespace, podTemplate             string
	buckets                            navvy.Buckets

	own *pflag.FlagSet
}

func (f *containerFlags) add(cmd *cobra.Command) {
	f.own = cmd.Flags()
	addEngine(f.own, &f.engine, engineAuto+": Kubernetes if it is configured, else Docker, else containerd")
	f.own.StringVar(&f.image, "image", "", "run the command in a container of this image: ARGS alone are given to the image's own program")
	f.own.StringVar(&f.entrypoint, "entrypoint", "", "with --image: the program in place of the image's own")
	f.own.StringVar(&f.namespace, "namespace", "", "with --image: the Kubernetes namespace `NAME` in which it runs (default: the queue's, or the worker's own)")
	f.own.StringVar(&f.podTemplate, "pod-template", "", "with --image: merge this `FILE`, YAML or JSON of a Kubernetes PodTemplateSpec, over each pod; for administrators")
	f.own.StringVar(&f.pending, "pending-timeout", "", "with --image: fail a task that no node has room for within this time (default: it waits)")
	f.addBuckets()
}

// addBuckets declares where a container has its objects.
func (f *containerFlags) addBuckets() {
	b := &f.buckets
	f.own.StringVar(&b.Input, "input-bucket", "", "with --image: the bucket of its inputs, or its URL as in http://minio:9000/data; placeholders as in ARGS")
	f.own.StringVar(&b.Output, "output-bucket", "", "with --image: the bucket of its outputs and of each task's log (default: that of the inputs)")
	f.own.StringVar(&b.Prefix, "bucket-prefix", "", "with --image: what begins the names of a task's objects; placeholders as in ARGS")
	f.own.StringVar(&b.InputDir, "input-dir", "", "with --image: the directory in the container where it finds the objects of the input bucket that begin with the prefix")
	f.own.StringVar(&b.OutputDir, "output-dir", "", "with --image: the directory in the container whose files are put into the output bucket once it has succeeded")
}

// addPack declares what many tasks alone can have.
func (f *containerFlags) addPack(cmd *cobra.Command) {
	cmd.Flags().IntVar(&f.pack, "pack", 0, "with --image: run so many tasks of the job, one after another, in one pod (default 1); needs --entrypoint or -S")
}

// containerOnly are the flags that go with an image alone.
var containerOnly = []string{
	"engine", "entrypoint", "namespace", "pack", "pending-timeout", "pod-template",
	"input-bucket", "output-bucket", "bucket-prefix", "input-dir", "output-dir",
}

// alone refuses flags that say nothing without an image.
func (f *containerFlags) alone() error {
	if f.own != nil && f.own.Changed("image") {
		return withHint(usagef("--image is empty, and the command would run on this machine"), "leave it away for that")
	}
	for _, name := range containerOnly {
		if f.own != nil && f.own.Changed(name) {
			return usagef("--%s goes with --image", name)
		}
	}
	return nil
}

// inContainer makes a job run a command in a container. Nothing of our own environment
// goes along: the image has its own.
func (f *jobFlags) inContainer(job *navvy.Job, c *navvy.Command, a *app, remote bool) error {
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
	to, err := f.containerOf(c)
	if err != nil {
		return err
	}
	if err := f.packed(job, to, remote); err != nil {
		return err
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

// containerOf is what the flags say of a container that runs a command.
func (f *jobFlags) containerOf(c *navvy.Command) (to *navvy.Container, err error) {
	k := &f.container
	to = &navvy.Container{Image: k.image, Name: f.name, Command: *c, Namespace: k.namespace, Buckets: k.buckets}
	to.Command.Dir = f.workdir
	if to.Command.Env, err = f.environment(nil); err != nil {
		return nil, err
	}
	if to.Pending, err = durationFlag("pending-timeout", k.pending); err != nil {
		return nil, err
	}
	if to.Template, err = readPodTemplate(k.podTemplate); err != nil {
		return nil, usagef("--pod-template: %w", err)
	}
	if k.entrypoint != "" {
		to.Entrypoint = []string{k.entrypoint}
	}
	if c.Shell && k.entrypoint != "" {
		to.Entrypoint = append(to.Entrypoint, "-c")
	}
	return to, nil
}

// podsAtOnce is how many shared pods a job has room for if nobody says how many tasks it may
// have at once.
const podsAtOnce = 2

// packed says how many tasks share a pod.
func (f *jobFlags) packed(job *navvy.Job, to *navvy.Container, remote bool) error {
	k := &f.container
	switch {
	case !k.own.Changed("pack"):
		return nil
	case k.pack < 1 || k.pack > navvy.MaxPack:
		return usagef("--pack %d: want a number of tasks from 1 to %d", k.pack, navvy.MaxPack)
	case k.pack > 1 && len(to.Entrypoint) == 0 && !to.Command.Shell:
		return withHint(usagef("--pack needs to know the program, which the image may name but navvy cannot see"), "add --entrypoint PROGRAM, or -S for a line for the shell")
	case k.pack > 1 && to.Buckets.Staged():
		return withHint(usagef("--pack does not go with --input-dir and --output-dir: nothing is copied for tasks that share a pod"),
			"leave --pack away, or the directories: the program is told of its buckets in its environment")
	}
	to.Pack = k.pack
	if f.jobs == "" && !remote && k.pack > 1 {
		job.Parallelism = podsAtOnce * k.pack
	}
	return nil
}
