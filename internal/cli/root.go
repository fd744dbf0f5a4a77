package cli

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

// newRoot is the whole tree of verbs.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "navvy",
		Short: "run the same piece of work over any number of inputs, and never lose an answer",
		Long: `navvy runs a command over any number of inputs, in parallel, and keeps every
answer on disk: each once, in the order of the inputs, whatever is killed in between.`,
		Example: `  navvy map -j 8 -- ./score.sh {} < inputs.txt > answers.txt
  navvy map -S 'gunzip -c {} | wc -l' ::: *.gz
  navvy run --timeout 1h -- make world
  navvy ls
  navvy resume 7k2`,
		SilenceErrors: true, SilenceUsage: true,
		Args:              cobra.NoArgs,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetIn(a.in)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.PersistentFlags().StringVar(&a.data, "data", "", "data directory (default $NAVVY_DATA, else $XDG_STATE_HOME/navvy, else ~/.local/state/navvy)")
	root.PersistentFlags().StringVar(&a.store, "store", "", "keep the data in a database instead: postgres://HOST/DB; with a password, use $NAVVY_STORE")
	root.AddGroup(
		&cobra.Group{ID: "work", Title: "Running work:"},
		&cobra.Group{ID: "look", Title: "Looking and steering:"},
		&cobra.Group{ID: "house", Title: "The house itself:"},
	)
	for _, v := range []struct {
		group string
		verbs []*cobra.Command
	}{
		{"work", []*cobra.Command{newMap(a), newRun(a), newResume(a), newRetry(a)}},
		{"look", []*cobra.Command{newLs(a), newStatus(a), newWait(a), newResults(a), newLogs(a), newStop(a), newWhy(a), newRm(a)}},
		{"house", []*cobra.Command{newVerify(a), newBench(a), newVersion(a)}},
	} {
		for _, verb := range v.verbs {
			verb.GroupID = v.group
			root.AddCommand(verb)
		}
	}
	root.AddCommand(newHolder(a), newBenchPart(a))
	wrapUsage(root)
	return root
}

// wrapUsage makes mistakes in arguments usage errors.
func wrapUsage(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return &usageError{fmt.Errorf("%s: %w", c.CommandPath(), err)}
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		wrapUsage(sub)
	}
}

func newVersion(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "print the version", Args: cobra.NoArgs,
		Example: "  navvy version",
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(a.out, "navvy %s %s %s/%s\n", a.version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
