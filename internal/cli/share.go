package cli

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	"github.com/navvy-run/navvy/internal/cli/format"
	"github.com/navvy-run/navvy/internal/holder"
	"github.com/navvy-run/navvy/quantity"
	"github.com/navvy-run/navvy/share"
	"github.com/navvy-run/navvy/share/place"
)

func newShare(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "share", Short: "files that jobs need and make",
		Long: `A share keeps files: in a directory, in S3, or in Azure's Blob storage. A file appears
whole or not at all, with its checksum, and who reads it is told if it is damaged.

A place in a share is written share://NAME/PATH, or as a URL: file:///DIR#PATH,
s3://BUCKET/PATH?OPTIONS, azblob://CONTAINER/PATH. A path that ends with a slash is a
folder. Names are given with navvy share add, and kept in
$XDG_CONFIG_HOME/navvy/shares.yaml; the share default is there without that: your own
files on the server, or without one in this machine's data. Tasks reach it with navvy map
--in and --out. docs/share.md has the URLs and their options.`,
		Example: `  navvy share put data.bin share://default/in/
  navvy share ls share://default
  navvy share get share://default/in/data.bin
  navvy share sync results share://default/run-7`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newSharePut(a), newShareGet(a), newShareLs(a), newShareRm(a), newShareSync(a), newShareAdd(a), newShareForget(a))
	return cmd
}

// sharing runs what a verb does, until a signal ends it. What is on its way is given up then.
func (a *app) sharing(ctx context.Context, verb func(context.Context) error) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, stop)() // a second one does not wait until it is given up
	// The AWS SDK writes to package log what its error says, too; this takes both to nowhere.
	slog.SetDefault(slog.New(slog.DiscardHandler))
	err := verb(ctx)
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return &exitError{code: api.ExitInterrupted}
	}
	return shareHint(err)
}

// withShare opens the share of a place, and closes it when fn is done.
func (a *app) withShare(ctx context.Context, p place.Place, create bool, fn func(*share.Share) error) error {
	s, err := a.openShare(ctx, p, create)
	if err != nil {
		return err
	}
	return errors.Join(fn(s), s.Close())
}

func newShareAdd(a *app) *cobra.Command {
	var file string
	var force bool
	cmd := &cobra.Command{
		Use: "add NAME [URL | --url-file FILE] [flags]", Short: "give a share a name",
		Long: `add gives a share a name, in $XDG_CONFIG_HOME/navvy/shares.yaml, else
~/.config/navvy/shares.yaml. A URL with a password comes from a file, or with - from
standard input: arguments are seen by all users of the machine. Whether the share can be
reached is not asked. The name default takes the place of the share that is there anyway.`,
		Example: `  navvy share add team file:///mnt/team/share
  navvy share add lake 's3://lake/team?region=eu-central-1'
  navvy share add store --url-file store.url`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 2) == (file != "") {
				return withHint(usagef("want one URL: an argument, or --url-file FILE"), "see navvy share add --help")
			}
			at := ""
			if len(args) == 2 {
				at = args[1]
				if err := noPassword(at); err != nil {
					return err
				}
			} else {
				text, err := a.smallFile(file)
				if err != nil {
					return usagef("--url-file: %w", err)
				}
				at = strings.TrimSpace(text)
			}
			return a.addShare(cmd.Context(), args[0], at, force)
		},
	}
	cmd.Flags().StringVar(&file, "url-file", "", "a `FILE` that holds the URL, for one with a password; - for standard input")
	cmd.Flags().BoolVar(&force, "force", false, "replace the share of this name")
	return cmd
}

func newShareForget(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "forget NAME…", Short: "take the names of shares away; their files stay",
		Example: "  navvy share forget lake", Args: cobra.MinimumNArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			file, err := a.loadShares()
			return offered(slices.Sorted(maps.Keys(file.Shares)), err)
		},
		RunE: func(_ *cobra.Command, args []string) error { return a.forgetShares(args) },
	}
}

func newShareLs(a *app) *cobra.Command {
	f := &listFlags{}
	sums := false
	cmd := &cobra.Command{
		Use: "ls [PLACE] [flags]", Short: "list the files at and below a place; without one, the shares",
		Long: `ls lists files, with their names in the share. Without a place it lists the shares
that have a name; passwords in their URLs are not shown.`,
		Example: `  navvy share ls
  navvy share ls share://default/in
  navvy share ls share://default --sums -o jsonl`,
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.completePlaces,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return a.sharing(cmd.Context(), func(ctx context.Context) error {
				if len(args) == 0 {
					return a.listShares(f)
				}
				p, err := parsePlace(args[0])
				if err != nil {
					return err
				}
				err = a.withShare(ctx, p, false, func(s *share.Share) error { return a.listFiles(ctx, s, p, f, sums) })
				if errors.Is(err, errNoFiles) {
					return a.printFiles(f, nil)
				}
				return err
			})
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&sums, "sums", false, "with their SHA-256, as far as it is known")
	return cmd
}

// shareObject is a share as -o json shows it.
type shareObject struct {
	Name string `json:"name"`
	URL  string `json:"url"`
}

func (a *app) listShares(f *listFlags) error {
	file, err := a.loadShares()
	if err != nil {
		return err
	}
	list := map[string]string{}
	t, err := a.target()
	if err != nil {
		return err
	}
	if t != nil {
		list[defaultShare] = "server " + t.Server
	} else if path, err := a.dataPath(); err == nil {
		if path, err = filepath.Abs(path); err == nil {
			list[defaultShare] = "file://" + holder.ShareDir(path)
		}
	}
	for name, s := range file.Shares {
		list[name] = shareURL(s.URL)
	}
	out := f.objects(a.out)
	var rows [][]string
	for _, name := range slices.Sorted(maps.Keys(list)) {
		rows = append(rows, []string{name, list[name]})
		if f.output != "table" {
			if err := out.add(shareObject{name, list[name]}); err != nil {
				return err
			}
		}
	}
	if f.output != "table" {
		return out.close()
	}
	return format.Table(a.out, []string{"NAME", "URL"}, rows)
}

// sharedFile is a file as -o json shows it.
type sharedFile struct {
	Name    string    `json:"name"`
	Size    int64     `json:"size"`
	Changed time.Time `json:"changed"`
	SHA256  string    `json:"sha256,omitempty"`
}

// at goes through the file of a place and those below it.
func at(ctx context.Context, s *share.Share, p place.Place, yield func(share.File) error) error {
	prefix := p.Path
	if prefix != "" {
		if !p.Folder {
			file, err := s.Stat(ctx, prefix)
			if err == nil {
				err = yield(file)
			}
			if err != nil && !errors.Is(err, navvy.ErrNotFound) {
				return err
			}
		}
		prefix += "/"
	}
	for file, err := range s.List(ctx, prefix) {
		if err == nil {
			err = yield(file)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *app) listFiles(ctx context.Context, s *share.Share, p place.Place, f *listFlags, sums bool) error {
	var list []share.File
	out := f.objects(a.out)
	err := at(ctx, s, p, func(file share.File) (err error) {
		if sums && file.SHA256 == "" {
			if file, err = s.Stat(ctx, file.Key); err != nil {
				return err
			}
		} else if !sums {
			file.SHA256 = ""
		}
		if f.output == "table" {
			list = append(list, file)
			return nil
		}
		return out.add(sharedFile{file.Key, file.Size, file.Modified, file.SHA256})
	})
	if err != nil {
		return err
	}
	if f.output != "table" {
		return out.close()
	}
	return a.printFiles(f, list)
}

// printFiles prints a table; of no files also what stands for one elsewhere.
func (a *app) printFiles(f *listFlags, list []share.File) error {
	if f.output != "table" {
		return f.objects(a.out).close()
	}
	if len(list) == 0 {
		a.say("there are no files")
		return nil
	}
	header, rows := []string{"NAME", "SIZE", "CHANGED"}, make([][]string, 0, len(list))
	for i := range list {
		file := &list[i]
		row := []string{file.Key, quantity.Size(file.Size), moment(file.Modified)}
		if file.SHA256 != "" {
			header, row = []string{"NAME", "SIZE", "CHANGED", "SHA256"}, append(row, file.SHA256)
		}
		rows = append(rows, row)
	}
	return format.Table(a.out, header, rows)
}

func newShareRm(a *app) *cobra.Command {
	recursive := false
	cmd := &cobra.Command{
		Use: "rm PLACE… [flags]", Short: "remove files; with -r what is below folders, too",
		Example: "  navvy share rm share://default/in/data.bin\n  navvy share rm -r share://default/run-7",
		Args:    cobra.MinimumNArgs(1), ValidArgsFunction: a.completePlaces,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.sharing(cmd.Context(), func(ctx context.Context) error {
				for _, arg := range args {
					p, err := parsePlace(arg)
					if err != nil {
						return err
					}
					if p.Path == "" {
						return withHint(usagef("%s is the whole share", p), "name the files or folders in it; navvy share ls %s lists them", p)
					}
					if err := a.withShare(ctx, p, false, func(s *share.Share) error { return removeAt(ctx, s, p, recursive) }); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVarP(&recursive, "recursive", "r", false, "remove all that is at and below each place")
	return cmd
}

func removeAt(ctx context.Context, s *share.Share, p place.Place, recursive bool) error {
	if !recursive {
		if p.Folder {
			return withHint(usagef("%s is a folder", p), "remove all that is in it with -r")
		}
		return s.Remove(ctx, p.Path)
	}
	// What is listed is not what is removed meanwhile: first the one, then the other.
	var keys []string
	err := at(ctx, s, p, func(f share.File) error {
		keys = append(keys, f.Key)
		return nil
	})
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		_, err := s.Stat(ctx, p.Path)
		return err
	}
	for _, key := range keys {
		if err := s.Remove(ctx, key); err != nil && !errors.Is(err, navvy.ErrNotFound) {
			return err
		}
	}
	return nil
}

// completePlaces offers shares, then what is in them, a part at a time.
func (a *app) completePlaces(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	rest, ok := strings.CutPrefix(prefix, "share://")
	name, path, in := strings.Cut(rest, "/")
	if !ok || !in {
		file, err := a.loadShares()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		list := []string{"share://" + defaultShare + "/"}
		for name := range maps.Keys(file.Shares) {
			list = append(list, "share://"+name+"/")
		}
		slices.Sort(list)
		return slices.Compact(list), cobra.ShellCompDirectiveNoSpace
	}
	var found []string
	err := a.withShare(cmd.Context(), place.Place{Name: name}, false, func(s *share.Share) error {
		for f, err := range s.List(cmd.Context(), path) {
			if err != nil {
				return err
			}
			next := f.Key
			if i := strings.IndexByte(f.Key[len(path):], '/'); i >= 0 {
				next = f.Key[:len(path)+i+1]
			}
			if word := "share://" + name + "/" + next; !slices.Contains(found, word) {
				found = append(found, word)
			}
			if len(found) == maxOffered {
				break
			}
		}
		return nil
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return found, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
}
