package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/internal/cli/format"
)

func newContext(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "context", Short: "the servers that you use, by name",
		Long: `A context is a server with the certificate that you use there. They are kept in
$XDG_CONFIG_HOME/navvy/config.yaml, else ~/.config/navvy/config.yaml.

Verbs speak with the server that --server or --context name, else with the one of
NAVVY_SERVER or NAVVY_CONTEXT, else with the one that was chosen by navvy context
use. Without any of these they work on this machine's own data directory.`,
		Example: `  navvy context add team --server build1 --cert me.crt --key me.key --ca ca.crt
  navvy context use team
  navvy ls
  navvy --context local ls`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newContextLs(a), newContextShow(a), newContextAdd(a), newContextUse(a), newContextRm(a))
	return cmd
}

// contextObject is a context as -o json shows it.
type contextObject struct {
	Name    string `json:"name"`
	Current bool   `json:"current"`
	serverContext
}

func newContextLs(a *app) *cobra.Command {
	f := &listFlags{}
	cmd := &cobra.Command{
		Use: "ls [flags]", Short: "list contexts; the current one has a star",
		Example: "  navvy context ls\n  navvy context ls -o json", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := f.check(); err != nil {
				return err
			}
			file, err := a.loadContexts()
			if err != nil {
				return err
			}
			return a.listContexts(f, &file)
		},
	}
	f.add(cmd)
	return cmd
}

func (a *app) listContexts(f *listFlags, file *contextsFile) error {
	out := f.objects(a.out)
	var rows [][]string
	for _, name := range slices.Sorted(maps.Keys(file.Contexts)) {
		c := contextObject{name, name == file.Current, file.Contexts[name]}
		if f.output != "table" {
			if err := out.add(c); err != nil {
				return err
			}
			continue
		}
		star := ""
		if c.Current {
			star = "*"
		}
		rows = append(rows, []string{star, c.Name, c.Server, c.Cert})
	}
	if f.output != "table" {
		return out.close()
	}
	if len(rows) == 0 {
		a.say("there are no contexts; add one with navvy context add")
		return nil
	}
	return format.Table(a.out, []string{"", "NAME", "SERVER", "CERTIFICATE"}, rows)
}

func newContextShow(a *app) *cobra.Command {
	f := &listFlags{}
	cmd := &cobra.Command{
		Use: "show [flags] [NAME]", Short: "one context; by default that which verbs would use now",
		Example: "  navvy context show\n  navvy context show team -o json",
		Args:    cobra.MaximumNArgs(1), ValidArgsFunction: a.completeContexts,
		RunE: func(_ *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			if len(args) == 1 {
				a.remote = remoteFlags{context: args[0]}
			}
			t, err := a.target()
			if err != nil {
				return err
			}
			return a.showTarget(f, t)
		},
	}
	f.add(cmd)
	return cmd
}

func (a *app) showTarget(f *listFlags, t *target) error {
	if t == nil {
		path, err := a.dataPath()
		if err != nil {
			return err
		}
		if f.output != "table" {
			return f.one(a.out, map[string]any{"name": localContext, "data": path})
		}
		return format.Table(a.out, nil, [][]string{{"context", localContext}, {"data", path}})
	}
	file, err := a.loadContexts()
	if err != nil {
		return err
	}
	c := contextObject{t.name, t.name != "" && t.name == file.Current, t.serverContext}
	if f.output != "table" {
		return f.one(a.out, c)
	}
	rows := [][]string{{"context", c.Name}, {"server", c.Server}, {"cert", c.Cert}, {"key", c.Key}, {"ca", c.CA}}
	if c.Name == "" {
		rows = rows[1:]
	}
	return format.Table(a.out, nil, rows)
}

func newContextAdd(a *app) *cobra.Command {
	var use, force bool
	cmd := &cobra.Command{
		Use:   "add [flags] NAME --server ADDR --cert FILE --key FILE --ca FILE",
		Short: "add a server with the certificate that you use there",
		Example: `  navvy context add team --server build1:7433 --cert me.crt --key me.key --ca ca.crt
  navvy context add --use team --server build1 --cert me.crt --key me.key --ca ca.crt`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.addContext(args[0], use, force) },
	}
	cmd.Flags().BoolVar(&use, "use", false, "make it the current one")
	cmd.Flags().BoolVar(&force, "force", false, "replace the context of this name")
	return cmd
}

func (a *app) addContext(name string, use, force bool) error {
	c := a.remote.serverContext
	for _, f := range []struct{ flag, value string }{{"server", c.Server}, {"cert", c.Cert}, {"key", c.Key}, {"ca", c.CA}} {
		if f.value == "" {
			return withHint(usagef("context add: --%s is missing", f.flag), "see navvy context add --help")
		}
	}
	if err := c.check(name); err != nil {
		return &usageError{err}
	}
	for _, file := range []*string{&c.Cert, &c.Key, &c.CA} {
		whole, err := filepath.Abs(*file)
		if err != nil {
			return fmt.Errorf("context add: %w", err)
		}
		*file = whole
	}
	if _, err := c.identity(); errors.Is(err, fs.ErrNotExist) {
		return withHint(usagef("context add: %w", err), "--cert, --key and --ca are files, such as navvy cert issue makes")
	} else if err != nil {
		return err
	}
	err := a.changeContexts(func(f *contextsFile) error {
		if old, ok := f.Contexts[name]; ok && !old.like(c) && !force {
			return withHint(fmt.Errorf("there is a context %s already, for server %s: %w", name, old.Server, navvy.ErrConflict), "replace it with --force, or take another name")
		}
		f.Contexts[name] = c
		if use {
			f.Current = name
		}
		return nil
	})
	if err == nil && use {
		a.say("verbs speak with %s from now on", c.Server)
	}
	return err
}

func newContextUse(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "use NAME", Short: "let verbs speak with this server; local is this machine's data directory",
		Example: "  navvy context use team\n  navvy context use local", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeTarget,
		RunE: func(_ *cobra.Command, args []string) error {
			name := args[0]
			return a.changeContexts(func(f *contextsFile) error {
				if name == localContext {
					f.Current = ""
					a.say("verbs work on this machine's data directory from now on")
					return nil
				}
				c, ok := f.Contexts[name]
				if !ok {
					return f.noContext(name)
				}
				f.Current = name
				a.say("verbs speak with %s from now on", c.Server)
				return nil
			})
		},
	}
}

func newContextRm(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "rm NAME…", Short: "forget servers; their certificates stay",
		Example: "  navvy context rm team", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeContexts,
		RunE: func(_ *cobra.Command, args []string) error {
			return a.changeContexts(func(f *contextsFile) error {
				for _, name := range args {
					if _, ok := f.Contexts[name]; !ok {
						return f.noContext(name)
					}
					delete(f.Contexts, name)
					if f.Current == name {
						f.Current = ""
						a.say("verbs work on this machine's data directory from now on")
					}
				}
				return nil
			})
		},
	}
}

// completeContexts offers the names of contexts.
func (a *app) completeContexts(_ *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	file, err := a.loadContexts()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return slices.Sorted(maps.Keys(file.Contexts)), cobra.ShellCompDirectiveNoFileComp
}
