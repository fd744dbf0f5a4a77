package navvy

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Stage says which of the owner's files an attempt finds in its working directory, which
// it has to itself, and which of those that it leaves there become the owner's.
type Stage struct {
	In  []StagedInput
	Out []StagedOutput
	// Mounts are folders that an attempt finds there, with all that is in them.
	Mounts []StagedFolder
}

// StagedFolder is a folder of the owner's files that an attempt finds in its working
// directory: as a copy, or where its worker has the share itself, as a mount. What the
// attempt changes there is lost, or refused. One without any files fails the task, with
// ReasonInput.
type StagedFolder struct {
	// From is its name among the owner's files, with placeholders, unless the command is
	// literal; "." for all of them.
	From string
	// To is its path in the working directory, likewise. Defaults to From.
	To string
}

// StagedInput is a file that is copied into the working directory before the attempt
// starts. A missing one fails the task, with ReasonInput.
type StagedInput struct {
	// From is its name among the owner's files, with placeholders, unless the command is
	// literal.
	From string
	// To is its path in the working directory, likewise. Defaults to From.
	To string
}

// StagedOutput is files of the working directory that are kept once the attempt has
// succeeded. They become the owner's files when it is its task's result, and not before.
type StagedOutput struct {
	// Pattern is that of package path, of their paths in the working directory, with
	// placeholders, whose values stand for themselves. Of a folder it means all that is in it.
	Pattern string
	// To is the folder among the owner's files under which their paths go on, with
	// placeholders; "." for none. Defaults to the job's id, a slash and the task's index.
	To string
	// Optional says that there need not be any; otherwise that fails the task, with ReasonInput.
	Optional bool
}

// Zero tells whether nothing is staged.
func (s *Stage) Zero() bool { return len(s.In)+len(s.Out)+len(s.Mounts) == 0 }

// Equal tells whether both stage the same.
func (s *Stage) Equal(o *Stage) bool {
	return slices.Equal(s.In, o.In) && slices.Equal(s.Out, o.Out) && slices.Equal(s.Mounts, o.Mounts)
}

// Bounds of what is staged.
const (
	maxStaged     = 1000 // entries
	maxStagedText = 1024 // bytes of one
)

func (s *Stage) validate(spec *Spec) error {
	switch {
	case s.Zero():
		return nil
	case spec.Command == nil:
		return fmt.Errorf("files are staged for commands alone, and this is a %s: %w", spec.Kind(), ErrInvalid)
	case spec.Command.Dir != "":
		return fmt.Errorf("files are staged into a directory of each attempt's own, and the working directory is to be %s: %w", spec.Command.Dir, ErrInvalid)
	case len(s.In)+len(s.Out)+len(s.Mounts) > maxStaged:
		return fmt.Errorf("%d files are to be staged, and at most %d can be: %w", len(s.In)+len(s.Out)+len(s.Mounts), maxStaged, ErrInvalid)
	}
	if err := s.validateIn(); err != nil {
		return err
	}
	for _, out := range s.Out {
		if _, err := path.Match(out.Pattern, ""); err != nil || out.Pattern == "" {
			return fmt.Errorf("%q is no pattern of files: %w", out.Pattern, ErrInvalid)
		}
		if err := checkStaged(out.Pattern, out.To); err != nil {
			return err
		}
	}
	return nil
}

// validateIn is validate for what comes into the directory.
func (s *Stage) validateIn() error {
	for _, in := range s.In {
		if in.From == "" {
			return fmt.Errorf("the name of a file to stage is missing: %w", ErrInvalid)
		}
		if err := checkStaged(in.From, in.To); err != nil {
			return err
		}
	}
	for _, m := range s.Mounts {
		if m.From == "" || m.From == "." && m.To == "" || m.To == "." {
			return fmt.Errorf("the folder %q to mount at %q: want a folder, and a path below the working directory: %w", m.From, m.To, ErrInvalid)
		}
		if err := checkStaged(m.From, m.To); err != nil {
			return err
		}
	}
	return nil
}

// checkStaged refuses what leads out of a directory whatever the input is.
func checkStaged(names ...string) error {
	for _, name := range names {
		switch {
		case len(name) > maxStagedText:
			return fmt.Errorf("%.40q…: the path of a staged file has more than %d bytes: %w", name, maxStagedText, ErrInvalid)
		case strings.ContainsRune(name, 0):
			return fmt.Errorf("%q: the path of a staged file holds a zero byte: %w", name, ErrInvalid)
		case strings.HasPrefix(name, "/") || slices.Contains(strings.Split(name, "/"), ".."):
			return fmt.Errorf("%q: the path of a staged file is relative, and has no .. in it: %w", name, ErrInvalid)
		}
	}
	return nil
}
