package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/internal/input"
	"github.com/navvy-run/navvy/placeholder"
)

// transferFlags copy files from here to tasks and back, as GNU parallel has it. They lie
// among the files of the server on their way, see navvy.Stage.
type transferFlags struct {
	transfer bool
	files    []string // --transferfile
	base     []string
	returns  []string
	trc      []string
	cleanup  bool
	moved    navvy.Stage // names those of this call
}

func (f *transferFlags) add(fs *pflag.FlagSet) {
	fs.BoolVar(&f.transfer, "transfer", false, "each input names a file here, which its task finds under that name in its working directory")
	fs.StringArrayVar(&f.files, "transferfile", nil, "the same for a file that is named by `PATTERN`, with placeholders; may be repeated")
	fs.StringArrayVar(&f.base, "basefile", nil, "a `FILE` here that each task finds in its working directory; may be repeated")
	fs.StringArrayVar(&f.returns, "return", nil, "files that a task leaves in its working directory, which come here when it has ended: `PATTERN`, with placeholders; PATTERN? if there may be none")
	fs.StringArrayVar(&f.trc, "trc", nil, "--transfer --return `PATTERN` --cleanup")
	fs.BoolVar(&f.cleanup, "cleanup", false, "remove what was copied for this job when all tasks have succeeded")
}

// settle puts what belongs together in one place, and checks it.
func (f *transferFlags) settle() error {
	if len(f.trc) > 0 {
		f.transfer, f.cleanup = true, true
		f.returns = append(f.returns, f.trc...)
		f.trc = nil
	}
	if f.transfer {
		f.files = append(f.files, "{}")
		f.transfer = false
	}
	if !f.any() && f.cleanup {
		return usagef("--cleanup goes with --transfer, --transferfile, --basefile or --return")
	}
	for _, name := range f.base {
		if strings.Contains(name, "{") {
			return usagef("--basefile %s: a brace would be taken for a placeholder; give the file another name", name)
		}
		if _, err := here("basefile", name); err != nil {
			return err
		}
	}
	f.moved.Transfer = strings.ToLower(rand.Text()[:16])
	return nil
}

func (f *transferFlags) any() bool {
	return f.transfer || len(f.files)+len(f.base)+len(f.returns)+len(f.trc) > 0
}

// stage is what tasks are to find and to leave.
func (f *transferFlags) stage(s *navvy.Stage) {
	if !f.any() {
		return
	}
	s.Transfer, s.Cleanup = f.moved.Transfer, f.cleanup
	for _, name := range f.base {
		s.In = append(s.In, navvy.StagedInput{From: s.TransferFolder() + path.Clean(name), To: path.Clean(name)})
	}
	for _, pattern := range f.files {
		s.In = append(s.In, navvy.StagedInput{From: s.TransferFolder() + pattern, To: pattern})
	}
	for _, pattern := range f.returns {
		out := navvy.StagedOutput{To: s.ReturnTo()}
		out.Pattern, out.Optional = strings.CutSuffix(pattern, "?")
		s.Out = append(s.Out, out)
	}
}

// here checks that a path is one below this directory, and gives it without detours.
func here(flag, name string) (string, error) {
	clean := path.Clean(name)
	if !fs.ValidPath(clean) || clean == "." {
		return "", withHint(usagef("--%s: %q is no file below this directory, whose path a task could have in its own", flag, name), "go to a directory above all files, and name them from there")
	}
	info, err := os.Stat(clean)
	if err != nil {
		return "", usagef("--%s: %w", flag, err)
	}
	if !info.Mode().IsRegular() {
		return "", usagef("--%s: %s is no file", flag, name)
	}
	return clean, nil
}

// transferred adds the files that the inputs name.
func (f *transferFlags) transferred(ctx context.Context, c *navvy.Command, in *input.Reader, names map[string]bool) error {
	if len(f.files) == 0 {
		return nil
	}
	template, err := placeholder.Parse(f.files, placeholder.Options{Columns: c.Columns, Fields: in.Fields(), Stdin: true})
	if err != nil {
		return &usageError{err}
	}
	for n := int64(1); ; {
		inputs, err := in.Batch(ctx)
		for _, raw := range inputs {
			fields, err := in.Format().Fields(raw)
			if err != nil {
				return err
			}
			list, err := template.Render(nil, placeholder.Values{Fields: fields, Seq: n, Slot: 1})
			if err != nil {
				return &usageError{err}
			}
			for _, name := range list {
				clean, err := here("transfer", name)
				if err != nil {
					return err
				}
				names[clean] = true
			}
			n++
		}
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return &usageError{err}
		}
	}
}

// ofStdin tells whether inputs are read from standard input.
func ofStdin(sources []input.Source) bool {
	return len(sources) == 0 || slices.ContainsFunc(sources, func(s input.Source) bool { return s.File == "-" })
}

// spooled keeps standard input in a file without a name, so that it can be read twice.
func (a *app) spooled() (func() io.Reader, func() error, error) {
	file, err := os.CreateTemp("", "navvy-inputs-")
	if err != nil {
		return nil, nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	size, err := io.Copy(file, a.in)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("read standard input: %w", err), file.Close())
	}
	return func() io.Reader { return io.NewSectionReader(file, 0, size) }, file.Close, nil
}
