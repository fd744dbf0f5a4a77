package navvy

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Container runs an image once for each input.
type Container struct {
	// Image is the reference of the image, as in "registry.example/tools/align:1.2".
	Image string
	// Name begins the names of what is made in the cluster, where people see them. Defaults to "navvy".
	Name string
	// Entrypoint is the program in place of the image's own; empty for that.
	Entrypoint []string
	// Command is what follows the entry point, with placeholders as in a Command; no
	// Args for what the image says and, unless it is Literal, the input behind it. With Shell
	// it is one line, which an empty Entrypoint gives to /bin/sh of the image. Stdin is not there. Dir is the working directory in the image;
	// empty for the image's own. Env is added to the image's.
	Command Command
	// Pending is how long it may wait for a node that has room. Zero means for ever.
	Pending time.Duration
	// Namespace is where it runs in a cluster; empty for the one of its worker.
	Namespace string
	// Template is JSON of a Kubernetes PodTemplateSpec that is merged over the pod, as kubectl
	// patch merges. It is the queue's affair, or an administrator's.
	Template []byte
	// Pack is how many tasks of the job share a pod, one after another. None share one if it
	// is less than 2.
	Pack int
	// Buckets are what it reads from and writes to.
	Buckets Buckets
}

// Buckets are where a container has its objects, on the S3 server of its worker. The zero
// value has none.
type Buckets struct {
	// Input and Output are names of buckets, or URLs as in "http://host:9000/bucket". With an
	// Input, an empty Output stands for it. The log of an attempt is put into Output.
	Input, Output string
	// Prefix begins the names of the objects that the container is about.
	Prefix string
	// InputDir and OutputDir are absolute directories in the container, for images that know
	// nothing of buckets: the objects of Input that begin with Prefix are in the one before it
	// starts, and what it leaves in the other is put into Output once it has succeeded. Either
	// may be empty.
	InputDir, OutputDir string
}

// Program is the command of a spec that is one, or that a container runs; nil for others.
func (s *Spec) Program() *Command {
	if s.Container != nil {
		return &s.Container.Command
	}
	return s.Command
}

// Outlives tells whether what an attempt leaves stays until its worker knows that the result
// is kept: whoever comes after a dead one finds it.
func (s *Spec) Outlives() bool { return s.Container != nil }

// Same tells whether two do the same with an input.
func (c *Container) Same(other *Container) bool {
	return c.Image == other.Image && slices.Equal(c.Entrypoint, other.Entrypoint) && c.Command.Same(&other.Command)
}

// Same tells whether two do the same with an input, wherever that is.
func (c *Command) Same(other *Command) bool {
	return slices.Equal(c.Args, other.Args) && c.Shell == other.Shell && c.Stdin == other.Stdin && c.Literal == other.Literal
}

// maxImage bounds the reference of an image, in bytes.
const maxImage = 1 << 10

// maxPack bounds how many tasks share a pod.
const maxPack = 1000

// notYet refuses what no runner does yet.
func (c *Container) notYet() error {
	switch {
	case c.Namespace != "" || c.Template != nil:
		return fmt.Errorf("spec: a namespace and a pod template of a job's own: %w", ErrUnsupported)
	case c.Pack > 1:
		return fmt.Errorf("spec: tasks that share a pod: %w", ErrUnsupported)
	}
	return nil
}

// maxTemplate bounds a pod template, in bytes.
const maxTemplate = 64 << 10

func (c *Container) validate() error {
	switch {
	case c.Image == "":
		return fmt.Errorf("spec: the container has no image: %w", ErrInvalid)
	case len(c.Image) > maxImage || strings.ContainsFunc(c.Image, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return fmt.Errorf("spec: image %.100q: want at most %d bytes, no spaces: %w", c.Image, maxImage, ErrInvalid)
	case c.Command.Stdin:
		return fmt.Errorf("spec: a container has no standard input: pass the input as an argument: %w", ErrUnsupported)
	case c.Pending < 0:
		return fmt.Errorf("spec: the waiting of a container cannot be negative: %w", ErrInvalid)
	case c.Pack < 0 || c.Pack > maxPack:
		return fmt.Errorf("spec: a pod cannot have %d tasks: want 0 to %d: %w", c.Pack, maxPack, ErrInvalid)
	case len(c.Template) > maxTemplate:
		return fmt.Errorf("spec: the pod template has %d bytes, more than %d: %w", len(c.Template), maxTemplate, ErrInvalid)
	}
	if err := c.notYet(); err != nil {
		return err
	}
	for _, s := range append([]string{c.Name}, c.Entrypoint...) {
		if strings.ContainsRune(s, 0) {
			return fmt.Errorf("spec: %q holds a zero byte, which no process can be given: %w", s, ErrInvalid)
		}
	}
	return c.Command.validateWords()
}
