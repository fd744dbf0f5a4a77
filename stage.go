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
	// Transfer names what whoever waits for the job copies for it: files of theirs under
	// TransferFolder before it begins, and what tasks leave under ReturnFolder to them. It is
	// of up to 64 lower-case letters and digits. No two jobs of an owner have the same one,
	// until what was copied for the first is gone with it: that is ErrConflict. Empty if
	// nothing is copied.
	Transfer string
	// Cleanup says that both folders are removed by whoever waits for the job, once all tasks
	// have succeeded and all that they left was copied.
	Cleanup bool
	// Mounts are folders that an attempt finds there, with all that is in them.
	Mounts []StagedFolder
}

// TransferFolder is where the files lie that were copied for the job before it began, with
// a slash at its end; among the owner's files.
func (s *Stage) TransferFolder() string { return "transfer/" + s.Transfer + "/" }

// ReturnFolder is where the files lie that are to be copied to whoever waits for the job,
// with a slash at its end; then come a task's number from 1, and their paths.
func (s *Stage) ReturnFolder() string { return "return/" + s.Transfer + "/" }

// ReturnTo is the folder of an output that is to be copied to whoever waits for the job.
func (s *Stage) ReturnTo() string { return s.ReturnFolder() + "{#}" }

// Returns tells whether there are such outputs.
func (s *Stage) Returns() bool {
	return s.Transfer != "" && slices.ContainsFunc(s.Out, func(o StagedOutput) bool { return o.To == s.ReturnTo() })
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

// Equal tells whether both stage the same. How what is copied for them is named may differ.
func (s *Stage) Equal(o *Stage) bool {
	a, b := s.unnamed(), o.unnamed()
	return slices.Equal(a.In, b.In) && slices.Equal(a.Out, b.Out) && slices.Equal(a.Mounts, b.Mounts) && a.Transfer == b.Transfer && a.Cleanup == b.Cleanup
}

// unnamed is the same with one name for all that is copied for a job.
func (s *Stage) unnamed() *Stage {
	if s.Transfer == "" {
		return s
	}
	u := &Stage{In: slices.Clone(s.In), Out: slices.Clone(s.Out), Mounts: s.Mounts, Transfer: "x", Cleanup: s.Cleanup}
	for i := range u.In {
		if rest, ok := strings.CutPrefix(u.In[i].From, s.TransferFolder()); ok {
			u.In[i].From = u.TransferFolder() + rest
		}
	}
	for i := range u.Out {
		if u.Out[i].To == s.ReturnTo() {
			u.Out[i].To = u.ReturnTo()
		}
	}
	return u
}

// Bounds of what is staged.
const (
	maxStaged     = 1000 // entries
	maxStagedText = 1024 // bytes of one
	maxTransfer   = 64   // bytes of the name
)

func (s *Stage) validate(spec *Spec) error {
	switch {
	case s.Zero():
		return s.validateTransfer()
	case spec.Command == nil:
		return fmt.Errorf("files are staged for commands alone, and this is a %s: %w", spec.Kind(), ErrInvalid)
	case spec.Command.Dir != "":
		return fmt.Errorf("files are staged into a directory of each attempt's own, and the working directory is to be %s: %w", spec.Command.Dir, ErrInvalid)
	case len(s.In)+len(s.Out)+len(s.Mounts) > maxStaged:
		return fmt.Errorf("%d files are to be staged, and at most %d can be: %w", len(s.In)+len(s.Out)+len(s.Mounts), maxStaged, ErrInvalid)
	}
	if err := s.validateTransfer(); err != nil {
		return err
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

func (s *Stage) validateTransfer() error {
	switch {
	case s.Zero() && (s.Transfer != "" || s.Cleanup):
		return fmt.Errorf("files are to be copied for a job that stages none: %w", ErrInvalid)
	case s.Cleanup && s.Transfer == "":
		return fmt.Errorf("what was copied is to be removed, and nothing is copied: %w", ErrInvalid)
	case len(s.Transfer) > maxTransfer || strings.Trim(s.Transfer, "abcdefghijklmnopqrstuvwxyz0123456789") != "":
		return fmt.Errorf("%.70q names what is copied for a job: want up to %d lower-case letters and digits: %w", s.Transfer, maxTransfer, ErrInvalid)
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
