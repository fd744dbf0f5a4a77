package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/internal/cli/format"
	"github.com/navvy-run/navvy/parcel"
	"github.com/navvy-run/navvy/quantity"
	"github.com/navvy-run/navvy/share"
	"github.com/navvy-run/navvy/share/place"
)

func newPackage(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "package", Short: "the files of services, by name and version",
		Long: `A package is the directory of a service, packed under a name and a version. Whoever
starts the service deploys it: navvy map --service --package, navvy queue set --service
--package, navvy worker start --service --package. Programs start in it, cannot change it,
and find in it exactly what was put, with the files that can be executed.

A version never changes: what is put under one a second time must be the same. Packages
lie in the share default, as packages/NAME/VERSION.tgz, or in another one with --share.
docs/services.md says more.`,
		Example: `  navvy package put ocr@1.2 ./ocr
  navvy queue set scans --service 'lines:./ocr --fast' --package ocr@1.2
  navvy package ls`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPackagePut(a), newPackageGet(a), newPackageLs(a), newPackageRm(a))
	return cmd
}

// packageFlags say where packages are.
type packageFlags struct{ share string }

func (f *packageFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.share, "share", defaultShare, "the `NAME` of the share in which packages are; jobs and queues have those of default alone")
}

// with opens the share.
func (f *packageFlags) with(ctx context.Context, a *app, create bool, fn func(context.Context, *share.Share) error) error {
	if err := place.CheckName(f.share); err != nil {
		return usagef("--share: %w", err)
	}
	return a.sharing(ctx, func(ctx context.Context) error {
		return a.withShare(ctx, place.Place{Name: f.share}, create, func(s *share.Share) error { return fn(ctx, s) })
	})
}

// packageArg reads NAME@VERSION.
func packageArg(text string) (navvy.Package, error) {
	p, err := navvy.ParsePackage(text)
	if err != nil {
		return p, withHint(&usageError{err}, "such as ocr@1.2; navvy package ls lists those that there are")
	}
	return p, nil
}

// noPackage says what to do about one that is not there.
func noPackage(err error, p *navvy.Package) error {
	if !errors.Is(err, navvy.ErrNotFound) {
		return err
	}
	return withHint(fmt.Errorf("there is no package %s: %w", p, navvy.ErrNotFound), "navvy package ls lists them, and navvy package put %s DIRECTORY makes it", p)
}

func newPackagePut(a *app) *cobra.Command {
	f := &packageFlags{}
	cmd := &cobra.Command{
		Use: "put NAME@VERSION SOURCE", Short: "pack a directory under a name and a version",
		Long: `put packs a directory, or takes an archive: tar, tar.gz or zip. SOURCE may be a place
in a share, too: an archive, or a folder, whose files then are all executable, as shares
keep no modes. Of files are kept names, contents and whether they can be executed; of
links, those that lead to something in the directory. Anything else is refused.

What is there under this version already must be the same.`,
		Example: "  navvy package put ocr@1.2 ./ocr\n  navvy package put ocr@1.3 ocr-1.3.zip\n  navvy package put ocr@1.4 share://default/build/ocr/",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := packageArg(args[0])
			if err != nil {
				return err
			}
			return a.putPackage(cmd.Context(), f, &p, args[1])
		},
	}
	f.add(cmd)
	return cmd
}

// putPackage packs a source, and puts it where packages are.
func (a *app) putPackage(ctx context.Context, f *packageFlags, p *navvy.Package, source string) error {
	dir, err := os.MkdirTemp("", "navvy-package-")
	if err != nil {
		return err
	}
	defer parcel.Remove(dir) //nolint:errcheck // of a directory for temporary files
	var packed *packedFile
	err = a.sharing(ctx, func(ctx context.Context) (err error) {
		packed, err = a.pack(ctx, source, dir)
		return err
	})
	if err != nil {
		return packageSourceError(err, source)
	}
	return f.with(ctx, a, true, func(ctx context.Context, s *share.Share) error {
		archive, err := os.Open(packed.path)
		if err != nil {
			return err
		}
		defer archive.Close()
		_, err = s.Put(ctx, p.File(), archive, &share.PutOptions{SHA256: packed.sum, IfAbsent: true})
		if errors.Is(err, navvy.ErrExists) {
			return a.samePackage(ctx, s, p, packed, dir)
		}
		if err == nil {
			a.say("package %s: %s with %s, packed %s", p, count(int64(packed.contents.Entries), "file"), quantity.Size(packed.contents.Bytes), quantity.Size(packed.size))
		}
		return err
	})
}

// samePackage is content with a package that is there already, if it is the same.
func (a *app) samePackage(ctx context.Context, s *share.Share, p *navvy.Package, packed *packedFile, dir string) error {
	there, err := s.Stat(ctx, p.File())
	same := err == nil && there.SHA256 == packed.sum
	if err == nil && !same {
		// Another navvy may have compressed it in another way.
		old := filepath.Join(dir, "old")
		if _, err = s.Fetch(ctx, p.File(), old, nil); err == nil {
			same, err = sameUnzipped(old, packed.path)
		}
	}
	switch {
	case err != nil:
		return err
	case !same:
		return withHint(fmt.Errorf("package %s is there already, with other files in it: %w", p, navvy.ErrExists),
			"a version never changes: put it under another one")
	}
	a.say("package %s is there already, and the same", p)
	return nil
}

func newPackageGet(a *app) *cobra.Command {
	f := &packageFlags{}
	cmd := &cobra.Command{
		Use: "get NAME@VERSION DIRECTORY", Short: "unpack a package into a new directory",
		Example: "  navvy package get ocr@1.2 ./ocr-1.2", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := packageArg(args[0])
			if err != nil {
				return err
			}
			if _, err := os.Lstat(args[1]); err == nil {
				return withHint(usagef("%s is there already", args[1]), "name a directory that is not there yet")
			}
			return f.with(cmd.Context(), a, false, func(ctx context.Context, s *share.Share) error {
				return noPackage(deployArchive(ctx, s, p.File(), args[1], &parcel.Options{Writable: true}), &p)
			})
		},
	}
	f.add(cmd)
	return cmd
}

// packageObject is a package as -o json shows it.
type packageObject struct {
	Name    string    `json:"name"`
	Version string    `json:"version"`
	Size    int64     `json:"size"` // of the archive, in bytes
	Changed time.Time `json:"changed"`
}

func newPackageLs(a *app) *cobra.Command {
	list := &listFlags{}
	f := &packageFlags{}
	cmd := &cobra.Command{
		Use: "ls [NAME] [flags]", Short: "list packages, with their versions",
		Example: "  navvy package ls\n  navvy package ls ocr -o jsonl", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := list.check(); err != nil {
				return err
			}
			prefix := navvy.PackagesFolder
			if len(args) == 1 {
				prefix += args[0] + "/"
			}
			err := f.with(cmd.Context(), a, false, func(ctx context.Context, s *share.Share) error {
				return a.listPackages(ctx, s, prefix, list)
			})
			if errors.Is(err, errNoFiles) {
				return a.printPackages(list, nil)
			}
			return err
		},
	}
	list.add(cmd)
	f.add(cmd)
	return cmd
}

func (a *app) listPackages(ctx context.Context, s *share.Share, prefix string, f *listFlags) error {
	var list []packageObject
	for file, err := range s.List(ctx, prefix) {
		if err != nil {
			return err
		}
		if p, ok := navvy.PackageOf(file.Key); ok {
			list = append(list, packageObject{p.Name, p.Version, file.Size, file.Modified})
		}
	}
	return a.printPackages(f, list)
}

func (a *app) printPackages(f *listFlags, list []packageObject) error {
	if f.output != "table" {
		out := f.objects(a.out)
		for _, o := range list {
			if err := out.add(o); err != nil {
				return err
			}
		}
		return out.close()
	}
	if len(list) == 0 {
		a.say("there are no packages")
		return nil
	}
	rows := make([][]string, 0, len(list))
	for _, o := range list {
		rows = append(rows, []string{o.Name, o.Version, quantity.Size(o.Size), moment(o.Changed)})
	}
	return format.Table(a.out, []string{"NAME", "VERSION", "SIZE", "CHANGED"}, rows)
}

func newPackageRm(a *app) *cobra.Command {
	f := &packageFlags{}
	cmd := &cobra.Command{
		Use: "rm NAME@VERSION…", Short: "remove packages",
		Long: `rm removes packages. Services that run go on; jobs and queues that name one fail then,
on workers that have not got it yet.`,
		Example: "  navvy package rm ocr@1.1", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, arg := range args {
				if _, err := packageArg(arg); err != nil {
					return err
				}
			}
			return f.with(cmd.Context(), a, false, func(ctx context.Context, s *share.Share) error {
				for _, arg := range args {
					p, _ := packageArg(arg) // as above
					if err := noPackage(s.Remove(ctx, p.File()), &p); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	f.add(cmd)
	return cmd
}
