package cli

import (
	"path"
	"strings"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/placeholder"
	"github.com/navvy-run/navvy/share/place"
)

// stageFlags name files that tasks find in their working directories, and leave there.
type stageFlags struct {
	in, out, mounts []string

	moved *transferFlags // nil where nothing is copied from here and back
}

func (f *stageFlags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringArrayVar(&f.in, "in", nil, "a file of the share default that each task finds in its working directory, which it has to itself: `FILE[=PATH]`, with placeholders; may be repeated")
	fs.StringArrayVar(&f.mounts, "mount", nil, "a folder of the share default that each task finds there, with all that is in it: `FOLDER[=PATH]`, with placeholders; may be repeated")
	fs.StringArrayVar(&f.out, "out", nil, "files that a task leaves there, for the share default when it has succeeded: `PATTERN[=FOLDER]`, with placeholders; PATTERN? if there may be none")
}

// any tells whether there are any.
func (f *stageFlags) any() bool {
	return len(f.in)+len(f.out)+len(f.mounts) > 0 || f.moved != nil && f.moved.any()
}

// defaultPath is the path of a place in the share default: a placeholder may stand in it.
func defaultPath(flag, text string) (string, error) {
	if rest, ok := strings.CutPrefix(text, "share://"+defaultShare+"/"); ok {
		text = rest
	} else if place.Is(text) {
		return "", withHint(usagef("--%s %s: tasks reach the share %s alone", flag, text, defaultShare),
			"copy it there: navvy share sync PLACE share://%s/FOLDER", defaultShare)
	}
	return strings.TrimPrefix(text, "./"), nil
}

// stage is what the flags say.
func (f *stageFlags) stage() (s navvy.Stage, err error) {
	for _, text := range f.in {
		from, to, _ := cutLast(text)
		if from, err = defaultPath("in", from); err != nil {
			return s, err
		}
		if from == "" {
			return s, usagef("--in %s: want FILE or FILE=PATH", text)
		}
		s.In = append(s.In, navvy.StagedInput{From: from, To: to})
	}
	for _, text := range f.mounts {
		m, err := mountFlag(text)
		if err != nil {
			return s, err
		}
		s.Mounts = append(s.Mounts, m)
	}
	for _, text := range f.out {
		pattern, to, named := cutLast(text)
		out := navvy.StagedOutput{}
		if out.Pattern, out.Optional = strings.CutSuffix(strings.TrimPrefix(pattern, "./"), "?"); out.Pattern == "" {
			return s, usagef("--out %s: want PATTERN or PATTERN=FOLDER", text)
		}
		if out.To, err = defaultPath("out", to); err != nil {
			return s, err
		}
		if out.To = strings.TrimSuffix(out.To, "/"); named && out.To == "" {
			out.To = "."
		}
		s.Out = append(s.Out, out)
	}
	if f.moved != nil {
		f.moved.stage(&s)
	}
	return s, nil
}

// mountFlag reads FOLDER[=PATH].
func mountFlag(text string) (m navvy.StagedFolder, err error) {
	from, to, named := cutLast(text)
	if from == "share://"+defaultShare {
		from += "/"
	}
	all := from == "share://"+defaultShare+"/"
	if from, err = defaultPath("mount", from); err != nil {
		return m, err
	}
	m.From, m.To = strings.TrimSuffix(from, "/"), strings.TrimSuffix(strings.TrimPrefix(to, "./"), "/")
	if all {
		m.From = "."
	}
	if m.From == "" || named && m.To == "" || m.From == "." && m.To == "" {
		return m, withHint(usagef("--mount %s: want FOLDER or FOLDER=PATH", text), "the whole share is --mount share://%s/=PATH", defaultShare)
	}
	return m, nil
}

// cutLast cuts a flag at its last =.
func cutLast(text string) (before, after string, found bool) {
	i := strings.LastIndexByte(text, '=')
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+1:], true
}

// apply puts what is staged into a job, whose tasks then have directories of their own.
func (f *jobFlags) applyStage(job *navvy.Job) (err error) {
	if !f.staging.any() {
		return nil
	}
	if f.workdir != "" {
		return withHint(usagef("--workdir does not go with --in, --out, --mount and what copies files: they are staged into a directory of each task's own"), "leave --workdir out")
	}
	if job.Spec.Command == nil {
		return usagef("--in, --out and --mount go with a command")
	}
	job.Spec.Stage, err = f.staging.stage()
	if err != nil {
		return err
	}
	job.Spec.Command.Dir = ""
	if err := job.Spec.Validate(); err != nil {
		return &usageError{err}
	}
	return nil
}

// checkStage checks that placeholders of what is staged fit the inputs.
func checkStage(s *navvy.Stage, c *navvy.Command, fields int) error {
	var texts []string
	for _, in := range s.In {
		texts = append(texts, in.From, in.To)
	}
	for _, m := range s.Mounts {
		texts = append(texts, m.From, m.To)
	}
	for _, out := range s.Out {
		texts = append(texts, out.Pattern, out.To)
	}
	for _, text := range texts {
		if text == "" {
			continue // a default
		}
		if _, err := placeholder.Parse([]string{text}, placeholder.Options{Columns: c.Columns, Fields: fields, Stdin: true}); err != nil {
			return &usageError{err}
		}
	}
	return nil
}

// bringsAlong tells whether a program named by a relative path is one that is staged.
func bringsAlong(s *navvy.Stage, program string) bool {
	for _, in := range s.In {
		to := in.To
		if to == "" {
			to = in.From
		}
		if path.Clean(to) == path.Clean(program) {
			return true
		}
	}
	for _, m := range s.Mounts {
		to := m.To
		if to == "" {
			to = m.From
		}
		if strings.HasPrefix(path.Clean(program), path.Clean(to)+"/") {
			return true
		}
	}
	return false
}

// stagedMounts is what is mounted for the tasks of a job, as --mount has it.
func stagedMounts(s *navvy.Stage) string {
	list := make([]string, len(s.Mounts))
	for i, m := range s.Mounts {
		if list[i] = m.From; m.To != "" {
			list[i] += "=" + m.To
		}
	}
	return strings.Join(list, ", ")
}

// stagedIn is what the tasks of a job find in their directories, as --in has it.
func stagedIn(s *navvy.Stage) string {
	list := make([]string, len(s.In))
	for i, in := range s.In {
		if list[i] = in.From; in.To != "" {
			list[i] += "=" + in.To
		}
	}
	return strings.Join(list, ", ")
}

// stagedOut is what they leave there, as --out has it.
func stagedOut(s *navvy.Stage) string {
	list := make([]string, len(s.Out))
	for i, out := range s.Out {
		list[i] = out.Pattern
		if out.Optional {
			list[i] += "?"
		}
		if out.To != "" {
			list[i] += "=" + out.To
		}
	}
	return strings.Join(list, ", ")
}
