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
	}
	for _, s := range append([]string{c.Name}, c.Entrypoint...) {
		if strings.ContainsRune(s, 0) {
			return fmt.Errorf("spec: %q holds a zero byte, which no process can be given: %w", s, ErrInvalid)
		}
	}
	return c.Command.validateWords()
}
