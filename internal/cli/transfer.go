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
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/input"
	"github.com/navvy-run/navvy/placeholder"
)

// transferFlags copy files from here to tasks and back, as GNU parallel has it. They lie
// among the files of the server on their way: transfer/RUN/… and return/RUN/TASK/….
type transferFlags struct {
	transfer bool
	files    []string // --transferfile
	base     []string
	returns  []string
	trc      []string
	cleanup  bool
	run      string // names those of this call
}

const (
	transferFolder = "transfer/"
	returnFolder   = "return/"
)

func (f *transferFlags) add(fs *pflag.FlagSet) {
	fs.BoolVar(&f.transfer, "transfer", false, "each input names a file here, which its task finds under that name in its working directory")
	fs.StringArrayVar(&f.files, "transferfile", nil, "the same for a file that is named by `PATTERN`, with placeholders; may be repeated")
	fs.StringArrayVar(&f.base, "basefile", nil, "a `FILE` here that each task finds in its working directory; may be repeated")
	fs.StringArrayVar(&f.returns, "return", nil, "files that a task leaves in its working directory, which come here when all have ended: `PATTERN`, with placeholders; PATTERN? if there may be none")
	fs.StringArrayVar(&f.trc, "trc", nil, "--transfer --return `PATTERN` --cleanup")
	fs.BoolVar(&f.cleanup, "cleanup", false, "remove what was copied for this job when all have ended")
}

// settle puts what belongs together in one place, and checks it.
func (f *transferFlags) settle(detach bool) error {
	if len(f.trc) > 0 {
		f.transfer, f.cleanup = true, true
		f.returns = append(f.returns, f.trc...)
		f.trc = nil
	}
	if f.transfer {
		f.files = append(f.files, "{}")
		f.transfer = false
	}
	switch {
	case !f.any() && f.cleanup:
		return usagef("--cleanup goes with --transfer, --transferfile, --basefile or --return")
	case detach && (f.cleanup || len(f.returns) > 0):
		return withHint(usagef("--return and --cleanup are done by who waits for the job, and -d waits for nothing"), "keep files in the share with --out")
	}
	for _, name := range f.base {
		if strings.Contains(name, "{") {
			return usagef("--basefile %s: a brace would be taken for a placeholder; give the file another name", name)
		}
		if _, err := here("basefile", name); err != nil {
			return err
		}
	}
	f.run = strings.ToLower(rand.Text()[:16])
	return nil
}

func (f *transferFlags) any() bool {
	return f.transfer || len(f.files)+len(f.base)+len(f.returns)+len(f.trc) > 0
}

// stage is what tasks are to find and to leave.
func (f *transferFlags) stage(s *navvy.Stage) {
	for _, name := range f.base {
		s.In = append(s.In, navvy.StagedInput{From: transferFolder + f.run + "/" + path.Clean(name), To: path.Clean(name)})
	}
	for _, pattern := range f.files {
		s.In = append(s.In, navvy.StagedInput{From: transferFolder + f.run + "/" + pattern, To: pattern})
	}
	for _, pattern := range f.returns {
		out := navvy.StagedOutput{To: returnFolder + f.run + "/{#}"}
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

// upload copies the files of all inputs to the server. Each goes once.
func (a *app) upload(ctx context.Context, f *transferFlags, c *navvy.Command, in *input.Reader) error {
	names := map[string]bool{}
	for _, name := range f.base {
		names[path.Clean(name)] = true
	}
	if err := f.transferred(ctx, c, in, names); err != nil {
		return err
	}
	if len(names) == 0 {
		return nil
	}
	return a.with(ctx, needLook, func(conn *conn) error {
		for name := range names {
			if err := putHere(ctx, conn.Files(), transferFolder+f.run+"/"+name, name); err != nil {
				return fmt.Errorf("copy %s to the server: %w", name, err)
			}
		}
		return nil
	})
}

func putHere(ctx context.Context, files client.Files, key, name string) error {
	r, err := os.Open(name)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = files.Put(ctx, key, r, client.PutFileOptions{})
	return err
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

// fetchReturned brings here what the tasks of a job have left, in the order of the tasks;
// it is whole or not here at all.
func (a *app) fetchReturned(ctx context.Context, f *transferFlags) error {
	if len(f.returns) == 0 {
		return nil
	}
	root, err := os.OpenRoot(".")
	if err != nil {
		return err
	}
	defer root.Close()
	return a.with(ctx, needLook, func(c *conn) error {
		prefix := returnFolder + f.run + "/"
		for file, err := range c.Files().List(ctx, prefix) {
			if err != nil {
				return err
			}
			_, name, _ := strings.Cut(strings.TrimPrefix(file.Key, prefix), "/")
			if err := fetchHere(ctx, c.Files(), root, file.Key, name); err != nil {
				return fmt.Errorf("copy %s here: %w", name, err)
			}
		}
		return nil
	})
}

// fetchHere writes a file below this directory, whatever links there are.
func fetchHere(ctx context.Context, files client.Files, root *os.Root, key, name string) (err error) {
	if err := root.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return err
	}
	temporary := filepath.Join(filepath.Dir(name), ".navvy-"+rand.Text()[:12])
	w, err := root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, root.Remove(temporary))
		}
	}()
	_, err = files.Get(ctx, key, w)
	if err == nil {
		err = w.Sync()
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return err
	}
	return root.Rename(temporary, name)
}

// cleanUp removes what was copied for a job.
func (a *app) cleanUp(ctx context.Context, f *transferFlags) error {
	if !f.cleanup {
		return nil
	}
	return a.with(ctx, needLook, func(c *conn) error {
		for _, prefix := range []string{transferFolder + f.run + "/", returnFolder + f.run + "/"} {
			var keys []string
			for file, err := range c.Files().List(ctx, prefix) {
				if err != nil {
					return err
				}
				keys = append(keys, file.Key)
			}
			for _, key := range keys {
				if err := c.Files().Remove(ctx, key); err != nil && !errors.Is(err, navvy.ErrNotFound) {
					return err
				}
			}
		}
		return nil
	})
}
