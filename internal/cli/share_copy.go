package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/share"
	"github.com/navvy-run/navvy/share/place"
)

// copyFlags are those of verbs that copy files.
type copyFlags struct {
	recursive, ifAbsent, skipLinks bool
	remove, dryRun                 bool
	parallel                       int
	quiet, progress                bool
}

func (f *copyFlags) add(cmd *cobra.Command) {
	cmd.Flags().IntVarP(&f.parallel, "jobs", "j", 4, "so many files at once, of folders")
	cmd.Flags().BoolVar(&f.quiet, "quiet", false, "say nothing but errors, show no progress")
	cmd.Flags().BoolVar(&f.progress, "progress", false, "report progress also where standard error is no terminal")
}

func (f *copyFlags) check() error {
	if f.parallel < 1 {
		return usagef("-j %d: want 1 or more", f.parallel)
	}
	return nil
}

// options are those of Sync, which shows what it does on b.
func (f *copyFlags) options(a *app, b *copyBar) *share.SyncOptions {
	return &share.SyncOptions{
		Delete: f.remove, DryRun: f.dryRun, SkipSpecial: f.skipLinks, Parallel: f.parallel,
		Skipped:  func(e *share.NotRegular) { a.say("left out: %v", e) },
		Planned:  func(p *share.Plan) { b.expect(int64(len(p.Copy)), p.Bytes) },
		Progress: b.add,
	}
}

func newSharePut(a *app) *cobra.Command {
	f := &copyFlags{}
	cmd := &cobra.Command{
		Use: "put [flags] FILE… PLACE", Short: "copy files into a share",
		Long: `put copies files into a share; - is standard input. A place that ends with a slash, or
is a whole share, is a folder into which a file goes under its own name, as several files
do anyway. Each file appears whole or not at all, and is durable when put has ended.

With -r directories are copied with all that is in them, but what is there already with
the same size and checksum is not copied again. Symbolic links, pipes and devices are not
copied: they are an error, before anything is copied, or with --skip-links left out.`,
		Example: `  navvy share put data.bin share://default/in/
  navvy share put data.bin share://default/in/other-name.bin
  navvy share put -r results share://default/run-7
  tar cz src | navvy share put - share://default/src.tar.gz`,
		Args: cobra.MinimumNArgs(2), ValidArgsFunction: a.completeCopy,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			if f.recursive && f.ifAbsent {
				return usagef("-r and --if-absent exclude each other: -r replaces what differs")
			}
			return a.sharing(cmd.Context(), func(ctx context.Context) error { return a.put(ctx, f, args[:len(args)-1], args[len(args)-1]) })
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVarP(&f.recursive, "recursive", "r", false, "copy directories, too")
	cmd.Flags().BoolVar(&f.ifAbsent, "if-absent", false, "only if there is no file of that name yet")
	cmd.Flags().BoolVar(&f.skipLinks, "skip-links", false, "leave out symbolic links, pipes and devices in directories")
	return cmd
}

func (a *app) put(ctx context.Context, f *copyFlags, files []string, to string) error {
	p, err := parsePlace(to)
	if err != nil {
		return err
	}
	b := a.newCopyBar(f)
	for _, name := range files {
		if err := f.checkSource(name, p, len(files), b); err != nil {
			return err
		}
		if err := place.CheckKey(targetKey(p, filepath.Base(filepath.Clean(name)), len(files))); err != nil {
			return withHint(err, "rename it, or give it another name in the share: navvy share put FILE share://NAME/FILE")
		}
	}
	return a.withShare(ctx, p, true, func(s *share.Share) error {
		defer b.end()
		for _, name := range files {
			if err := a.putOne(ctx, s, f, b, name, targetKey(p, filepath.Base(filepath.Clean(name)), len(files))); err != nil {
				return err
			}
		}
		return nil
	})
}

// checkSource refuses what cannot be put, and tells the bar of a file to come. What is in
// directories is known when they were looked through.
func (f *copyFlags) checkSource(name string, p place.Place, files int, b *copyBar) error {
	if name == "-" {
		if p.Folder || files > 1 {
			return withHint(usagef("standard input has no name"), "give it one: navvy share put - share://NAME/FILE")
		}
		b.expect(1, -1)
		return nil
	}
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return sourceError(name, err)
	case info.IsDir() && !f.recursive:
		return withHint(usagef("%s is a directory", name), "copy it with all that is in it: -r")
	case info.Mode().IsRegular():
		b.expect(1, info.Size())
	case !info.IsDir():
		b.expect(1, -1)
	}
	return nil
}

// sourceError says why a file of this machine cannot be read.
func sourceError(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return withHint(fmt.Errorf("there is no file %s: %w", name, navvy.ErrNotFound), "name a file of this machine, or - for standard input")
	case errors.Is(err, fs.ErrPermission):
		return withHint(fmt.Errorf("%w: %w", err, navvy.ErrDenied), "see who may read it: ls -ld %s", name)
	}
	return &usageError{err}
}

// targetKey is where a file of that name goes.
func targetKey(p place.Place, name string, files int) string {
	if p.Folder || files > 1 {
		return path.Join(p.Path, name)
	}
	return p.Path
}

func (a *app) putOne(ctx context.Context, s *share.Share, f *copyFlags, b *copyBar, name, key string) error {
	o := &share.PutOptions{IfAbsent: f.ifAbsent, Progress: func(n int64) { b.add(n, 0) }}
	if name == "-" {
		_, err := s.Put(ctx, key, a.in, o)
		return err
	}
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		tree, err := s.Folder(key)
		if err == nil {
			_, err = share.Sync(ctx, share.Dir(name), tree, f.options(a, b))
		}
		return err
	}
	r, err := os.Open(name)
	if err != nil {
		return sourceError(name, err)
	}
	defer r.Close()
	_, err = s.Put(ctx, key, r, o)
	b.add(0, 1)
	return err
}

func newShareGet(a *app) *cobra.Command {
	f := &copyFlags{}
	cmd := &cobra.Command{
		Use: "get [flags] PLACE… [FILE | DIR]", Short: "copy files out of a share",
		Long: `get copies files out of a share, into the current directory, another one, or a file; -
is standard output. A file is checked against its checksum and appears whole or not at
all; what has gone to standard output and was damaged is told by the exit code, 65.

With -r all that is below a place is copied into a directory of its name, but what is
there already with the same size and checksum is not copied again.`,
		Example: `  navvy share get share://default/in/data.bin
  navvy share get share://default/src.tar.gz - | tar xz
  navvy share get -r share://default/run-7 results`,
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeCopy,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return a.sharing(cmd.Context(), func(ctx context.Context) error { return a.get(ctx, f, args) })
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVarP(&f.recursive, "recursive", "r", false, "copy all that is below each place")
	return cmd
}

func (a *app) get(ctx context.Context, f *copyFlags, args []string) error {
	to := "."
	if last := args[len(args)-1]; len(args) > 1 && !place.Is(last) {
		args, to = args[:len(args)-1], last
	}
	info, err := os.Stat(to)
	into := err == nil && info.IsDir() || strings.HasSuffix(to, "/")
	if len(args) > 1 && !into {
		return usagef("%s is no directory, and there are %d places", to, len(args))
	}
	if to == "-" && f.recursive {
		return usagef("-r copies into a directory, not to standard output")
	}
	b := a.newCopyBar(f)
	defer b.end()
	for _, arg := range args {
		p, err := parsePlace(arg)
		if err != nil {
			return err
		}
		dest := to
		if into && p.Path != "" {
			dest = filepath.Join(to, path.Base(p.Path))
		}
		err = a.withShare(ctx, p, false, func(s *share.Share) error { return a.getOne(ctx, s, f, b, p, dest) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *app) getOne(ctx context.Context, s *share.Share, f *copyFlags, b *copyBar, p place.Place, dest string) error {
	if p.Folder && !f.recursive {
		return withHint(usagef("%s is a folder", p), "copy all that is below it: -r")
	}
	if p.Folder {
		return a.getFolder(ctx, s, f, b, p, dest)
	}
	file, err := s.Stat(ctx, p.Path)
	if errors.Is(err, navvy.ErrNotFound) {
		for _, listErr := range s.List(ctx, p.Path+"/") {
			switch {
			case listErr != nil:
			case f.recursive:
				return a.getFolder(ctx, s, f, b, p, dest)
			default:
				err = withHint(err, "it is a folder: copy all that is below it with -r")
			}
			break
		}
	}
	if err != nil {
		return err
	}
	b.expect(1, file.Size)
	progress := func(n int64) { b.add(n, 0) }
	if dest == "-" {
		_, err = s.Copy(ctx, p.Path, a.out, progress)
	} else {
		_, err = s.Fetch(ctx, p.Path, dest, progress)
	}
	b.add(0, 1)
	return err
}

func (a *app) getFolder(ctx context.Context, s *share.Share, f *copyFlags, b *copyBar, p place.Place, dest string) error {
	tree, err := s.Folder(p.Path)
	if err != nil {
		return err
	}
	plan, err := share.Sync(ctx, tree, share.Dir(dest), f.options(a, b))
	if err == nil && len(plan.Copy) == 0 && plan.Same == 0 {
		err = fmt.Errorf("there is nothing below %s: %w", p, navvy.ErrNotFound)
	}
	return err
}

func newShareSync(a *app) *cobra.Command {
	f := &copyFlags{}
	cmd := &cobra.Command{
		Use: "sync [flags] SRC DST", Short: "make a folder like another one: a directory and a place, or two places",
		Long: `sync copies the files below SRC that are not below DST, or have another size or
checksum there. With --delete it then removes what is below DST and not below SRC; it
refuses to if there is nothing below SRC. One of both may be a directory of this machine.

Each file is copied whole or not at all. If sync is interrupted, what was copied stays,
and the next one goes on. Symbolic links, pipes and devices are an error, before anything
is copied, or with --skip-links left out.`,
		Example: `  navvy share sync results share://default/run-7
  navvy share sync share://default/run-7 results
  navvy share sync -n --delete results share://lake/run-7`,
		Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeCopy,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			if !place.Is(args[0]) && !place.Is(args[1]) {
				return withHint(usagef("%s and %s are both directories", args[0], args[1]), "one of them must be a place such as share://NAME/PATH")
			}
			return a.sharing(cmd.Context(), func(ctx context.Context) error { return a.sync(ctx, f, args[0], args[1]) })
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&f.remove, "delete", false, "remove what SRC does not have")
	cmd.Flags().BoolVarP(&f.dryRun, "dry-run", "n", false, "print what would be done, and do nothing")
	cmd.Flags().BoolVar(&f.skipLinks, "skip-links", false, "leave out symbolic links, pipes and devices")
	return cmd
}

func (a *app) sync(ctx context.Context, f *copyFlags, src, dst string) error {
	return a.withTree(ctx, src, false, func(from share.Tree) error {
		return a.withTree(ctx, dst, true, func(to share.Tree) error {
			b := a.newCopyBar(f)
			plan, err := share.Sync(ctx, from, to, f.options(a, b))
			b.end()
			if err != nil {
				return err
			}
			if len(plan.Copy) == 0 && plan.Same == 0 && place.Is(src) {
				return fmt.Errorf("there is nothing below %s: %w", src, navvy.ErrNotFound)
			}
			if !f.dryRun {
				return nil
			}
			for i := range plan.Copy {
				if _, err := fmt.Fprintf(a.out, "copy   %s\n", plan.Copy[i].Key); err != nil {
					return err
				}
			}
			for i := range plan.Remove {
				if _, err := fmt.Fprintf(a.out, "remove %s\n", plan.Remove[i].Key); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// withTree opens one side of a sync.
func (a *app) withTree(ctx context.Context, text string, create bool, fn func(share.Tree) error) error {
	if !place.Is(text) {
		if info, err := os.Stat(text); !create && errors.Is(err, fs.ErrNotExist) {
			return withHint(fmt.Errorf("there is no directory %s: %w", text, navvy.ErrNotFound), "name a directory of this machine, or a place such as share://NAME/PATH")
		} else if err == nil && !info.IsDir() {
			return withHint(usagef("%s is a file", text), "copy it with navvy share put")
		}
		return fn(share.Dir(text))
	}
	p, err := parsePlace(text)
	if err != nil {
		return err
	}
	return a.withShare(ctx, p, create, func(s *share.Share) error {
		tree, err := s.Folder(p.Path)
		if err != nil {
			return err
		}
		return fn(tree)
	})
}

// completeCopy completes places, and files where no place has begun.
func (a *app) completeCopy(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if prefix != "" && !strings.HasPrefix("share://", prefix) && !strings.HasPrefix(prefix, "share://") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	list, directive := a.completePlaces(cmd, args, prefix)
	if prefix == "" {
		directive = cobra.ShellCompDirectiveDefault
		list = nil // files; who wants a place begins with share
	}
	return list, directive
}
